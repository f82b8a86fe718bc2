"""What `llm_cached` makes of a function."""
