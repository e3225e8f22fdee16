"""Redis: which worker holds which call, and what was said in it."""
