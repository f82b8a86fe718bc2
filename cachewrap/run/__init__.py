"""Programs that are run inside a cache, with all their processes."""
