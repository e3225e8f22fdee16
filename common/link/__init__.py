"""The link between a dispatcher and a worker: its records, their encoding, and both of its ends."""
