"""One call in the dispatcher: its Sans-I/O core, the parts of the core, and the shell around it."""
