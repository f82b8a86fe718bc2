"""The settings of the proxy."""

from __future__ import annotations

from dataclasses import dataclass, field

PORT = 8141
"""The port that it has where none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that one client may ask of the proxy, in bytes and seconds.

    Args:
        header_bytes: of a request's head.
        headers: how many of them.
        held_bytes: of a body that is looked at, so that it may be cached; a longer one passes.
        body_bytes: of any body.
        header_seconds: until a head that began has come.
        keep_seconds: for which a connection without a request is kept.
        idle_seconds: without a byte from, or to, a client who is waited for.
        total_seconds: of one request, from its head to the end of its answer; 0 is without end.
        connect_seconds: until an upstream is reached.
        upstream_seconds: without a byte from an upstream.
        end_seconds: that answers under way have at the end.
    """

    header_bytes: int = 64 * 1024
    headers: int = 256
    held_bytes: int = 64 * 1024 * 1024
    body_bytes: int = 1024**3
    header_seconds: float = 20.0
    keep_seconds: float = 75.0
    idle_seconds: float = 120.0
    total_seconds: float = 0.0
    connect_seconds: float = 10.0
    upstream_seconds: float = 600.0
    end_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a proxy is told.

    Args:
        url: the cache's, with its options (seed, mode, ttl, keyed, …).
        host: where it listens.
        port: likewise; 0 is one that is free.
        upstreams: further ones, as ``NAME=URL``, or in place of known ones.
        token: what clients must know; ``""`` where nothing.
        workers: how many processes answer.
        pace: whether stored streams come at the pace at which they were recorded.
        log: ``json``, ``text`` or ``off``: the lines about calls, on stderr.
        limits: see there.
        command: that started it, as advice names it.
    """

    url: str = "disk:.cache"
    host: str = "127.0.0.1"
    port: int = PORT
    upstreams: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    workers: int = 1
    pace: bool = False
    log: str = "json"
    limits: Limits = Limits()
    command: str = "cachewrap serve"


@dataclass(slots=True, kw_only=True)
class Served:
    """One answered request as far as it is known, for the log and the counts; nothing is secret.

    Args:
        peer: the client's address.
        method: as it was asked.
        upstream: the name; ``""`` for the proxy's own pages.
        path: below the upstream, without the query.
        status: what was answered; 0 where the client left before.
        outcome: ``hit``, ``miss``, ``joined``, ``bypass`` or ``""``.
        reason: why it went past the cache, or was not stored.
        model: that was asked.
        key: of the entry.
        seconds: from the request's head to the end of its answer.
        first_seconds: to the answer's first byte.
        received: bytes of the request's body.
        sent: bytes of the answer's body.
        error: what went wrong: ``client left``, ``upstream broke``, …
    """

    peer: str = ""
    method: str = ""
    upstream: str = ""
    path: str = ""
    status: int = 0
    outcome: str = ""
    reason: str = ""
    model: str = ""
    key: str = ""
    seconds: float = 0.0
    first_seconds: float = 0.0
    received: int = 0
    sent: int = 0
    error: str = ""
