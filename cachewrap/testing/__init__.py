"""Tests for a store of one's own.

`cachewrap.testing.stores.StoreSuite` holds every store to its promises, and
`cachewrap.testing.servers.redis_server` runs a Redis-compatible server for the length of a block.
Importing this package imports neither, so neither pytest nor a server is needed for that.
"""
