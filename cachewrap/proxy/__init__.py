"""The proxy: the cache for every program that speaks HTTP (`cachewrap serve`)."""
