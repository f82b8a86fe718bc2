"""Functions as `llm_cached` makes them."""
