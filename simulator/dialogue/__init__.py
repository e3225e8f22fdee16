"""Dialogues of real words, which a simulated model and a simulated caller play: docs/simulator.md."""
