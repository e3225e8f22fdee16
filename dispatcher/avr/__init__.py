"""The protocols of AVR Core: messages over WebSocket, and the older chunked POST."""
