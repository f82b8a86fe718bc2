"""What a cache does with the answers it is given: how long they stay fresh, what is kept beside them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cachewrap.errors import ConfigurationError

Ttl = float | int | timedelta
"""A time to live: seconds, or a `datetime.timedelta`."""

Seed = int | str
"""Names an independent draw of answers; ``1`` and ``"1"`` are the same seed."""


class Unset:
    """The type of `UNSET`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""Stands for an option that was not given, where None has a meaning of its own."""


def seed_text(seed: Seed) -> str:
    """The seed as text. Raises `ConfigurationError` for what is neither an int nor a non-empty str."""
    if (isinstance(seed, int) and not isinstance(seed, bool)) or (isinstance(seed, str) and seed):
        return str(seed)
    raise ConfigurationError(
        f"a seed must be an int, a non-empty str, or None for no caching; got {seed!r}"
    )


def ttl_seconds(ttl: Ttl | None) -> float | None:
    """The time to live in seconds. Raises `ConfigurationError` unless it is positive and finite."""
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        seconds = ttl.total_seconds()
    elif isinstance(ttl, (int, float)) and not isinstance(ttl, bool):
        seconds = float(ttl)
    else:
        raise ConfigurationError(f"ttl must be seconds or a timedelta, got {ttl!r}")
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"ttl must be positive and finite, got {ttl!r}")
    return seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """How a cache keeps answers.

    Args:
        ttl: seconds for which an answer stays fresh; None is for ever.
        store_requests: whether the canonical request is stored beside the answer.
    """

    ttl: float | None = None
    store_requests: bool = True

    def expires(self, now: float) -> float:
        """When an answer stored at ``now`` stops being fresh (epoch seconds); 0.0 is never."""
        return 0.0 if self.ttl is None else now + self.ttl
