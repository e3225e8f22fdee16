"""The part of the sub-command `check` that a worker needs: the Realtime API, the instructions and the tools."""
