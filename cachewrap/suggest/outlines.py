"""Outlines of requests: what is left of each when what varies from call to call is left out.

Requests of one outline are a family. What varies is left out by place: dates of system prompts and
of descriptions of tools, fields that track a request, ids that only link, orders that do not
matter. What is asked stays, with its numbers, its names and its dates.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from cachewrap.entries.stored import StoredEntry
from cachewrap.errors import CachewrapError
from cachewrap.patterns import later
from cachewrap.same import in_call_order, renumber, sorted_by_name
from cachewrap.same.orders import CONVERSATIONS, TOOLS
from cachewrap.same.steps import member
from cachewrap.suggest.masks import Span, masked, said_spans, steering_spans

ODD: Final = (
    CachewrapError,
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What a request of no known form, or a damaged one, makes of those who read it."""

ORDERS: Final = (in_call_order, sorted_by_name, renumber())
"""The rules that an outline is taken behind: they change how a request is put, not what it says."""

_OF_CALLS: Final = (b"_call", b"call_", b"tool_use", b"toolUse", b"functionCall")
_SHOWN_BY: Final = (_OF_CALLS, (b"tools", b"functions"), _OF_CALLS)
_NO_REST: Final[list[Any]] = []


def settled(request: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], list[list[Any]]]:
    """A request with its orders settled and its ids numbered, and what each of `ORDERS` took out.

    Args:
        request: the canonical request.
        raw: the same, encoded: most show at a glance that there is nothing to settle.
    """
    rests: list[list[Any]] = []
    for rule, shown in zip(ORDERS, _SHOWN_BY, strict=True):
        rest = _NO_REST
        if any(name in raw for name in shown):
            request, rest = rule.apply(request)
        rests.append(rest)
    return request, rests


class Zone(Enum):
    """The part that a value plays in a request."""

    EXACT = "counts as it is"
    STEERS = "a system prompt"
    DESCRIBES = "tools: their descriptions are as a system prompt"
    SAID = "what is said or asked"
    TRACKS = "tracks the request"
    MAY_TRACK = "tracks the request, or is what is asked"


_ELSE_ASKED: Final = {Zone.STEERS: Zone.SAID, Zone.TRACKS: Zone.MAY_TRACK}


class Piece(NamedTuple):
    """A value in a request.

    Attributes:
        path: where it is, as a rule has it.
        zone: the part that it plays.
        value: the value.
    """

    path: str
    zone: Zone
    value: Any


_TRACKING_NUMBERS: Final = (
    r"(?:x[_-])?(?:client[_-])?(?:request|req|trace|span|parent[_-]span|run|correlation|invocation"
    r"|transaction|attempt|event|operation)[_-]?(?:id|ids|number|no|uuid)"
    r"|traceparent|tracestate|baggage|nonce|idempotency[_-]?key|request[_-]?uuid"
    r"|(?:request|sent|created|requested|started|updated)[_-]?(?:at|time|timestamp|ts)"
)
_TRACKS: Final = later(rf"(?:{_TRACKING_NUMBERS}|timestamp|ts)", re.IGNORECASE)
_TRACKING_HEADER: Final = later(
    rf".*(?:{_TRACKING_NUMBERS}|timestamp|session[_-]?id|job[_-]?id|build[_-]?id)$", re.IGNORECASE
)
_IN_BODIES: Final = frozenset(
    "metadata user user_id safety_identifier prompt_cache_key labels extra_metadata".split()
)
# What a function is given may be all that is asked: it looks up the rest by it.
_MAY_BE_LOOKED_UP: Final = later(
    r"(?:run|transaction|event|operation)[_-]?(?:id|ids|number|no|uuid)|timestamp|ts"
    r"|(?:created|started|updated)[_-]?(?:at|time|timestamp|ts)",
    re.IGNORECASE,
)
_MAY_TRACK: Final = later(
    r"now|today|(?:current[_-]?)?(?:date|time|datetime|day)|user[_-]?id|session[_-]?id"
    r"|(?:conversation|thread)[_-]?id|uuid",
    re.IGNORECASE,
)
_STEERING: Final = frozenset(
    "system instructions system_instruction systemInstruction system_prompt system_message"
    " developer_message preamble".split()
)
_STEERING_ROLES: Final = frozenset({"system", "developer"})
_CONVERSATIONS: Final = frozenset((*CONVERSATIONS, "history", "conversation", "chat_history"))
_TOOLS: Final = frozenset(path for path in TOOLS if path.isalpha())
_SPOKEN: Final = frozenset({"prompt", "prompts", "query", "question", "text", "texts"})
_PLAIN: Final = later(r"[\w-]+")
_DEEP: Final = 3
"""Levels of an argument in which names are looked at."""


def pieces(request: dict[str, Any]) -> list[Piece]:
    """The values of a canonical request, each with where it is and the part that it plays."""
    found = list(_pieces(request))
    asks = _asks_by_name if "arguments" in request else _asks
    if any(map(asks, found)):
        return found
    # Then a system prompt has the question in it, and an id may be all that a function is asked.
    return [piece._replace(zone=_ELSE_ASKED.get(piece.zone, piece.zone)) for piece in found]


def _asks(piece: Piece) -> bool:
    return piece.zone is Zone.SAID and bool(piece.value)


def _asks_by_name(piece: Piece) -> bool:
    """Whether an argument is a question for sure, and no setting."""
    if not _asks(piece):
        return False
    name = re.split(r"[.\[]", piece.path, maxsplit=1)[0]
    value = piece.value
    return name in _SPOKEN or name in _CONVERSATIONS or (type(value) is str and " " in value)


def _pieces(request: dict[str, Any]) -> Iterator[Piece]:
    for name in sorted(request):
        value = request[name]
        if name == "body" and type(value) is dict:
            for inner in sorted(value):
                yield from _of_body(inner, value[inner])
        elif name == "arguments" and type(value) is dict:
            for inner in sorted(value):
                yield from _of_argument(dotted("", inner), inner, value[inner], _DEEP)
        elif name in ("headers", "query") and type(value) is dict:
            start = "headers" if name == "headers" else "$.query"
            for inner in sorted(value):
                tracks = _TRACKING_HEADER.fullmatch(inner) is not None
                zone = Zone.TRACKS if tracks else Zone.EXACT
                yield Piece(dotted(start, inner), zone, value[inner])
        else:
            yield Piece(f"$.{name}", Zone.EXACT, value)


def _of_body(name: str, value: Any) -> Iterator[Piece]:
    path = dotted("", name)
    if name in _IN_BODIES or _TRACKS.fullmatch(name):
        yield Piece(path, Zone.TRACKS, value)
    elif (known := _of_known(path, name, value)) is not None:
        yield from known
    elif name in _SPOKEN:
        yield Piece(path, Zone.SAID, value)
    elif _MAY_TRACK.fullmatch(name):
        yield Piece(path, Zone.MAY_TRACK, value)
    else:
        yield Piece(path, Zone.EXACT, value)


def _of_known(path: str, name: str, value: Any) -> Iterable[Piece] | None:
    """What is told by its name alone, in a body and among arguments; None for anything else."""
    if name in _CONVERSATIONS:
        return _conversation(path, value)
    if name in _STEERING:
        return (Piece(path, Zone.STEERS, value),)
    return (Piece(path, Zone.DESCRIBES, value),) if name in _TOOLS else None


def _of_argument(path: str, name: str, value: Any, room: int) -> Iterator[Piece]:
    if _MAY_TRACK.fullmatch(name) or _MAY_BE_LOOKED_UP.fullmatch(name):
        yield Piece(path, Zone.MAY_TRACK, value)
    elif _TRACKS.fullmatch(name):
        yield Piece(path, Zone.TRACKS, value)
    elif (known := _of_known(path, name, value)) is not None:
        yield from known
    elif type(value) is dict and room and not any(map(is_tag, value)):
        yield Piece(path, Zone.EXACT, None)  # what has no members is told from what is missing
        for inner in sorted(value):
            yield from _of_argument(dotted(path, inner), inner, value[inner], room - 1)
    else:
        yield Piece(path, Zone.SAID, value)


_ROLES: Final = ("role", "type")


def _conversation(path: str, value: Any) -> Iterator[Piece]:
    if type(value) is not list:
        yield Piece(path, Zone.SAID, value)
        return
    for item in value:
        for name in _ROLES:
            role = member(item, name)
            if type(role) is str and _PLAIN.fullmatch(role):
                zone = Zone.STEERS if role in _STEERING_ROLES else Zone.SAID
                yield Piece(f"{path}[{name}={role}]", zone, item)
                break
        else:
            yield Piece(f"{path}[*]", Zone.SAID, item)


def dotted(path: str, name: str) -> str:
    """The path to a member of what is at a path."""
    if _PLAIN.fullmatch(name):
        return f"{path}.{name}" if path else name
    shown = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'{path}["{shown}"]'


def is_tag(name: str) -> bool:
    """Whether a name is none of a member: it says of what kind an object is."""
    return name[:1] == "!"


# -- outlines ------------------------------------------------------------------------------------

Spans: TypeAlias = Callable[[str], tuple[Span, ...]]
_LOOKED: Final[dict[Zone, Spans]] = {
    Zone.STEERS: steering_spans,
    Zone.DESCRIBES: steering_spans,
    Zone.SAID: said_spans,
}


def spans_of(zone: Zone, text: str) -> tuple[Span, ...]:
    """What varies in a text that plays this part."""
    return _LOOKED[zone](text)


class Outline(NamedTuple):
    """The digests of a request without what varies.

    Attributes:
        sure: the digest without what is noise.
        whole: the digest without what may be noise as well; the same where there is none of that.
    """

    sure: bytes
    whole: bytes


_packed: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def scope_of(entry: StoredEntry) -> str:
    """The declarations that an entry's key is under, as a text: what tells it from other keys."""
    declared = entry._entry.declared
    return "" if declared is None else f"{declared.rules} {declared.element}"


def outline(request: dict[str, Any], raw: bytes) -> Outline:
    """The outline of a request. Raises what a request of no known form makes of it.

    Args:
        request: the canonical request.
        raw: the same, encoded.
    """
    sure: list[Any] = []
    whole: list[Any] = []
    doubtful = False
    for path, zone, value in pieces(settled(request, raw)[0]):
        if zone is Zone.TRACKS:
            continue
        if zone is Zone.MAY_TRACK:
            doubtful = True
            sure += (path, value)
        elif zone is Zone.EXACT:
            sure += (path, value)
            whole += (path, value)
        else:
            one, other = _left(value, zone, zone is not Zone.DESCRIBES)
            doubtful = doubtful or one is not other
            sure += (path, one)
            whole += (path, other)
    digest = _digest(sure)
    return Outline(digest, _digest(whole) if doubtful else digest)


def _digest(told: list[Any]) -> bytes:
    return hashlib.blake2b(_packed(told), digest_size=16).digest()


def _left(value: Any, zone: Zone, looked: bool) -> tuple[Any, Any]:
    """A value without what is noise, and without what may be; one object where both are equal.

    Args:
        value: the value.
        zone: the part that it plays.
        looked: whether texts are looked at: in tools those of descriptions alone.
    """
    kind = type(value)
    if kind is str:
        if not looked or not (spans := _LOOKED[zone](value)):
            return value, value
        sure = masked(value, spans, doubtful=False)
        if not any(span.doubtful for span in spans):
            return sure, sure
        return sure, masked(value, spans, doubtful=True)
    if kind is list:
        lefts = [_left(inner, zone, looked) for inner in value]
        surely = [one for one, _ in lefts]
        if all(one is other for one, other in lefts):
            return surely, surely
        return surely, [other for _, other in lefts]
    if kind is dict:
        described = zone is Zone.DESCRIBES
        found = {
            name: _left(inner, zone, name == "description" if described else True)
            for name, inner in value.items()
        }
        certain = {name: one for name, (one, _) in found.items()}
        if all(one is other for one, other in found.values()):
            return certain, certain
        return certain, {name: other for name, (_, other) in found.items()}
    return value, value
