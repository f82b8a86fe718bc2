"""Hits that are served before the SDK builds its request."""
