"""A simulated Realtime API: its sessions are Sans-I/O, around them is one server."""
