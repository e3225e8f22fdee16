"""One session of a call, Sans-I/O: its core, and the parts of the core."""
