"""The memory of a session: the conversation, and its restoring in another session."""
