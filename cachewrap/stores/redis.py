"""The Redis store: entries live on a server that every process and host can share."""

from __future__ import annotations

import asyncio
import functools
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores._breaker import Breaker
from cachewrap.stores.base import Claim, Store

_BATCH = 1000
"""Keys that the server looks through for one answer to SCAN."""

_ANY_KEY = b"?" * 64 + b"}"  # not a lease, which has more behind the brace

_OVER = """
local present = redis.call('GET', KEYS[1])
if present and present ~= ARGV[2] then return present end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[3]) end
return ARGV[1]
"""


_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], '', 'PX', ARGV[2])
return 1
"""

_FAILED_FOR = 2000
"""Milliseconds for which a failed call is told to those who waited for it: as an empty lease."""


_PROBE_SECONDS = 3.0
"""What connecting and reading may take with one more attempt, and a little more."""

# One for each server in this process: a breaker serves those who come after the one that opened it.
_breakers: dict[tuple[str, float], Breaker] = {}


class Connections:
    """The clients of one server: one for sync callers, and one for each running event loop.

    Args:
        url: as redis-py reads it, with its query parameters. What the URL does not say is set here:
            connecting and reading may take 1 second each, a lost connection is tried once more
            after 50 milliseconds, and an event loop has 100 connections at most, for which its
            other callers wait.

    Raises:
        ConfigurationError: redis-py cannot read the URL.
    """

    def __init__(self, url: str, breaker_seconds: float) -> None:
        self.url = url
        pool = self._pool(redis.ConnectionPool, Retry, max_connections=2**31)
        self.sync: Any = redis.Redis(connection_pool=pool)  # typed differently in every version
        self.place = _place(url, pool.connection_kwargs)
        self.breaker = _breakers.setdefault(
            (url, breaker_seconds), Breaker(self.place, breaker_seconds, _PROBE_SECONDS)
        )
        self._loops: dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[None, None]]] = {}

    def _pool(self, pool_class: Any, retry_class: Any, max_connections: int) -> Any:
        defaults: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
        # Protocol 3 has nothing that a store needs. With it redis-py 8 asks for maintenance
        # notices, and where there are none, the error that it keeps holds on to the caller.
        defaults["protocol"] = 2
        if self.url.startswith("unix:"):  # which redis-py 5 gives no time-out for connecting
            del defaults["socket_connect_timeout"]
        retry = retry_class(ExponentialBackoff(cap=0.1, base=0.05), 1)
        try:
            pool = pool_class.from_url(
                self.url, retry=retry, max_connections=max_connections, **defaults
            )
            pool.connection_kwargs["decode_responses"] = False  # values are bytes, whatever the URL
            pool.connection_class(**pool.connection_kwargs)  # refuses an unknown option; no I/O
        except (ValueError, TypeError, redis.RedisError) as error:
            # The parser's messages may quote a part of the password, so they are not handed on.
            reason = f" ({error})" if isinstance(error, TypeError) else ""
            raise ConfigurationError(
                f"the Redis URL cannot be read{reason}. Use redis://[user:password@]host:port/db,"
                " rediss://… for TLS or unix:///path/to/socket, with the query parameters of"
                " redis-py; percent-encode special characters in the password."
            ) from None
        return pool

    async def running(self) -> Any:
        """The client of the running event loop, made at the loop's first call."""
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None:
            pool = self._pool(redis.asyncio.BlockingConnectionPool, AsyncRetry, max_connections=100)
            known = redis.asyncio.Redis(connection_pool=pool), _until_shutdown(pool)
            for other in list(self._loops):  # other threads' loops come and go meanwhile
                if other.is_closed():
                    self._loops.pop(other, None)
            self._loops[loop] = known
            await anext(known[1])
        return known[0]

    def close(self) -> None:
        """Close the idle connections of sync callers; one in use is another thread's."""
        self.sync.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        known = self._loops.get(asyncio.get_running_loop())
        if known is not None:
            await known[0].connection_pool.disconnect(inuse_connections=False)


async def _until_shutdown(pool: Any) -> AsyncGenerator[None, None]:
    """Close a loop's connections at the last moment at which that can be done properly.

    A loop closes the asynchronous generators that were started in it when it shuts down, and when
    they are dropped. It must not refer to its owner: collected as a cycle, it would come too late.
    """
    try:
        yield
    finally:
        await pool.disconnect()


def _place(url: str, options: dict[str, Any]) -> str:
    """The server and database of a URL, without credentials and other options."""
    scheme, db = url.partition(":")[0], options.get("db", 0)
    if "path" in options:
        return f"{scheme}://{urllib.parse.quote(options['path'])}?db={db}"
    host = options.get("host", "localhost")
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{options.get('port', 6379)}/{db}"


def _quoted(name: str) -> str:
    """The name with nothing in it that divides a key or means something in a pattern."""
    return urllib.parse.quote(name, safe="", errors="surrogatepass")


class RedisStore(Store):
    """Entries under ``cachewrap:<namespace>:<seed>:{<key>}`` on a Redis or compatible server.

    A lease has the name of its entry with ``:lease`` behind it, and so shares its slot.
    In namespace and seed, characters other than letters, digits and ``_.-~`` are percent-encoded.
    Sync callers share a client, and so do the async callers of each event loop. Expired entries are
    dropped by the server, which needs version 6.2 for it. `close` and `aclose` leave connections
    alone that another thread or task is using.

    Args:
        url: the server, as redis-py reads it: ``redis://[user:password@]host:port/db``,
            ``rediss://`` for TLS, ``unix:///path``. Options in its query are obeyed; without them
            connecting and each answer may take 1 second, and one more attempt is made.
        seed: the partition.
        namespace: keeps the tenants of one database apart.
        breaker_seconds: how long a server that did not answer is left alone: until then every
            operation fails at once, and then one of them tries again.

    Raises:
        ConfigurationError: redis-py cannot read the URL, or the namespace is empty.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        seed: str = "41",
        *,
        namespace: str = "default",
        breaker_seconds: float = 30.0,
    ) -> None:
        if not namespace:
            raise ConfigurationError("the Redis namespace is empty: give it a name")
        self._enter(Connections(url, breaker_seconds), namespace, seed)
        self._breaker_seconds = breaker_seconds

    def _enter(self, connections: Connections, namespace: str, seed: str) -> None:
        self._connections = connections
        self._namespace = namespace
        self._seed = seed
        self._prefix = f"cachewrap:{_quoted(namespace)}:{_quoted(seed)}:{{".encode()

    def __reduce__(self) -> tuple[Callable[..., RedisStore], tuple[str, str]]:
        remake = functools.partial(
            type(self), namespace=self._namespace, breaker_seconds=self._breaker_seconds
        )
        return remake, (self._connections.url, self._seed)

    @property
    def url(self) -> str:
        place = self._connections.place
        options = f"namespace={_quoted(self._namespace)}&cache_seed={_quoted(self._seed)}"
        return f"{place}{'&' if '?' in place else '?'}{options}"

    def reseed(self, seed: str) -> RedisStore:
        other = RedisStore.__new__(type(self))
        other._enter(self._connections, self._namespace, seed)
        other._breaker_seconds = self._breaker_seconds
        return other

    # The two reads do without `_errors`, whose making costs a tenth of theirs.

    def get(self, key: str) -> bytes | None:
        breaker = self._connections.breaker
        breaker.enter()
        try:
            value: bytes | None = self._connections.sync.get(self._name(key))
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error
        breaker.answered()
        return value

    async def aget(self, key: str) -> bytes | None:
        breaker = self._connections.breaker
        breaker.enter()
        try:
            client = await self._connections.running()
            value: bytes | None = await client.get(self._name(key))
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error
        breaker.answered()
        return value

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        name, client = self._name(key), self._connections.sync
        with self._errors():
            if over is not None:
                script = client.register_script(_OVER)
                return bytes(script([name], [value, over, _pxat(expires) or 0]))
            pipeline = client.pipeline(transaction=False).get(name)
            present, added = pipeline.set(name, value, nx=True, pxat=_pxat(expires)).execute()
            if present is None and not added:  # another caller's add came between the two
                present = client.get(name)
        return value if added or present is None else bytes(present)

    async def aadd(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        name = self._name(key)
        with self._errors():
            client = await self._connections.running()
            if over is not None:
                script = client.register_script(_OVER)
                return bytes(await script([name], [value, over, _pxat(expires) or 0]))
            pipeline = client.pipeline(transaction=False).get(name)
            present, added = await pipeline.set(name, value, nx=True, pxat=_pxat(expires)).execute()
            if present is None and not added:
                present = await client.get(name)
        return value if added or present is None else bytes(present)

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        with self._errors():
            self._connections.sync.set(self._name(key), value, pxat=_pxat(expires))

    async def aset(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        with self._errors():
            client = await self._connections.running()
            await client.set(self._name(key), value, pxat=_pxat(expires))

    def delete(self, key: str) -> bool:
        with self._errors():
            return bool(self._connections.sync.delete(self._name(key)))

    async def adelete(self, key: str) -> bool:
        with self._errors():
            client = await self._connections.running()
            return bool(await client.delete(self._name(key)))

    def keys(self) -> Iterator[str]:
        """Every key of this partition; one may come twice while the server resizes its table."""
        for names in self._scan():
            yield from (name[len(self._prefix) : -1].decode() for name in names)

    async def akeys(self) -> AsyncIterator[str]:
        async for names in self._ascan():
            for name in names:
                yield name[len(self._prefix) : -1].decode()

    def clear(self) -> int:
        count = 0
        for names in self._scan():
            with self._errors():
                count += self._connections.sync.unlink(*names)
        return count

    async def aclear(self) -> int:
        count = 0
        async for names in self._ascan():
            with self._errors():
                count += await (await self._connections.running()).unlink(*names)
        return count

    def acquire(self, key: str, token: str, seconds: float) -> Claim:
        with self._errors():
            pipeline = self._connections.sync.pipeline(transaction=False)
            return _claim(*_ask_for_lease(pipeline, self._lease(key), token, seconds).execute())

    async def aacquire(self, key: str, token: str, seconds: float) -> Claim:
        with self._errors():
            pipeline = (await self._connections.running()).pipeline(transaction=False)
            asked = _ask_for_lease(pipeline, self._lease(key), token, seconds)
            return _claim(*await asked.execute())

    def renew(self, key: str, token: str, seconds: float) -> bool:
        with self._errors():
            script = self._connections.sync.register_script(_RENEW)
            return bool(script([self._lease(key)], [token, int(seconds * 1000)]))

    async def arenew(self, key: str, token: str, seconds: float) -> bool:
        with self._errors():
            script = (await self._connections.running()).register_script(_RENEW)
            return bool(await script([self._lease(key)], [token, int(seconds * 1000)]))

    def release(self, key: str, token: str, *, failed: bool = False) -> None:
        with self._errors():
            script = self._connections.sync.register_script(_RELEASE)
            script([self._lease(key)], [token, _FAILED_FOR if failed else 0])

    async def arelease(self, key: str, token: str, *, failed: bool = False) -> None:
        with self._errors():
            script = (await self._connections.running()).register_script(_RELEASE)
            await script([self._lease(key)], [token, _FAILED_FOR if failed else 0])

    def close(self) -> None:
        with suppress(redis.RedisError, OSError):  # what cannot be closed is closed already
            self._connections.close()

    async def aclose(self) -> None:
        with suppress(redis.RedisError, OSError):
            await self._connections.aclose()

    def _scan(self) -> Iterator[list[bytes]]:
        cursor: Any = None
        while cursor != 0:
            with self._errors():
                client = self._connections.sync
                cursor, names = client.scan(cursor or 0, self._prefix + _ANY_KEY, _BATCH)
            if names:
                yield names

    async def _ascan(self) -> AsyncIterator[list[bytes]]:
        cursor: Any = None
        while cursor != 0:
            with self._errors():
                client = await self._connections.running()
                cursor, names = await client.scan(cursor or 0, self._prefix + _ANY_KEY, _BATCH)
            if names:
                yield names

    def _lease(self, key: str) -> bytes:
        return self._name(key) + b":lease"

    def _name(self, key: str) -> bytes:
        return b"%b%b}" % (self._prefix, key.encode())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        breaker = self._connections.breaker
        breaker.enter()
        try:
            yield
            breaker.answered()
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        breaker = self._connections.breaker
        if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
            breaker.unanswered()
        else:
            breaker.answered()
        return StoreError(
            f"Redis at {self._connections.place} did not do its work:"
            f" {type(error).__name__}: {error}"
        )


def _ask_for_lease(pipeline: Any, name: bytes, token: str, seconds: float) -> Any:
    return pipeline.set(name, token, nx=True, px=int(seconds * 1000)).get(name)


def _claim(taken: Any, present: Any) -> Claim:
    if taken:
        return Claim.TAKEN
    return Claim.FAILED if present == b"" else Claim.HELD


def _pxat(expires: float) -> int | None:
    """The time in whole milliseconds; None is never."""
    return max(1, int(expires * 1000)) if expires else None
