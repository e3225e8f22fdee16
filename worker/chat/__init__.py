"""The sub-command `chat`: a person types to the agent, through the session that a telephone call has."""
