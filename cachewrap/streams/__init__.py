"""Several readers of one stream."""
