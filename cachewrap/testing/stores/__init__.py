"""The promises of a store as tests, for any store, sync and async: subclass `StoreSuite`."""

from cachewrap.testing.stores.calls import VALUES, AsyncCalls, Calls, SyncCalls, key_of
from cachewrap.testing.stores.suite import StoreSuite

__all__ = ["VALUES", "AsyncCalls", "Calls", "StoreSuite", "SyncCalls", "key_of"]
