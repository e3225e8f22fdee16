"""The sessions of a call at its workers: search, opening, loss, hand-over and recovery."""
