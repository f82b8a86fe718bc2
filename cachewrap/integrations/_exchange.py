"""One request of a library that brings its own cache interface, and its answer as an entry."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cachewrap.cache import Cache
from cachewrap.entry import Entry, Facts
from cachewrap.format import codec
from cachewrap.format.envelope import sealed
from cachewrap.request.key import encode, key_of, salted
from cachewrap.telemetry.usage import Usage


class ValueExchange:
    """A request in canonical form, whose answer is any value that the codec takes.

    Args:
        cache: the cache that serves it.
        source: what is called, for messages and facts.
        request: the canonical request.
        usage: reads model and tokens from an answer.
    """

    __slots__ = ("_cache", "_usage", "asked", "key", "source")

    def __init__(
        self, cache: Cache, source: str, request: Any, usage: Callable[[Any], Usage]
    ) -> None:
        self._cache = cache
        self.asked = encode(request)
        self._usage = usage
        self.source = source
        self.key = key_of(salted(source), self.asked)

    @property
    def model(self) -> None:
        """Only the answer tells the model."""

    def load(self, entry: Entry) -> Any:
        return codec.decode(entry.kind, entry.answer)

    def dump(self, result: Any, seconds: float) -> tuple[bytes, Entry]:
        policy = self._cache.policy
        now = time.time()
        kind, answer = codec.encode(result)
        usage = self._usage(result)
        facts = Facts(
            created=now,
            seconds=seconds,
            expires=policy.expires(now),
            source=self.source,
            model=usage.model,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
        )
        request = self.asked if policy.store_requests else b""
        return sealed(kind, answer, request, facts)
