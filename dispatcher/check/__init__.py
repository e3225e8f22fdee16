"""The part of the sub-command `check` that a dispatcher needs: avr-ami."""
