"""What is told: events, faults, usage and its price."""
