"""Conversion of audio between 8 kHz and the format of the Realtime API, and turn detection."""
