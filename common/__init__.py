"""What dispatcher and worker must agree on, and what every process of the service uses."""
