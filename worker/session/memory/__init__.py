"""The memory of a session: the conversation, and how another session learns of it."""
