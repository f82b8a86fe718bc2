"""The connections to upstreams: requests sent on them, answers read, and kept for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from typing import Final

from cachewrap.proxy.asked import Asked
from cachewrap.proxy.dialing import Dialer, is_readable
from cachewrap.proxy.messages import Inform, Origin, Pairs, UpstreamError
from cachewrap.proxy.settings import Limits
from cachewrap.proxy.upstream import Answer, Connection, Unheard

_IDLE_SECONDS: Final = 30.0
_IDLE_MOST: Final = 100
_SURE_SECONDS: Final = 3.0


class Origins:
    """Upstreams, and the connections to them.

    Args:
        limits: how long an upstream is waited for.

    Attributes:
        connections: all that are open, those that wait for a request among them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._dialer = Dialer(limits.connect_seconds)
        self._idle: dict[Origin, list[Connection]] = {}
        self.connections: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def send(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Pairs,
        body: bytes | AsyncIterator[bytes] | None,
        *,
        trailers: Callable[[], Pairs] | None = None,
        inform: Inform | None = None,
        upgrade: str = "",
    ) -> Answer:
        """Send a request: its answer, as soon as its head is there; see `Senders`."""
        if method == "CONNECT":
            raise UpstreamError("CONNECT is for proxies of another kind", status=501)
        forwarder = self._dialer.forwarder(origin)
        if forwarder:
            headers = [*forwarder.headers(), *headers]
            target = f"http://{origin.authority}{target if target != '*' else ''}"
        asked = Asked(origin, method, target, headers, body, trailers, upgrade)
        answer = await self._ask(asked, inform)
        if forwarder and answer.status == 407:
            await answer.aclose()
            raise forwarder.refused(origin, 407)
        return answer

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        self._is_closed = True
        if self._sweeper:
            self._sweeper.cancel()
        self._idle.clear()
        gone = [connection.gone for connection in self.connections]
        for connection in list(self.connections):
            connection.fail(UpstreamError("The proxy ends"))
        if gone:
            await asyncio.wait(gone, timeout=1.0)

    async def _ask(self, asked: Asked, inform: Inform | None) -> Answer:
        kept = self._take(asked)
        if kept:
            try:
                return await kept.ask(asked, inform)
            except Unheard:
                # The upstream closed what it had kept just when it was asked.
                if asked.is_streamed:
                    raise
        connection = await self._connect(asked.origin)
        return await connection.ask(asked, inform)

    async def _connect(self, origin: Origin) -> Connection:
        def build() -> Connection:
            return Connection(self, origin, self._limits.upstream_seconds)

        if self._is_closed:
            raise UpstreamError("The proxy ends")
        # A connection is of no request, and keeps nothing of the one for which it was made.
        dialing = asyncio.create_task(self._dialer.dial(origin, build), context=Context())
        try:
            connection = await dialing
        except asyncio.CancelledError:
            dialing.add_done_callback(_let_go)
            raise
        if self._is_closed:
            connection.abort()
            raise UpstreamError("The proxy ends")
        return connection

    def _take(self, asked: Asked) -> Connection | None:
        """A connection that is kept; for what can be sent but once, one that was just used."""
        idle = self._idle.get(asked.origin)
        oldest = asyncio.get_running_loop().time() - _SURE_SECONDS if asked.is_streamed else 0.0
        while idle and idle[-1].since >= oldest:
            connection = idle.pop()
            if asked.is_streamed and is_readable(connection.transport):
                # Its end, of which the event loop does not know yet.
                connection.abort()
            elif connection.is_usable:
                return connection
        return None

    def opened(self, connection: Connection) -> None:
        """Know a connection."""
        self.connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        if self._is_closed:
            connection.close()
            return
        idle = self._idle.setdefault(connection.origin, [])
        idle.append(connection)
        if len(idle) > _IDLE_MOST:
            idle.pop(0).close()
        if not self._sweeper:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(_IDLE_SECONDS / 2, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - _IDLE_SECONDS
        for origin, idle in list(self._idle.items()):
            for connection in idle[:]:
                if connection.since <= oldest:
                    idle.remove(connection)
                    connection.close()
            if not idle:
                del self._idle[origin]
        self._sweeper = loop.call_later(_IDLE_SECONDS / 2, self._sweep) if self._idle else None


def _let_go(dialing: asyncio.Task[Connection]) -> None:
    """Close a connection that was made when nobody waited for it any more."""
    if not dialing.cancelled() and dialing.exception() is None:
        dialing.result().abort()
