"""The AVR side: accepts AVR Core's calls, pins each to a worker and keeps its playout clock."""
