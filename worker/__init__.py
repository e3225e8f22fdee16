"""The OpenAI side: one Realtime session per call."""
