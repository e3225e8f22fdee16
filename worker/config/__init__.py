"""The settings of one call, and the session that they ask for."""
