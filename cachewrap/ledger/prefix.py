"""The prefixes of conversations, and why a provider's own cache missed them."""
