"""Workers as a dispatcher sees them: the links to them, and which of them takes a call."""
