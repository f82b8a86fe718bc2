"""The pairing of the calls of two runs."""
