"""The sub-command `check`: what of the service's surroundings works, before the first call."""
