"""Sockets: listening ports, TLS, proxies, and WebSocket connections."""
