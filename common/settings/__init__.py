"""The settings of the service: their values, where they come from, and what is wrong with them."""
