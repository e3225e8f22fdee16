"""Processes: their start, supervision and end, and the command line."""
