"""Commands to Asterisk, which avr-ami carries out."""
