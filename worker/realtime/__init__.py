"""The Realtime API: its connection, its events, its errors, and the dialects of other services."""
