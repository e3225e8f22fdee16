"""Redis: which worker holds which call, and the memory of calls."""
