"""The workers of one proxy among each other: each key has one, who asks upstream for its streams.

The others hand it what they are asked, over a socket in a folder of this user alone, and pass its
answer on as it comes. So a stream is one for all clients, whichever worker has their connections.
Where the worker of a key does not answer, another one goes on alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from cachewrap.errors import printable
from cachewrap.http.response import MARK
from cachewrap.proxy.clients import Connection, Handler
from cachewrap.proxy.messages import Incoming, Origin, Request, UpstreamError
from cachewrap.proxy.origins import Origins
from cachewrap.proxy.settings import Settings
from cachewrap.proxy.wire import Answer, handed_on, passed_on

log: Final = logging.getLogger("cachewrap.proxy")

_MARK: Final = MARK.encode()
_FAULT: Final = b"x-cachewrap-fault"
_LONGEST: Final = 300
_WAITING: Final = 1024
_LONGEST_FOLDER: Final = 90
_CONNECT_SECONDS: Final = 2.0
_LENIENT: Final = 1024
"""Bytes of a head, and headers, more than of a client: a worker adds some of its own."""

_UNWATCHED_SECONDS: Final = 24 * 3600.0
"""Seconds in place of those that a client has: the worker who has the client looks after them."""


class Handed(Answer):
    """The answer of another worker, as it comes.

    Args:
        incoming: the answer, marked as for a client.

    Attributes:
        mark: what it is: ``miss``, ``joined``, …
        fault: what went wrong, if something did.
    """

    __slots__ = ("fault", "mark")

    def __init__(self, incoming: Incoming) -> None:
        headers = passed_on(incoming.headers)
        at = max((n for n, pair in enumerate(headers) if pair[0] == _MARK), default=len(headers))
        ours = dict(headers[at:])  # what an upstream may have called so stands before
        self.mark = ours.get(_MARK, b"").decode("ascii", "replace")
        self.fault = ours.get(_FAULT, b"").decode("ascii", "replace")
        headers = [pair for n, pair in enumerate(headers) if n < at or pair[0] not in _OURS]
        super().__init__(
            incoming.status,
            incoming.reason,
            headers,
            stream=incoming,
            incoming=incoming,
        )


_OURS: Final = frozenset({_MARK, _FAULT})


def fault_header(fault: str) -> tuple[bytes, bytes]:
    """The header in which a worker tells another what went wrong, behind the mark."""
    return _FAULT, printable(fault, _LONGEST).encode("ascii", "replace")


class Siblings:
    """The workers of one proxy, as one of them sees the others.

    Args:
        settings: what all of them are told.
        folder: of this user alone, where they find each other.
        index: which of them this one is, from 0 on.
    """

    def __init__(self, settings: Settings, folder: str, index: int) -> None:
        self.folder = folder
        self._index = index
        self._folder = _Short(folder)
        self._workers = [
            Origin("unix", f"{self._folder.path}/worker-{number}", 0)
            for number in range(settings.workers)
        ]
        limits = settings.limits
        self._limits = replace(
            limits,
            header_bytes=limits.header_bytes + _LENIENT,
            headers=limits.headers + _LENIENT,
            idle_seconds=_UNWATCHED_SECONDS,
            total_seconds=0.0,
        )
        # Who asks upstream is the one to notice that nothing comes of it.
        upstream = limits.connect_seconds + 2 * limits.upstream_seconds
        self._senders = Origins(
            replace(limits, connect_seconds=_CONNECT_SECONDS, upstream_seconds=upstream)
        )
        self._is_heard = False

    async def listen(
        self,
        handler: Handler,
        connections: set[Connection],
        failed: Callable[[Exception], None],
    ) -> list[asyncio.Server]:
        """Take what the others hand over; without a socket for it each goes on alone.

        Args:
            handler: answers it.
            connections: has theirs, as those of clients.
            failed: is told what a handler raised.
        """
        if os.name == "nt":
            return []
        own = self._workers[self._index].host

        def build() -> Connection:
            return _Connection(handler, self._limits, connections, failed=failed)

        try:  # an earlier worker may have left its socket behind, which is taken away here
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(build, own, backlog=_WAITING)
        except OSError as error:
            log.warning(
                "the workers do not share streams, but wait for each other: there can be no socket"
                " %s (%s); TMPDIR may name another folder",
                *(own, error),
            )
            return []
        self._is_heard = True
        return [server]

    def owner(self, key: str) -> int:
        """The worker that asks upstream for the streams of a key."""
        return int(key[:8], 16) % len(self._workers)

    async def ask(self, key: str, target: str, request: Request, body: bytes) -> Handed | None:
        """The answer of the worker of a key; None where that is this one, or does not answer.

        Args:
            key: the request's.
            target: the request's, without a token.
            request: what the client asks.
            body: all of it.
        """
        owner = self.owner(key)
        if owner == self._index or not self._is_heard:
            return None
        headers = handed_on(request.headers)
        try:
            return Handed(
                await self._senders.send(
                    self._workers[owner], request.method, target, headers, body
                )
            )
        except UpstreamError:
            return None

    async def aclose(self) -> None:
        """Ask nobody any more."""
        await self._senders.aclose()
        self._folder.close()


class _Short:
    """A folder by a path that is short enough for sockets in it.

    Attributes:
        path: to it; on Linux by its descriptor, where its own is too long.
    """

    def __init__(self, folder: str) -> None:
        self.path = folder
        self._descriptor = -1
        if len(os.fsencode(folder)) > _LONGEST_FOLDER and os.path.isdir("/proc/self/fd"):
            with suppress(OSError):
                self._descriptor = os.open(folder, os.O_RDONLY)
                self.path = f"/proc/self/fd/{self._descriptor}"

    def close(self) -> None:
        """Forget it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Connection(Connection):
    """The connection of another worker, which never closes it one way only."""

    def eof_received(self) -> bool:
        self.cut()
        return False
