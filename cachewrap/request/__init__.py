"""Requests: what is asked, and its key."""
