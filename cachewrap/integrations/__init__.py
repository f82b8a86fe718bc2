"""Adapters to the cache interfaces of other libraries, each imported only by those who use it."""
