"""Recordings of calls: a stereo WAV file for each call, the caller left, the agent right, as heard."""
