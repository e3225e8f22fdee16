"""Processes: start, supervision, end, and the command line."""
