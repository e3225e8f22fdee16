"""The caller's side of a session: audio and keys on their way to the model, and the caller's turns."""
