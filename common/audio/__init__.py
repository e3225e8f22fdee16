"""Audio formats that several packages use."""
