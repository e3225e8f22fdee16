"""Call records: what a call leaves behind when it has ended."""
