"""A simulated AVR Core with its telephone, and a double of avr-ami."""
