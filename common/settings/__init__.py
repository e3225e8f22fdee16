"""The settings of the service: their values, their sources, and their problems."""
