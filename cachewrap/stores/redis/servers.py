"""Servers that a Redis URL names: one, the master that sentinels watch, or a cluster."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import (
    SplitResult,
    parse_qsl,
    quote,
    unquote,
    urlencode,
    urlsplit,
    urlunsplit,
)

import redis
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.retry
import redis.sentinel
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ClusterDownError

from cachewrap.errors import ConfigurationError
from cachewrap.stores.redis.budget import BoundedCluster, bind, bounded
from cachewrap.stores.redis.commands import Command, Operation, exchange, pack
from cachewrap.systems import clock

_redis: Any = redis  # typed differently in every version, and in parts not at all

CONNECTIONS = 100
"""Connections of one event loop, unless the URL says something else with ``max_connections``."""

UNLIMITED = 2**31
"""Connections are limited by whoever waits for them, as an error would help nobody."""

_COMMAND = ("GET",) if tuple(map(int, redis.__version__.split(".")[:2])) < (5, 3) else ()
"""What a pool is told when it is asked for a connection: since redis-py 5.3 nothing."""

_DRIVER: Final[dict[str, Any]] = (
    {"driver_info": _redis.DriverInfo()} if hasattr(redis, "DriverInfo") else {}
)
"""What redis-py tells a server of itself, which it else reads from files for each connection."""

_FRESH: Final = 0.1
"""Seconds after its last answer for which a connection is not asked whether it is still there."""

_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")


def server_of(url: str, seconds: float) -> Server:
    """What the URL names; nothing is asked of it yet.

    Args:
        url: the server.
        seconds: how long an operation may take: half of it for one attempt, of which connecting
            and its answer may each take so long, unless the URL says something else.

    Raises:
        ConfigurationError: the URL cannot be read.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"the Redis URL is text, got {url!r}")
    scheme = url.partition(":")[0].lower()
    try:
        if scheme in ("redis+cluster", "rediss+cluster"):
            return Cluster(url, seconds)
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return Sentinels(url, seconds)
        if scheme == "unix" and not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError("this system has no Unix sockets: use redis://host:port/db")
        return Single(url, seconds)
    except ConfigurationError:
        raise
    except (ValueError, TypeError, redis.RedisError) as error:
        # The parser's messages may quote a part of the password, so they are not handed on.
        reason = f" ({error})" if isinstance(error, TypeError) else ""
        raise ConfigurationError(
            f"the Redis URL cannot be read{reason}. Use redis://[user:password@]host:port/db,"
            " rediss://… for TLS, unix:///path/to/socket,"
            " redis+cluster://host:port,host:port, or"
            " redis+sentinel://host:port,host:port/service/db, with the query parameters of"
            " redis-py; percent-encode special characters in the password."
        ) from None


class Server(ABC):
    """A maker of the clients of one place, which knows how its commands are spread over nodes.

    Attributes:
        place: the URL without credentials and options.
        limit: how many connections an event loop may have.
        seconds: how long an operation may take.
        asks_at_once: making a client asks the server.
        batches: operations of several tasks may be sent together.
        is_spread: the keys are on several nodes.
    """

    place: str
    limit: int
    seconds: float
    asks_at_once = False
    batches = False
    is_spread = False

    def _note(self, options: dict[str, Any], seconds: float) -> None:
        self.limit = options.get("max_connections", CONNECTIONS)
        waits = [options.get(name) or 0.0 for name in ("socket_timeout", "socket_connect_timeout")]
        self.seconds = max(seconds, sum(map(float, waits)))

    @abstractmethod
    def make(self, library: Any) -> Any:
        """A client of ``redis`` or ``redis.asyncio``, whose connections are `bounded`."""

    def client(self) -> Any:
        """A client for sync callers, of all threads."""
        return self.make(redis)

    async def aclient(self) -> Any:
        """A client for the running event loop."""
        return self.make(redis.asyncio)

    def pools(self, client: Any) -> list[Any]:
        """The pools of a client's connections."""
        return [client.connection_pool]

    def release(self, client: Any) -> None:
        """Close the idle connections of a client; those in use are other threads'."""
        for pool in self.pools(client):
            pool.disconnect(inuse_connections=False)

    async def arelease(self, client: Any) -> None:
        """Close the idle connections of an event loop's client."""
        for pool in self.pools(client):
            await pool.disconnect(inuse_connections=False)

    async def shut(self, client: Any) -> None:
        """Close every connection of an event loop's client: its loop ends."""
        for pool in self.pools(client):
            await pool.disconnect()

    def ask(self, client: Any, commands: Sequence[Command], idle: list[Any]) -> list[Any]:
        """The answers to commands on keys of one slot, which are sent together.

        An error that the server answers is one of them.

        Args:
            client: the client of sync callers.
            commands: the commands.
            idle: connections that are kept aside for this, where the server allows it, each with
                the time of its last answer.
        """
        if len(commands) > 1:
            return _checked(_piped(client, commands).execute(raise_on_error=False))
        try:
            return [client.execute_command(*commands[0])]
        except redis.ResponseError as error:
            return _checked([error])

    async def aask(self, client: Any, commands: Sequence[Command]) -> list[Any]:
        """`ask` with an event loop's client."""
        if len(commands) > 1:
            return _checked(await _piped(client, commands).execute(raise_on_error=False))
        try:
            return [await client.execute_command(*commands[0])]
        except redis.ResponseError as error:
            return _checked([error])

    async def exchange(self, client: Any, batch: deque[Operation], idle: list[Any]) -> None:
        """`ask` for several operations of an event loop, where `batches` says that it can."""
        raise NotImplementedError

    def nodes(self, client: Any) -> list[dict[str, Any]]:
        """What a SCAN needs to be told so that one after the other reaches every key."""
        return [{}]

    def unlink(self, client: Any, names: list[bytes]) -> int:
        """Remove the keys; how many were there."""
        return int(client.unlink(*names))

    async def aunlink(self, client: Any, names: list[bytes]) -> int:
        """`unlink` with an event loop's client."""
        return int(await client.unlink(*names))


class Single(Server):
    """One server."""

    def __init__(self, url: str, seconds: float) -> None:
        options = _options(url, seconds)
        scheme, db = url.partition(":")[0], options.get("db", 0)
        if "path" in options:
            self.place = f"{scheme}://{quote(options['path'])}?db={db}"
        else:
            host = options.get("host", "localhost"), options.get("port", 6379)
            self.place = f"{scheme}://{_joined([host])}/{db}"
        self._note(options, seconds)
        self.batches = str(options["protocol"]) == "2"
        self._url = url
        self._defaults = {**_defaults(url, seconds), "max_connections": UNLIMITED}

    def make(self, library: Any) -> Any:
        pool = library.ConnectionPool.from_url(self._url, **_retried(library), **self._defaults)
        pool.connection_kwargs["decode_responses"] = False
        bind(pool)
        return library.Redis(connection_pool=pool)

    def ask(self, client: Any, commands: Sequence[Command], idle: list[Any]) -> list[Any]:
        """What the client's own commands do, retries and health checks included, at half the cost.

        A connection that was used before is not given back to its pool, which counts and locks, and
        there are no options of a command to look for.
        """
        connection = None
        try:
            try:
                connection, used = idle.pop()
            except IndexError:
                connection = client.connection_pool.get_connection(*_COMMAND)
            else:
                if clock.now() - used > _FRESH:
                    _revive(connection)
            packed = [pack(commands)]

            def attempt() -> list[Any]:
                answers: list[Any] = []
                connection.send_packed_command(packed)
                for _ in commands:
                    try:
                        answers.append(connection.read_response())
                    except redis.ResponseError as error:
                        answers.append(error)
                return answers

            answers: list[Any] = connection.retry.call_with_retry(
                attempt, lambda error: connection.disconnect()
            )
            return answers
        except BaseException:  # an interrupt may come between two answers
            if connection is not None:
                connection.disconnect()
            raise
        finally:
            if connection is not None:
                idle.append((connection, clock.now()))

    async def exchange(self, client: Any, batch: deque[Operation], idle: list[Any]) -> None:
        connection = idle.pop() if idle else None
        if connection is None:
            connection = await client.connection_pool.get_connection(*_COMMAND)
        try:
            await exchange(connection, batch)
        finally:
            idle.append(connection)


class Sentinels(Server):
    """The master of a service, as its sentinels name it at the time."""

    def __init__(self, url: str, seconds: float) -> None:
        scheme, self._hosts, parts = _divided(url, 26379)
        service, _, db = parts.path.lstrip("/").partition("/")
        if not service:
            raise ConfigurationError(
                "a redis+sentinel: URL names the service that the sentinels watch:"
                " redis+sentinel://host:port,host:port/service/0"
            )
        query = parse_qsl(parts.query, keep_blank_values=True)
        login = {name.partition("_")[2]: text for name, text in query if name in _SENTINEL_LOGIN}
        rest = urlencode([one for one in query if one[0] not in _SENTINEL_LOGIN])
        options = _options(urlunsplit(parts._replace(path=f"/{db}", query=rest)), seconds)
        self._service = unquote(service)
        self._note(options, seconds)
        self._options = _node_options(options)
        self.place = f"{scheme}+sentinel://{_joined(self._hosts)}/{service}/{options.get('db', 0)}"
        patience = (options["socket_connect_timeout"] or seconds / 2) / len(self._hosts)
        self._sentinel_options = {
            **_without(self._options, "db", "username", "password"),
            **login,
            "socket_timeout": patience,  # all sentinels together may take as long as one server
            "socket_connect_timeout": patience,
        }

    def make(self, library: Any) -> Any:
        options = {**self._sentinel_options, "retry": library.retry.Retry(NoBackoff(), 0)}
        sentinel = library.sentinel.Sentinel(self._hosts, sentinel_kwargs=options)
        client = sentinel.master_for(
            self._service, **_retried(library), max_connections=UNLIMITED, **self._options
        )
        for pool in self.pools(client):
            bind(pool)
        return client

    def pools(self, client: Any) -> list[Any]:
        sentinels = client.connection_pool.sentinel_manager.sentinels
        return [client.connection_pool, *(one.connection_pool for one in sentinels)]


class Cluster(Server):
    """A cluster, of which the URL names one or more nodes."""

    asks_at_once = True
    is_spread = True

    def __init__(self, url: str, seconds: float) -> None:
        scheme, self._hosts, parts = _divided(url, 6379)
        options = _options(urlunsplit(parts), seconds)
        if options.pop("db", 0):
            raise ConfigurationError("a Redis cluster has one database, 0: name no other")
        self._note(options, seconds)
        self._options = _node_options(options)
        self.place = f"{scheme}+cluster://{_joined(self._hosts)}"

    def client(self) -> Any:
        # All that the URL names may together take as long as one: none has a budget before it is
        # known which nodes there are.
        patience = self._options.get("socket_connect_timeout")
        soon = {"socket_connect_timeout": patience and patience / len(self._hosts)}
        client = self.make(redis, BoundedCluster, **soon)
        manager = client.nodes_manager
        manager.connection_kwargs["socket_connect_timeout"] = patience
        make = manager.create_redis_node

        def create_redis_node(*args: Any, **options: Any) -> Any:
            made = make(*args, **options)
            bind(made.connection_pool)
            return made

        manager.create_redis_node = create_redis_node
        for pool in self.pools(client):
            bind(pool)
            pool.connection_kwargs["socket_connect_timeout"] = patience
        return client

    def make(self, library: Any, kind: Any = None, **options: Any) -> Any:
        node = library.cluster.ClusterNode
        return (kind or library.RedisCluster)(
            startup_nodes=[node(host, port) for host, port in self._hosts],
            max_connections=UNLIMITED,
            **_cluster_retry(library),
            **{**self._options, **options},
        )

    async def aclient(self) -> Any:
        client = await super().aclient()
        manager = client.nodes_manager
        options = manager.connection_kwargs
        kind = options["connection_class"] = bounded(options["connection_class"])
        for node in manager.startup_nodes.values():
            node.connection_class = kind
        try:
            return await client.initialize()
        except BaseException:
            await client.aclose()
            raise

    def pools(self, client: Any) -> list[Any]:
        connected = [node.redis_connection for node in client.get_nodes()]
        return [one.connection_pool for one in connected if one is not None]

    async def arelease(self, client: Any) -> None:
        for node in client.get_nodes():
            close = getattr(node, "disconnect_free_connections", node.disconnect)
            await close()

    async def shut(self, client: Any) -> None:
        await client.aclose()

    def nodes(self, client: Any) -> list[dict[str, Any]]:
        return [{"target_nodes": node} for node in client.get_primaries()]

    def unlink(self, client: Any, names: list[bytes]) -> int:
        return sum(_unlinking(client, names).execute())

    async def aunlink(self, client: Any, names: list[bytes]) -> int:
        return sum(await _unlinking(client, names).execute())


def _piped(client: Any, commands: Sequence[Command]) -> Any:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline


def _checked(answers: list[Any]) -> list[Any]:
    """The answers, unless one of them says that there is no server."""
    for answer in answers:
        if isinstance(answer, (redis.ConnectionError, ClusterDownError)):
            raise answer
    return answers


def _unlinking(client: Any, names: list[bytes]) -> Any:
    """One command for each key, in one pipeline: a command takes keys of one slot only."""
    pipeline = client.pipeline()
    for name in names:
        pipeline.execute_command("UNLINK", name)
    return pipeline


def _revive(connection: Any) -> None:
    """Connect again if the server has hung up, as a pool does before it hands one out."""
    try:
        if not connection.can_read():
            return
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        pass
    connection.disconnect()
    connection.connect()


def _defaults(url: str, seconds: float) -> dict[str, Any]:
    # Protocol 3 has nothing that a store needs. With it redis-py 8 asks for maintenance
    # notices, and where the server has none, its error holds on to whoever connected.
    defaults: dict[str, Any] = {"socket_timeout": seconds / 2, "protocol": 2}
    if not url.startswith("unix:"):  # which redis-py 5 gives no time-out for connecting
        defaults["socket_connect_timeout"] = seconds / 2
    return {**defaults, **_DRIVER}


def _options(url: str, seconds: float) -> dict[str, Any]:
    """The options of a URL of one server, with ours where it has none."""
    options = {
        **_defaults(url, seconds),
        **_redis.connection.parse_url(url),
        "decode_responses": False,
    }  # values are bytes
    kind = options.get("connection_class", redis.Connection)
    kind(**_without(options, "connection_class", "max_connections"))  # refuses what is unknown
    return options


def _node_options(options: dict[str, Any]) -> dict[str, Any]:
    """What connects to each of several servers."""
    tls = options.get("connection_class") is redis.SSLConnection
    shared = _without(options, "host", "port", "connection_class", "max_connections")
    return {**shared, "ssl": tls} if tls else shared


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


def _divided(url: str, port: int) -> tuple[str, list[tuple[str, int]], SplitResult]:
    """The scheme of a URL that names several hosts, the hosts, and the URL with the first alone.

    Raises:
        ValueError: a host cannot be read.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0]
    login, at, hosts = parts.netloc.rpartition("@")
    found = [urlsplit(f"//{host}") for host in hosts.split(",")]
    named = [(one.hostname or "localhost", one.port or port) for one in found]
    first = f"{login}{at}{_joined(named[:1])}"
    return scheme, named, parts._replace(scheme=scheme, netloc=first)


def _joined(hosts: list[tuple[str, int]]) -> str:
    return ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in hosts)


def _retry(library: Any) -> Any:
    """One more attempt, after 50 milliseconds."""
    return library.retry.Retry(ExponentialBackoff(cap=0.1, base=0.05), 1)


def _retried(library: Any) -> dict[str, Any]:
    """The same; redis-py 5 sends a command again only after the errors that it is told."""
    errors = [redis.ConnectionError, redis.TimeoutError]
    return {"retry": _retry(library), "retry_on_error": errors}


def _cluster_retry(library: Any) -> dict[str, Any]:
    """The same for a cluster, as each version of redis-py wants to be told."""
    if int(redis.__version__.partition(".")[0]) >= 6:
        return {"retry": _retry(library)}
    return {"cluster_error_retry_attempts": 1}
