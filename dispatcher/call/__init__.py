"""One call in the dispatcher, Sans-I/O: its core, and the parts of the core."""
