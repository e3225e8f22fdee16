"""The caller's side of a call: audio on its way to the worker, and whether the caller is connected."""
