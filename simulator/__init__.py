"""A Realtime API and an AVR Core for rehearsal, load and tests."""
