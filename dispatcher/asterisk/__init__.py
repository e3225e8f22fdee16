"""Commands to Asterisk, by way of avr-ami."""
