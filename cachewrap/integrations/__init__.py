"""Faces towards other tools, each of which is imported in its own module alone."""
