"""The agent's side of a session: answers that are due, replies on their way to the caller, and tool calls."""
