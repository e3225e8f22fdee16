"""A simulated Realtime API: Sans-I/O sessions, and one server around them."""
