"""The lines of a cassette: one entry each, as JSON, and back to the envelope it was.

The fields of a line, in this order, version 1:

============ =====================================================================
``key``      the key of the request: 64 hexadecimal characters
``seed``     the seed of the entry
``source``   the function (``module:qualname``) or the endpoint
``model``    the model that upstream reported; left out where it reported none
``request``  the canonical request; left out where it is not stored
``kind``     ``text``, ``value``, ``http``, ``items``, ``alias``, or ``sealed``
``answer``   see `cachewrap.stores.jsonl.shown`; for ``sealed`` the envelope in Base64; for
             ``alias`` the key that it is one ``of``, and the rest of the line that it ``kept``
``tokens``   prompt and completion tokens; left out where both are 0
``details``  how many of them were what, by name; left out where nothing is told apart
``declared`` what makes the key another than that of the request: ``rules`` of equality, ``by``
             which of them, ``element`` of a list; left out for an exact key
``seconds``  how long upstream took
``created``  when the answer was stored
``expires``  when it stops being fresh; left out for never
============ =====================================================================

What is not an envelope, or an encrypted one, is ``sealed`` and has neither source nor facts.
"""

from __future__ import annotations

import json
import re
import struct
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.entry import Declared, Facts, HttpAnswer, Items, Kind
from cachewrap.errors import CodecError
from cachewrap.format import codec
from cachewrap.format.aliases import Alias, unpacked
from cachewrap.format.envelope import seal, unseal
from cachewrap.request import key
from cachewrap.stores.jsonl.shown import (
    TOO_DEEP,
    base64_of,
    bytes_of,
    is_deep,
    parse,
    read_answer,
    read_tree,
    show_answer,
    show_tree,
)
from cachewrap.telemetry.usage import DETAILS, Details, details_of

VERSION: Final = 1
HEAD: Final = b'{"cachewrap":"cassette","version":1}'
"""The first line of every cassette."""

Name: TypeAlias = tuple[str, str]
"""The seed and the key of a line."""

_KEY: Final = re.compile("[0-9a-f]{64}")
_MOST_KEPT: Final = 2**24
"""Bytes of lines and their envelopes that are kept."""

_SEALED: Final = "sealed"
_SHARED: Final = ("key", "seed", "request")
_KINDS: Final = {kind.name.lower(): kind for kind in Kind}
_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d+)Z")
_CLOCK: Final = "%Y-%m-%dT%H:%M:%S"
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST_YEAR: Final = 253402300800.0  # the year 10000

# What a server says anew in each answer, and what says nothing of the answer itself.
_VOLATILE: Final = re.compile(
    r"date|age|expires|(?:.*-)?request-?id|(?:.*-)?trace-?id|traceparent|cf-ray|server-timing|etag"
    r"|.*ratelimit.*|.*processing-ms|.*service-time|.*-latency(?:-.*)?|x-runtime|x-timer",
    re.IGNORECASE,
)


class Head(msgspec.Struct):
    """The head of a line: what names it, or tells that it is the first one."""

    key: str | None = None
    seed: str | None = None
    cachewrap: str | None = None
    version: int = VERSION


_head_decoder = msgspec.json.Decoder(Head)


def head_of(line: bytes) -> Head:
    """What names a line. Raises `ValueError` for what is no line of a cassette."""
    try:
        try:
            return _head_decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if isinstance(error, msgspec.ValidationError):
                raise ValueError(str(error)) from error
            try:  # half of a surrogate pair is JSON for Python alone
                return msgspec.convert(json.loads(line), Head)
            except (ValueError, msgspec.ValidationError):
                raise ValueError(str(error)) from error
    except RecursionError:
        if not is_deep(line):
            raise  # it is the caller who has no room left
        raise ValueError(TOO_DEEP) from None


def name_of(line: bytes) -> Name | None:
    """The name of a line, None for a head. Raises `ValueError` for what is neither."""
    head = head_of(line)
    if head.cachewrap is not None and head.key is None:
        return None
    if head.key is None or head.seed is None:
        raise ValueError("it has no key and seed")
    if _KEY.fullmatch(head.key) is None:
        raise ValueError(f"{head.key[:80]!r} is no key")
    return sys.intern(head.seed), head.key  # most lines have the seed of the others


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that an envelope holds."""

    kind: Kind
    answer: bytes
    request: bytes
    facts: Facts

    @classmethod
    def of(cls, envelope: bytes) -> Parts | None:
        """The parts of an envelope; None for bytes that are none."""
        try:
            entry = unseal(envelope)
            record = entry.read_record()
        except CodecError:
            return None
        facts = Facts(
            entry.created,
            entry.seconds,
            entry.expires,
            record["source"],
            record["model"],
            entry.tokens_in,
            entry.tokens_out,
            record.get("details", ()),
            entry.declared,
        )
        return cls(entry.kind, entry.answer, record["request"], facts)

    def sealed(self) -> bytes:
        """The envelope of these parts."""
        return seal(self.kind, self.answer, self.request, self.facts)

    def says(self) -> Parts:
        """The parts without what differs from one recording to the next of the same answer.

        These are when it was stored and how long it took, the cutting of a stream into chunks, and
        headers that are new in every answer.
        """
        facts = replace(self.facts, created=0.0, seconds=0.0)
        return replace(self, answer=_steady(self.kind, self.answer), facts=facts)


def _steady(kind: Kind, answer: bytes) -> bytes:
    if kind not in (Kind.HTTP, Kind.ITEMS):
        return answer
    try:
        value = codec.decode(kind, answer)
    except CodecError:
        return answer
    if isinstance(value, HttpAnswer):
        value.headers = [pair for pair in value.headers if not _VOLATILE.fullmatch(pair[0])]
        value.chunks, value.delays = [b"".join(value.chunks)], []
    elif isinstance(value, Items):
        value.delays = []
    return codec.encode(value)[1]


def write(name: str, seed: str, envelope: bytes) -> bytes:
    """The line of an entry, without a line break.

    Args:
        name: the key.
        seed: the seed.
        envelope: what was given to the store: sealed, and encrypted perhaps.
    """
    parts = Parts.of(envelope)
    if parts is not None:
        try:
            line = _dumped(_shown(name, seed, parts))
            if _parts(parse(line)) == parts:
                return line
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            pass  # it has facts that JSON has no form for
    sealed = {"key": name, "seed": seed, "kind": _SEALED, "answer": base64_of(envelope)}
    return _dumped(sealed)


def read(line: bytes) -> bytes:
    """The envelope that `write` was given. Raises `ValueError`, which says what is wrong."""
    try:
        shown = parse(line)
        if shown["kind"] == _SEALED:
            return bytes_of(shown["answer"])
        return _parts(shown).sealed()
    except KeyError as error:
        raise ValueError(f"no {error}, or one that is not known") from error
    except (TypeError, AttributeError, RecursionError, OverflowError, struct.error) as error:
        raise ValueError(str(error)) from error
    except (CodecError, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from error


class Envelopes:
    """The envelopes of lines that were read or written, so that none is made twice.

    Those of many are all forgotten at once.
    """

    def __init__(self) -> None:
        self._kept: dict[Name, tuple[bytes, bytes]] = {}
        self._size = 0

    def of(self, name: Name, line: bytes) -> bytes:
        """The envelope of a line. Raises `ValueError`, as `read` does."""
        kept = self._kept.get(name)
        if kept is None or kept[0] != line:
            envelope = read(line)
            self.keep(name, line, envelope)
            return envelope
        return kept[1]

    def keep(self, name: Name, line: bytes, envelope: bytes) -> None:
        """Keep an envelope of which `write` made a line, or `read` the other way round."""
        self._size += len(line) + len(envelope)
        if self._size > _MOST_KEPT:
            self._kept.clear()
            self._size = len(line) + len(envelope)
        self._kept[name] = line, envelope


def equal(one: bytes, other: bytes) -> bool:
    """Whether two envelopes hold the same parts, however these are compressed."""
    return one == other or ((parts := Parts.of(one)) is not None and parts == Parts.of(other))


def same(one: bytes, other: bytes) -> bool:
    """Whether two envelopes hold the same answer to the same request: see `Parts.says`."""
    if one == other:
        return True
    parts, others = Parts.of(one), Parts.of(other)
    return parts is not None and others is not None and parts.says() == others.says()


def _dumped(shown: dict[str, Any]) -> bytes:
    try:
        return json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which has no UTF-8
        return json.dumps(shown, allow_nan=False).encode()


def _shown(name: str, seed: str, parts: Parts) -> dict[str, Any]:
    facts = parts.facts
    shown: dict[str, Any] = {"key": name, "seed": seed, "source": facts.source}
    if facts.model:
        shown["model"] = facts.model
    if parts.request:
        shown["request"] = _show_request(parts.request)
    shown["kind"] = parts.kind.name.lower()
    shown["answer"] = _show_answer(parts)
    if facts.tokens_in or facts.tokens_out:
        shown["tokens"] = [facts.tokens_in, facts.tokens_out]
    if facts.details:
        shown["details"] = _show_details(facts.details)
    if facts.declared is not None:
        shown["declared"] = _show_declared(facts.declared)
    shown["seconds"] = show_seconds(facts.seconds)
    shown["created"] = show_time(facts.created)
    if facts.expires:
        shown["expires"] = show_time(facts.expires)
    return shown


def _parts(shown: Any) -> Parts:
    kind = _KINDS[shown["kind"]]
    asked, told = shown.get("tokens", (0, 0))
    source, model = shown.get("source", ""), shown.get("model", "")
    if not isinstance(source, str) or not isinstance(model, str):
        raise TypeError("source and model are text")
    facts = Facts(
        _read_time(shown.get("created", 0.0)),
        # An envelope keeps it in four bytes.
        struct.unpack("<f", struct.pack("<f", shown.get("seconds", 0.0)))[0],
        _read_time(shown.get("expires", 0.0)),
        source,
        model,
        asked,
        told,
        _read_details(shown["details"]) if "details" in shown else (),
        _read_declared(shown["declared"]) if "declared" in shown else None,
    )
    request = _read_request(shown["request"]) if "request" in shown else b""
    return Parts(kind, _read_answer(kind, shown["answer"], request), request, facts)


def _show_answer(parts: Parts) -> Any:
    """What stands for an answer; of an alias what it keeps as a line without what both have."""
    if parts.kind is not Kind.ALIAS:
        return show_answer(parts.kind, parts.answer)
    try:
        alias = unpacked(parts.answer)
    except CodecError:
        return show_answer(parts.kind, parts.answer)
    shown: dict[str, Any] = {"of": alias.target}
    kept = Parts.of(alias.kept)
    if kept is not None and kept.request == parts.request and kept.sealed() == alias.kept:
        line = _shown("", "", kept)
        shown["kept"] = {name: line[name] for name in line if name not in _SHARED}
    elif alias.kept:
        shown["kept"] = {"base64": base64_of(alias.kept)}
    return shown


def _read_answer(kind: Kind, shown: Any, request: bytes) -> bytes:
    if kind is not Kind.ALIAS or "of" not in shown:
        return read_answer(kind, shown)
    kept = b""
    if "base64" in (line := shown.get("kept", {})):
        kept = bytes_of(line["base64"])
    elif line:
        kept = replace(_parts(line), request=request).sealed()
    packed = Alias(shown["of"], kept).packed()
    unpacked(packed)  # somebody may have edited it
    return packed


def _show_declared(declared: Declared) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if declared.rules:
        shown["rules"] = declared.rules
    if declared.by:
        shown["by"] = [[rule, rest.hex()] for rule, rest in declared.by]
    if declared.element:
        shown["element"] = True
    return shown


def _read_declared(shown: dict[str, Any]) -> Declared:
    by = tuple((_text(rule), bytes.fromhex(rest)) for rule, rest in shown.get("by", ()))
    return Declared(_text(shown.get("rules", "")), by, shown.get("element", False) is True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("what was declared is text")
    return value


def _show_details(details: Details) -> dict[str, int]:
    return {name: count for name, count in zip(DETAILS, details, strict=False) if count}


def _read_details(shown: dict[str, Any]) -> Details:
    counts = [shown.get(name, 0) for name in DETAILS]
    if not all(type(count) is int and 0 <= count < 2**32 for count in counts):
        raise ValueError("details are counts by name")
    return details_of(shown)


def _show_request(request: bytes) -> Any:
    try:
        shown = show_tree(key.decode_request(request))
        if _read_request(shown) == request:
            return shown
    except (ValueError, RecursionError, msgspec.MsgspecError):
        pass  # not as `key.encode` writes it: kept as it is
    return {"$bytes": base64_of(request)}


def _read_request(shown: Any) -> bytes:
    if isinstance(shown, dict) and shown.keys() == {"$bytes"}:
        return bytes_of(shown["$bytes"])
    return key.encode(read_tree(shown))


def show_seconds(seconds: float) -> float:
    """The shortest number that is the same in four bytes."""
    packed = struct.pack("<f", seconds)
    for digits in range(1, 10):
        short = float(f"{seconds:.{digits}g}")
        if struct.pack("<f", short) == packed:
            return short
    return seconds


def show_time(when: float) -> str | float:
    """A time as ISO 8601 in UTC, with as many digits as it takes to be exact."""
    text = repr(when)
    if not 0 <= when < _LAST_YEAR or "e" in text:
        return when
    whole, _, rest = text.partition(".")
    return f"{time.strftime(_CLOCK, time.gmtime(int(whole)))}.{rest}Z"


def _read_time(shown: str | float) -> float:
    if not isinstance(shown, str):
        return float(shown)
    match = _TIME.fullmatch(shown)
    if match is None:
        raise ValueError(f"{shown!r} is not a time like 2026-01-31T12:00:00.0Z")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    if hour > 23 or minute > 59 or second > 61:
        raise ValueError(f"{shown!r} is no time of a day")
    days = date(year, month, day).toordinal() - _EPOCH
    return float(f"{days * 86400 + hour * 3600 + minute * 60 + second}.{match[7]}")
