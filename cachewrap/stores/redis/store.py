"""The Redis store: entries live on a server that every process and host can share."""

from __future__ import annotations

import functools
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.loops import running_trio
from cachewrap.policy import BREAKER_SECONDS, STORE_SECONDS
from cachewrap.stores.base import (
    Claim,
    Leases,
    Pairs,
    Scans,
    Seeds,
    Store,
    Uses,
    in_thread,
)
from cachewrap.stores.redis.budget import TooLargeError
from cachewrap.stores.redis.commands import (
    OVER,
    RELEASE,
    RELEASE_FAILED,
    RENEW,
    Command,
    claim_of,
    milliseconds,
    plain,
    put,
    pxat,
    quoted,
    raised,
)
from cachewrap.stores.redis.connections import Connections
from cachewrap.stores.redis.logs import RedisLogs
from cachewrap.stores.redis.several import RedisMany, Steps, in_asyncio

T = TypeVar("T")

_BATCH = 1000
"""Keys that the server looks through for one answer to SCAN."""

_VALUES = 100
"""Values that are asked for at once, where they are small."""

_FIRST_VALUES = 8
_VALUE_BYTES = 2**23
"""Bytes of values that are asked for at once, as far as can be told from those before."""

_STEPS = {
    "get": "_getting",
    "add": "_adding",
    "set": "_setting",
    "acquire": "_acquiring",
    "release": "_releasing",
    "acquire_and_get": "_beginning",
    "add_and_release": "_ending",
}
"""What makes the steps of an operation, by its name."""

_ANY_KEY = b"?" * 64 + b"}"  # not a lease, which has more behind the brace

_IS_NAME = re.compile(rb"[^{]*\{[0-9a-f]{64}\}").fullmatch
"""Whether what fits a pattern is the name of an entry."""


class RedisStore(Store, Leases, Pairs, RedisMany, Scans, Seeds, Uses, RedisLogs):
    """Entries under ``cachewrap:<namespace>:<seed>:{<key>}`` on a Redis or compatible server.

    A lease stands beside its entry, with ``:lease`` behind. It is never listed, counted or cleared.
    Nor are logs, which stand under ``cachewrap:<namespace>:{<namespace>}:``.

    In namespace and seed, characters other than letters, digits and ``_.-~`` are percent-encoded.
    Sync callers share a client, and so do the async callers of each event loop. Expired entries are
    dropped by the server, which needs version 6.2 for it. `close` and `aclose` leave connections
    alone that another thread or task is using.

    When the server cannot be reached, one more attempt included, this process leaves it alone:
    every operation of every store with the same URL fails at once. After ``breaker_seconds`` one
    operation tries again, and ends this if it succeeds. An answer of the server, an error too,
    is no reason to leave it alone, unless it says that it is loading or that its cluster is down.
    A value of 1 MiB or more that took too long to be written keeps others of that size back alone.

    A user who may do what a store needs, with the entries of one namespace, and nothing else
    (the last two for clusters only; the names of other keys are not hidden from ``scan``)::

        ACL SETUSER <user> on ><password> ~cachewrap:<namespace>:* +get +set +del +unlink +eval
            +pexpire +hget +hset +hdel +hgetall +rpush +lrange +scan +select +ping
            +client|setinfo +command +cluster|slots

    Args:
        url: the server, as redis-py reads it: ``redis://[user:password@]host:port/db``,
            ``rediss://`` for TLS, ``unix:///path``; of a cluster one or more nodes:
            ``redis+cluster://[user:password@]host:port,host:port``; of sentinels one or more,
            with the service that they watch:
            ``redis+sentinel://[user:password@]host:port,host:port/service/db``, and in the query
            ``sentinel_username`` and ``sentinel_password`` for the sentinels themselves;
            ``rediss+cluster://`` and ``rediss+sentinel://`` for TLS. Options in its query are
            obeyed. One more attempt is made.
        seed: the partition.
        namespace: keeps the tenants of one database apart.
        store_seconds: for how many seconds an operation may go on, with all its attempts, nodes and
            redirections. A large value has a second more for each MiB, and five times as long at
            most. Connecting and each answer may take half of it.
        breaker_seconds: for how many seconds a server that cannot be reached is left alone.

    Raises:
        ConfigurationError: the URL cannot be read, or the namespace is empty.
    """

    bounded = True

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        seed: str = "41",
        *,
        namespace: str = "default",
        store_seconds: float = STORE_SECONDS,
        breaker_seconds: float = BREAKER_SECONDS,
    ) -> None:
        if not namespace:
            raise ConfigurationError("the Redis namespace is empty: give it a name")
        self._enter(Connections(url, breaker_seconds, store_seconds), namespace, seed)

    def _enter(self, connections: Connections, namespace: str, seed: str) -> None:
        self._connections = connections
        self._namespace = namespace
        self._seed = seed
        self._prefix = f"cachewrap:{quoted(namespace)}:{quoted(seed)}:{{".encode()

    def __reduce__(self) -> tuple[Callable[..., RedisStore], tuple[str, str]]:
        connections = self._connections
        remake = functools.partial(
            type(self),
            namespace=self._namespace,
            store_seconds=connections.store_seconds,
            breaker_seconds=connections.breaker_seconds,
        )
        return remake, (connections.url, self._seed)

    @property
    def url(self) -> str:
        place = self._connections.place
        options = f"namespace={quoted(self._namespace)}&cache_seed={quoted(self._seed)}"
        return f"{place}{'&' if '?' in place else '?'}{options}"

    def reseed(self, seed: str) -> RedisStore:
        other = RedisStore.__new__(type(self))
        other._enter(self._connections, self._namespace, seed)
        return other

    def get(self, key: str) -> bytes | None:
        connections, name = self._connections, self._name(key)
        with connections.asking() as client:
            (value,) = connections.server.ask(client, (("GET", name),), connections.idle)
            found: bytes | None = value if type(value) is bytes else plain(value)
            return found

    @in_asyncio
    async def aget(self, key: str) -> bytes | None:
        (value,) = await self._connections.ask((("GET", self._name(key)),))
        with self._connections.told():
            found: bytes | None = value if type(value) is bytes else plain(value)
            return found

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        return self._do(self._adding(key, value, expires, over), len(value))

    @in_asyncio
    async def aadd(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        return await self._ado(self._adding(key, value, expires, over), len(value))

    def _adding(
        self, key: str, value: bytes, expires: float = 0.0, over: bytes | None = None
    ) -> Steps[bytes]:
        if over is not None:
            (won,) = yield [self._replacing(key, value, expires, over)]
            return bytes(raised(won))
        name = self._name(key)
        answers = yield [("GET", name), put(name, value, expires, b"NX")]
        present, added = map(plain, answers)
        if present is None and not added:  # another caller's add came between the two
            (again,) = yield [("GET", name)]
            present = plain(again)
        return value if added or present is None else bytes(present)

    def _replacing(self, key: str, value: bytes, expires: float, over: bytes) -> Command:
        return ("EVAL", OVER, 1, self._name(key), value, over, pxat(expires) or 0)

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        self._do(self._setting(key, value, expires), len(value))

    @in_asyncio
    async def aset(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        await self._ado(self._setting(key, value, expires), len(value))

    def _setting(self, key: str, value: bytes, expires: float = 0.0) -> Steps[None]:
        (answer,) = yield [put(self._name(key), value, expires)]
        raised(answer)

    def delete(self, key: str) -> bool:
        return bool(self._do(self._one("DEL", self._name(key))))

    @in_asyncio
    async def adelete(self, key: str) -> bool:
        return bool(await self._ado(self._one("DEL", self._name(key))))

    def _getting(self, key: str) -> Steps[bytes | None]:
        (value,) = yield [("GET", self._name(key))]
        found: bytes | None = plain(value)
        return found

    def _steps(self, name: str) -> Callable[..., Steps[Any]]:
        steps: Callable[..., Steps[Any]] = getattr(self, _STEPS[name])
        return steps

    def _one(self, *command: bytes | str | int) -> Steps[Any]:
        (answer,) = yield [command]
        return raised(answer)

    def _do(self, steps: Steps[T], size: int = 0) -> T:
        """Take the steps of an operation: commands that are sent together, and their answers."""
        connections = self._connections
        with connections.asking(size) as client:
            ask, idle = connections.server.ask, connections.idle
            try:
                commands = next(steps)
                while True:
                    commands = steps.send(ask(client, commands, idle))
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]

    async def _ado(self, steps: Steps[T], size: int = 0) -> T:
        """`_do` for async callers."""
        ask, answers = self._connections.ask, None
        while True:
            try:
                with self._connections.told():
                    commands = next(steps) if answers is None else steps.send(answers)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            answers = await ask(commands, size)

    def keys(self) -> Iterator[str]:
        """Every key of this partition; one may come twice while the server resizes its table."""
        for names in self._scan():
            yield from (name[len(self._prefix) : -1].decode() for name in names)

    async def akeys(self) -> AsyncIterator[str]:
        if running_trio() is not None:
            for key in await in_thread(lambda: list(self.keys())):
                yield key
            return
        async for names in self._ascan():
            for name in names:
                yield name[len(self._prefix) : -1].decode()

    def seeds(self) -> list[str]:
        """The seeds with entries in this namespace. Goes through every name in the database."""
        namespace = f"cachewrap:{quoted(self._namespace)}:".encode()
        found = set()
        for names in self._scan(namespace + b"*:{" + _ANY_KEY):
            found |= {name[len(namespace) : -len(_ANY_KEY) - 2] for name in names}
        return sorted(seed for seed in map(_seed_of, found) if seed is not None)

    def last_used(self, key: str) -> float | None:
        """When the entry was last read or written; None where the server evicts by frequency."""
        try:
            with self._connections.using() as client:
                idle = client.object("IDLETIME", self._name(key))
        except StoreError as error:
            if "LFU" in str(error):
                return None
            raise
        return None if idle is None else time.time() - float(idle)

    def scan(self) -> Iterator[tuple[str, bytes]]:
        for name, value in self._read(self._scan()):
            yield name[len(self._prefix) : -1].decode(), value

    def scan_seeds(self) -> Iterator[tuple[str, str, bytes]]:
        """Seed, key and value of every entry of the namespace, going once through the database."""
        namespace = f"cachewrap:{quoted(self._namespace)}:".encode()
        for name, value in self._read(self._scan(namespace + b"*:{" + _ANY_KEY)):
            seed = _seed_of(name[len(namespace) : -len(_ANY_KEY) - 2])
            if seed is not None:
                yield seed, name[-65:-1].decode(), value

    def _read(self, listed: Iterable[list[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """Names with their values, several at a time, but not more than memory has room for."""
        most = _FIRST_VALUES
        for names in listed:
            while names:
                batch = names[:most]
                try:
                    values = self._values(batch)
                except StoreError as error:
                    if not isinstance(error.__cause__, TooLargeError):
                        raise
                    if most > 1 and len(batch) > 1:
                        most = len(batch) // 2
                        continue
                    values = [b""]  # no entry is so large
                del names[:most]
                for name, value in zip(batch, values, strict=True):
                    if value is not None:
                        yield name, bytes(value)
                size = sum(map(len, filter(None, values))) / len(batch)
                most = min(_VALUES, 2 * most, max(1, int(_VALUE_BYTES / (size + 1))))

    def _values(self, names: list[bytes]) -> list[Any]:
        with self._connections.using() as client:
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.get(name)
            return list(map(plain, pipeline.execute(raise_on_error=False)))

    def clear(self) -> int:
        count = 0
        for names in self._scan():
            with self._connections.using() as client:
                count += self._connections.server.unlink(client, names)
        return count

    @in_asyncio
    async def aclear(self) -> int:
        count = 0
        async for names in self._ascan():
            async with self._connections.running() as client:
                count += await self._connections.server.aunlink(client, names)
        return count

    def acquire(self, key: str, token: str, seconds: float) -> Claim:
        return self._do(self._acquiring(key, token, seconds))

    @in_asyncio
    async def aacquire(self, key: str, token: str, seconds: float) -> Claim:
        return await self._ado(self._acquiring(key, token, seconds))

    def _acquiring(self, key: str, token: str, seconds: float) -> Steps[Claim]:
        name, end = self._lease(key), milliseconds(seconds)
        take, look = ("SET", name, token, b"PX", end, b"NX"), ("GET", name)
        taken, present, _ = yield [take, look, ("PEXPIRE", name, end, b"LT")]
        return claim_of(token, taken, present)

    def acquire_and_get(self, key: str, token: str, seconds: float) -> tuple[Claim, bytes | None]:
        return self._do(self._beginning(key, token, seconds))

    @in_asyncio
    async def aacquire_and_get(
        self, key: str, token: str, seconds: float
    ) -> tuple[Claim, bytes | None]:
        return await self._ado(self._beginning(key, token, seconds))

    def _beginning(self, key: str, token: str, seconds: float) -> Steps[tuple[Claim, bytes | None]]:
        name, end = self._lease(key), milliseconds(seconds)
        take = ("SET", name, token, b"PX", end, b"NX")
        taken, value = yield [take, ("GET", self._name(key))]
        present: object = None
        if taken is None:
            present, _ = yield [("GET", name), ("PEXPIRE", name, end, b"LT")]
        return claim_of(token, taken, present), plain(value)

    def renew(self, key: str, token: str, seconds: float) -> bool:
        return bool(self._do(self._renewing(key, token, seconds)))

    @in_asyncio
    async def arenew(self, key: str, token: str, seconds: float) -> bool:
        return bool(await self._ado(self._renewing(key, token, seconds)))

    def _renewing(self, key: str, token: str, seconds: float) -> Steps[Any]:
        return self._one("EVAL", RENEW, 1, self._lease(key), token, milliseconds(seconds))

    def release(self, key: str, token: str, *, failed: bool = False) -> None:
        self._do(self._releasing(key, token, failed))

    @in_asyncio
    async def arelease(self, key: str, token: str, *, failed: bool = False) -> None:
        await self._ado(self._releasing(key, token, failed))

    def _releasing(self, key: str, token: str, failed: bool = False) -> Steps[None]:
        script = RELEASE_FAILED if failed else RELEASE
        yield from self._one("EVAL", script, 1, self._lease(key), token)

    def add_and_release(
        self,
        key: str,
        token: str,
        value: bytes,
        *,
        expires: float = 0.0,
        over: bytes | None = None,
    ) -> tuple[bytes, bool]:
        return self._do(self._ending(key, token, value, expires, over), len(value))

    @in_asyncio
    async def aadd_and_release(
        self,
        key: str,
        token: str,
        value: bytes,
        *,
        expires: float = 0.0,
        over: bytes | None = None,
    ) -> tuple[bytes, bool]:
        return await self._ado(self._ending(key, token, value, expires, over), len(value))

    def _ending(
        self,
        key: str,
        token: str,
        value: bytes,
        expires: float = 0.0,
        over: bytes | None = None,
    ) -> Steps[tuple[bytes, bool]]:
        name, leave = self._name(key), ("EVAL", RELEASE, 1, self._lease(key), token)
        if over is not None:
            won, left = yield [self._replacing(key, value, expires, over), leave]
            return bytes(raised(won)), not isinstance(left, Exception)
        added, left = yield [put(name, value, expires, b"NX"), leave]
        present = None
        if not raised(added):  # another caller's was there
            (answer,) = yield [("GET", name)]
            present = plain(answer)
        return value if present is None else present, not isinstance(left, Exception)

    def close(self) -> None:
        self._connections.close()

    @in_asyncio
    async def aclose(self) -> None:
        await self._connections.aclose()

    def _scan(self, pattern: bytes | None = None) -> Iterator[list[bytes]]:
        pattern = pattern or self._prefix + _ANY_KEY
        with self._connections.using() as client:
            nodes = self._connections.server.nodes(client)
        for node in nodes:
            cursor = None
            while cursor != 0:
                with self._connections.using() as client:
                    answer = client.scan(cursor or 0, pattern, _BATCH, **node)
                cursor, found = _page(answer)
                if names := list(filter(_IS_NAME, found)):
                    yield names

    async def _ascan(self) -> AsyncIterator[list[bytes]]:
        async with self._connections.running() as client:
            nodes = self._connections.server.nodes(client)
        for node in nodes:
            cursor = None
            while cursor != 0:
                async with self._connections.running() as client:
                    answer = await client.scan(cursor or 0, self._prefix + _ANY_KEY, _BATCH, **node)
                cursor, found = _page(answer)
                if names := list(filter(_IS_NAME, found)):
                    yield names

    def _name(self, key: str) -> bytes:
        return b"%b%b}" % (self._prefix, key.encode())

    def _lease(self, key: str) -> bytes:
        return self._name(key) + b":lease"


def _seed_of(name: bytes) -> str | None:
    """The seed in the name of a key; None for a name that no seed has."""
    try:
        seed = urllib.parse.unquote(name.decode(), errors="surrogatepass")
    except UnicodeError:
        return None
    return seed if quoted(seed).encode() == name else None


def _page(answer: tuple[int | dict[str, int], list[bytes]]) -> tuple[int, list[bytes]]:
    """The cursor and the names of a SCAN; a cluster's client keeps a cursor for each node."""
    cursor, names = answer
    return (next(iter(cursor.values())) if isinstance(cursor, dict) else cursor), names
