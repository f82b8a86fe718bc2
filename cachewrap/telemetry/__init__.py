"""News of calls: events, faults, usage and its price."""
