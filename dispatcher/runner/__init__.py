"""The shell around a call: it carries out the call's actions, and gives the call what happens."""
