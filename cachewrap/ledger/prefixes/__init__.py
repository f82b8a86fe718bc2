"""The prefixes of a run: which prompts should begin with the same bytes, and where they differ."""
