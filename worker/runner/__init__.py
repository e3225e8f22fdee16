"""The shell around a session: it carries out the session's actions, and gives it what happens."""
