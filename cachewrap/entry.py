"""The entry that is stored for one request, and the outcome of a call."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.patterns import later

MAX_ENTRY_BYTES: Final = 256 * 2**20
"""What one entry may become in memory when it is opened, where a cache says nothing else.

The largest answers in use are batches of embeddings, 2,048 vectors of 3,072 numbers: 200 MB as
numbers of Python, half of it as JSON.
"""

_KEPT_AT_LEAST: Final = 86400.0

_VERSION: Final = later(r"POST (?:/[^/ ]+)*/v[0-9][a-z0-9]*")
"""What stands in front of an endpoint's path where the base URL of its SDK has a version."""


class Outcome(enum.Enum):
    """The way in which a call was answered."""

    HIT = "hit"
    MISS = "miss"
    JOINED = "joined"
    BYPASSED = "bypassed"


class Kind(enum.IntEnum):
    """The way to read an entry's answer bytes. The numbers are stored: they are never reused."""

    TEXT = 1
    VALUE = 2
    HTTP = 3
    ITEMS = 4
    ALIAS = 5


By: TypeAlias = tuple[tuple[str, bytes], ...]
"""The rules of equality that changed a request, each with a digest of what it took out of it."""


class Declared(msgspec.Struct, array_like=True, frozen=True):
    """Declarations of a user, because of which an entry has another key than its request alone.

    Args:
        rules: the digest of the rules of equality; "" for none.
        by: the rules that changed the request, each with a digest of what it took out of it.
        element: whether it answers one element of a list that was asked element by element.
    """

    rules: str = ""
    by: By = ()
    element: bool = False


def rules_between(asked: By, stored: By) -> tuple[str, ...]:
    """The rules without which a request and one that is stored would not be equal."""
    if asked == stored:
        return ()
    both = (*asked, *stored)
    different = {*asked} ^ {*stored} or both  # a rule may be there twice
    return tuple(dict.fromkeys(rule for rule, rest in both if (rule, rest) in different))


@dataclass(slots=True)
class Facts:
    """The facts about an answer beside the answer itself.

    Args:
        created: when the answer was stored, in seconds since the epoch.
        seconds: how long upstream took to answer.
        expires: when the entry stops being fresh, in seconds since the epoch; 0.0 is never.
        source: the function (``module:qualname``) or the endpoint (``POST /v1/chat/completions``).
        model: the model's name as upstream reported it, or ``""``.
        tokens_in: prompt tokens that upstream reported, or 0.
        tokens_out: completion tokens that upstream reported, or 0.
        details: how many of the tokens were what, as in `telemetry.usage.Details`.
        declared: what makes its key another than that of its request; None for an exact key.
    """

    created: float
    seconds: float
    expires: float = 0.0
    source: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    details: tuple[int, ...] = ()
    declared: Declared | None = None


class Entry(msgspec.Struct):
    """One stored answer, read from its envelope.

    ``kind``, ``answer`` and the numbers come from the envelope's head and are there at once; the
    record (canonical request, source, model, details of the tokens) is only unpacked when it is
    asked for; ``detailed`` says whether it has such details, ``declared`` what makes its key
    another than that of its request, if anything. It is made at every hit: as a struct in half the
    time of a dataclass.
    """

    kind: Kind
    answer: bytes
    created: float
    seconds: float
    expires: float
    tokens_in: int
    tokens_out: int
    _record_of: Callable[[bytes], dict[str, Any]]
    _raw: bytes
    detailed: bool = False
    declared: Declared | None = None

    def read_record(self) -> dict[str, Any]:
        """The record: ``request``, ``source``, ``model``, and ``details`` if any.

        Raises `CorruptEntryError`.
        """
        return self._record_of(self._raw)

    @property
    def details(self) -> tuple[int, ...]:
        """How many of its tokens were what. Raises `CorruptEntryError`."""
        return self.read_record().get("details", ()) if self.detailed else ()

    def fresh(self, now: float) -> bool:
        """Whether the entry may still be served at ``now`` (seconds since the epoch)."""
        return not self.expires or now < self.expires


@dataclass(slots=True)
class HttpAnswer:
    """An HTTP answer as it is stored: decoded bytes, never credentials.

    Args:
        status: the status code.
        headers: name and value pairs in the order received, without those that must not be stored.
        chunks: the decoded body as it arrived; a body that was read at once is one chunk.
        delays: for a stream, seconds from the start of the call to each chunk; else empty.
        streamed: whether the answer was recorded from an open stream.
    """

    status: int
    headers: list[tuple[str, str]]
    chunks: list[bytes]
    delays: list[float]
    streamed: bool = False


@dataclass(slots=True)
class Items:
    """The recorded items of a generator, each encoded as it passed.

    Args:
        values: kind and bytes of each item, as `codec.encode` gave them.
        delays: seconds from the start of the call to each item.
        returned: kind and bytes of what the generator returned; None's for most.
    """

    values: list[tuple[Kind, bytes]]
    delays: list[float]
    returned: tuple[Kind, bytes]


def same_source(one: str, other: str) -> bool:
    """Whether two sources are the same: of SDKs an endpoint is without what their base URL has."""
    if one == other:
        return True
    longer, shorter = sorted((one, other), key=len, reverse=True)
    path = shorter.removeprefix("POST ")
    return path[:1] == "/" and _VERSION.fullmatch(longer.removesuffix(path)) is not None


def kept_until(expires: float, now: float) -> float:
    """When a store may let go of an answer that is fresh until ``expires``; 0.0 is never.

    It stays there for as long again as it was fresh, and for a day at least, so that mode
    ``"replay"`` can still serve it.

    Args:
        expires: seconds since the epoch, or 0.0 for never.
        now: when the answer is stored, in seconds since the epoch.
    """
    return expires + max(expires - now, _KEPT_AT_LEAST) if expires else 0.0
