"""The service: the proxy on one event loop, from its first connection to a graceful end."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.proxy.clients import Connection
from cachewrap.proxy.gateway import Gateway
from cachewrap.proxy.journal import Journal, take_over
from cachewrap.proxy.messages import PORTS, Request, Response
from cachewrap.proxy.metrics import Metrics, health
from cachewrap.proxy.origins import Origins
from cachewrap.proxy.providers import Upstreams
from cachewrap.proxy.settings import Served, Settings
from cachewrap.proxy.siblings import Siblings
from cachewrap.telemetry.usage import Usage, cost_of
from cachewrap.urls import parse_url

log: Final = logging.getLogger("cachewrap.proxy")

_WAITING: Final = 1024
"""Connections that the system keeps until they are accepted."""

_FEW: Final = 4
"""Connections that one of several workers accepts before the others get their turn."""

_UPDATE_SECONDS: Final = 5.0
"""Seconds between two looks at what the cache has counted, for the sums of several workers."""

_CUT_SECONDS: Final = 1.0
"""Seconds for connections that were cut to be gone."""

_LEFT_SECONDS: Final = 2.0
"""Seconds for what is under way when a block is left."""


def bound(settings: Settings) -> list[socket.socket]:
    """Sockets on which nobody listens yet, one for each address of the host, on one port.

    Raises `ConfigurationError` where others could reach it who need no token, or where an upstream
    is the proxy itself; `OSError` for an address that cannot be had.
    """
    if not settings.host:  # by which systems mean all that there are
        raise ConfigurationError('"" is no address to listen on: 127.0.0.1 is this machine alone')
    addresses = _addresses(settings.host, settings.port)
    if not settings.token and not all(_is_loopback(address[0]) for _, address in addresses):
        raise ConfigurationError(
            f"{settings.host} can be reached from other machines, and whoever asks is given what is"
            " stored: give a token that clients must know (CACHEWRAP_TOKEN, --token-file or"
            " --token), or leave --host out"
        )
    found: list[socket.socket] = []
    try:
        for family, address in addresses:
            if settings.port == 0 and found:  # all of them have the port that the first one got
                address = (address[0], found[0].getsockname()[1], *address[2:])
            try:
                found.append(_bound(family, address))
            except OSError as error:  # a system may know of a protocol that it does not have
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or (
                    not found and address is addresses[-1][1]
                ):
                    raise
        _check_upstreams(settings, found)
    except BaseException:
        for one in found:
            one.close()
        raise
    return found


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(family: int, address: Any) -> socket.socket:
    # The protocol is named: the loop sends at once on what it accepts from sockets of TCP alone.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setblocking(False)
        one.bind(address)
    except BaseException:
        one.close()
        raise
    return one


def _is_loopback(host: str) -> bool:
    return ip_address(host).is_loopback


def _check_upstreams(settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Raise `ConfigurationError` where an upstream is the proxy itself: it would ask for ever."""
    own = [one.getsockname()[:2] for one in sockets]
    for text in settings.upstreams:
        name, _, url = text.partition("=")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
            if port != own[0][1]:
                continue
            theirs = {address[0] for _, address in _addresses(host, port)}
        except (ValueError, OSError):  # what is wrong with it is told elsewhere
            continue
        for address, _ in own:
            if address in theirs or (
                ip_address(address).is_unspecified and any(map(_is_loopback, theirs))
            ):
                raise ConfigurationError(f"the upstream {name} is this proxy itself: {url}")


def address_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """The address of a proxy, as the base of a URL."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sockets[0].getsockname()[1]}"


def opened(url: str) -> Cache:
    """The cache of a URL, whose streams are asked for once in all processes that share its store.

    Raises `ConfigurationError`.
    """
    if "stream_leases" not in parse_url(url)[2]:
        url += f"{'&' if '?' in url else '?'}stream_leases=true"
    return Cache.from_url(url)


class _Connections(set[Connection]):
    """The connections of clients, of which one can wait for the last to go."""

    def __init__(self) -> None:
        super().__init__()
        self._ending = False
        self._none = asyncio.Event()

    def add(self, one: Connection) -> None:
        super().add(one)
        self._none.clear()
        if self._ending:  # it was accepted before
            asyncio.get_running_loop().call_soon(one.wind_down)

    def discard(self, one: object) -> None:
        super().discard(one)
        if not self:
            self._none.set()

    def end(self) -> None:
        """Close those on which nothing is under way, and the others when they are done."""
        self._ending = True
        for one in list(self):
            one.wind_down()

    async def close(self, seconds: float) -> None:
        """Wait for the last one to go, for so many seconds, and cut those that are left."""
        self.end()
        await self._gone(seconds)
        for one in list(self):
            one.cut()
        await self._gone(_CUT_SECONDS)

    async def _gone(self, seconds: float) -> None:
        if self:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none.wait(), seconds)


class Service:
    """The proxy on the event loop that it is entered on.

    >>> async def look() -> None:
    ...     async with Service(Settings(url="memory:", port=0)) as service:
    ...         print(service.address)

    Args:
        settings: what it is told.
        sockets: those that it listens on; by default it binds its own.
        cache: serves the requests; by default the one that the settings name.
        journal: takes the lines about requests; by default one of its own.
        siblings: the workers, where it is one of several.

    Attributes:
        address: where it listens, once it does, as the base of a URL: ``http://127.0.0.1:8141``.
        ending: whether it takes no more requests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sockets: Sequence[socket.socket] = (),
        cache: Cache | None = None,
        journal: Journal | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.address = ""
        self.ending = False
        self._settings = settings
        self._sockets = list(sockets)
        self._is_shared = settings.workers > 1
        self._siblings = siblings
        self._cache = opened(settings.url) if cache is None else cache
        self._journal = Journal(settings.log) if journal is None else journal
        self._metrics = Metrics(self._cache, siblings.folder if siblings else "")
        self._servers: list[asyncio.Server] = []
        self._connections = _Connections()
        self._senders = Origins(settings.limits)
        pages = {"/healthz": lambda: health(self.ending), "/metrics": self._page}
        upstreams, senders = Upstreams(settings.upstreams), self._senders
        self._gateway = Gateway(
            settings, upstreams, senders, self._cache, self._observe, pages, siblings
        )
        self._updating: asyncio.Task[None] | None = None

    @property
    def cache(self) -> Cache:
        """The cache that serves the requests."""
        return self._cache

    async def start(self) -> None:
        """Accept connections.

        Raises `OSError` for an address that cannot be had, and `ConfigurationError`. A store that
        does not work is in nobody's way.
        """
        if not self._sockets:
            self._sockets = bound(self._settings)
        self.address = address_of(self._settings.host, self._sockets)
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            # The event loop accepts as many at a time as it is told may wait: what one of several
            # workers takes is not to be all that there is.
            most = _FEW if self._is_shared else _WAITING
            server = await loop.create_server(self._connect, sock=one, backlog=most)
            self._servers.append(server)
            if self._is_shared:
                one.listen(_WAITING)
        if self._is_shared:
            self._updating = loop.create_task(self._update())
        if self._siblings is not None:
            handler = self._gateway.from_sibling
            heard = await self._siblings.listen(handler, self._connections, self._failed)
            self._servers += heard

    def end(self) -> None:
        """Take no more connections, and close those on which nothing is under way."""
        if not self.ending:
            self.ending = True
            for server in self._servers:
                server.close()
            self._connections.end()

    async def close(self, seconds: float | None = None) -> None:
        """End: what is under way has some seconds, by default those of the limits."""
        self.end()
        seconds = self._settings.limits.end_seconds if seconds is None else seconds
        await self._connections.close(seconds)
        if self._updating is not None:
            self._updating.cancel()
        await self._senders.aclose()
        if self._siblings is not None:
            await self._siblings.aclose()
        self._metrics.update(self._journal.dropped)
        await self._cache.aclose()
        for one in self._sockets:
            one.close()
        self._journal.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(min(_LEFT_SECONDS, self._settings.limits.end_seconds))

    # -- requests ------------------------------------------------------------------------------

    def _connect(self) -> asyncio.Protocol:
        return Connection(
            self._answer, self._settings.limits, self._connections, failed=self._failed
        )

    async def _answer(self, request: Request, response: Response) -> None:
        under_way = self._metrics.under_way
        under_way.inc()
        try:
            await self._gateway(request, response)
        finally:
            under_way.dec()

    def _failed(self, error: Exception) -> None:
        log.error("a request failed", exc_info=error)

    def _observe(self, served: Served) -> None:
        if not served.upstream and served.status == 200:
            return  # a page of its own, which somebody looks at every few seconds
        self._metrics.add(served)
        self._journal.add(served)

    def _page(self) -> tuple[int, str, bytes]:
        self._metrics.update(self._journal.dropped)
        return self._metrics.page()

    async def _update(self) -> None:
        while True:
            await asyncio.sleep(_UPDATE_SECONDS)
            self._metrics.update(self._journal.dropped)


# -- in a process -----------------------------------------------------------------------------


Control: TypeAlias = Callable[[Callable[[], None], Callable[[], None]], object]
"""Is given what ends a service gracefully, and what ends it at once, for any thread to call."""


def live(
    settings: Settings,
    *,
    sockets: Sequence[socket.socket] = (),
    started: Callable[[str], None] = lambda address: None,
    control: Control | None = None,
    siblings: Siblings | None = None,
) -> int:
    """Serve in this process until it is told to end: its exit status.

    Args:
        settings: what it is told.
        sockets: those that it listens on; by default it binds its own.
        started: is given the address, once connections are accepted.
        control: takes the place of signals.
        siblings: the workers, where this process is one of several.

    Raises `OSError` for an address that cannot be had, and `ConfigurationError`.
    """
    return asyncio.run(_live(settings, sockets, started, control, siblings))


async def _live(
    settings: Settings,
    sockets: Sequence[socket.socket],
    started: Callable[[str], None],
    control: Control | None,
    siblings: Siblings | None,
) -> int:
    loop = asyncio.get_running_loop()
    journal = Journal(settings.log)
    take_over(journal)
    service = Service(settings, sockets=sockets, journal=journal, siblings=siblings)
    ending, now = asyncio.Event(), asyncio.Event()

    def end() -> None:
        (now if ending.is_set() else ending).set()

    def from_elsewhere(work: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            with suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(work)

        return call

    if control is None:
        _on_signals(loop, end)
    else:
        control(from_elsewhere(ending.set), from_elsewhere(now.set))
    cost_of(Usage("gpt-4o", 1, 1))  # read now: later the list of prices would hold streams up
    await service.start()
    gc.collect()
    gc.freeze()  # what is there now stays: no use to look through it again and again
    started(service.address)
    await _first(ending, now)
    closing = loop.create_task(service.close())
    await _first(closing, now)
    if not closing.done():  # a second signal
        closing.cancel()
        await asyncio.wait([closing])
        await service.close(0)
    return 0


async def _first(*whichever: asyncio.Event | asyncio.Task[Any]) -> None:
    """Wait for the first of some events and tasks."""
    loop = asyncio.get_running_loop()
    tasks = [
        one if isinstance(one, asyncio.Task) else loop.create_task(one.wait()) for one in whichever
    ]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for one, task in zip(whichever, tasks, strict=True):
        if one is not task:
            task.cancel()


def _on_signals(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, end)
        except NotImplementedError:  # on Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(end))


# -- in a thread ------------------------------------------------------------------------------


@contextmanager
def serving(settings: Settings, cache: Cache | None = None) -> Iterator[Service]:
    """The proxy in a thread, for as long as a block takes: its address and cache are there to read.

    Args:
        settings: what it is told.
        cache: serves the requests; by default the one that the settings name.

    Raises `OSError` for an address that cannot be had, `StoreError` and `ConfigurationError`.
    """
    ready = threading.Event()
    found: list[Service] = []
    failed: list[BaseException] = []
    end: list[Callable[[], object]] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        end.append(lambda: loop.call_soon_threadsafe(ending.set))
        service = Service(settings, cache=cache)
        service.cache.check()
        async with service:
            found.append(service)
            ready.set()
            await ending.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="cachewrap-serve", daemon=True)
    contextvars.Context().run(thread.start)  # no block of the program stands around it
    ready.wait()
    if not found:
        thread.join()
        raise failed[0]
    try:
        yield found[0]
    finally:
        with suppress(RuntimeError):  # it has ended by itself
            end[0]()
        thread.join()
