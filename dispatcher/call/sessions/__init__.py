"""The sessions of a call at its workers: one is found, opened, lost, and another one goes on."""
