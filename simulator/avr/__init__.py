"""A simulated AVR Core, with the telephone behind it, and a double of avr-ami."""
