"""Audio formats that both sides use."""
