"""A request as an upstream is sent it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import h11

from cachewrap.proxy.messages import Origin, Pairs, UpstreamError

_TOLD: Final = "The request cannot be sent: its method, target or headers are not HTTP/1.1"


class Asked:
    """A request with its framing, which a body of bytes has at once, and another as it comes.

    Attributes:
        origin: where it goes.
        head: its method, target and headers.
        body: what is behind it.
        expects: whether the body waits until the upstream says that it takes it.
        is_streamed: whether it can be sent but once.
    """

    __slots__ = ("_given", "_is_chunked", "body", "expects", "head", "is_streamed", "origin")

    def __init__(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Pairs,
        body: bytes | AsyncIterator[bytes] | None,
        trailers: Callable[[], Pairs] | None,
        upgrade: str,
    ) -> None:
        self.origin = origin
        self.body = body
        self.expects = False
        self.is_streamed = body is not None and not isinstance(body, bytes)
        self._given = trailers
        pairs: Pairs = [(b"Host", origin.authority.encode())]
        has_length = False
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length":
                if isinstance(body, bytes):
                    value = b"%d" % len(body)
                elif body is None and value != b"0":
                    continue
                has_length = True
            elif lower == b"expect":
                self.expects = self.is_streamed and value.lower() == b"100-continue"
            pairs.append((name, value))
        if upgrade:
            pairs += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade.encode())]
        self._is_chunked = self.is_streamed and not has_length
        if self._is_chunked:
            pairs.append((b"Transfer-Encoding", b"chunked"))
        elif isinstance(body, bytes) and not has_length:
            pairs.append((b"Content-Length", b"%d" % len(body)))
        try:
            self.head = h11.Request(method=method, target=target, headers=pairs)
        except h11.LocalProtocolError:
            raise UpstreamError(_TOLD) from None

    def trailers(self) -> Pairs:
        """What is behind a body that was sent as it came."""
        return self._given() if self._given and self._is_chunked else []
