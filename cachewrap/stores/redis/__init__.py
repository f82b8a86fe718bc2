"""The Redis store: entries live on a server that every process and host can share."""

from cachewrap.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
