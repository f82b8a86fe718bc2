"""The one place in which the calls of a run that missed differ from what was stored before it.

Where a program sends a number of its own making with each request, no call is ever a hit, and
everything is stored anew by every run. That shows in the store, and is told with the option to
write: of what is stored and asked no value is told, and names alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from cachewrap.cache import Cache
from cachewrap.entry import Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.explain.equal import UNREADABLE, Lacking, of_size, sets_of
from cachewrap.explain.texts import common_prefix
from cachewrap.keyed import QUESTION
from cachewrap.request.key import decode_request
from cachewrap.secrets import HIDDEN, KEYED
from cachewrap.stores.base import scan

_SECONDS: Final = 1.0
"""How long is looked, at most."""

_APART: Final = 4096
"""Bytes in which two encoded requests differ at most that differ in what only tracks."""

_NAME: Final = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)

# Settings, in texts and objects, that decide an answer: nobody is told to leave them out.
_DECIDING: Final = QUESTION | frozenset(
    """
    agent_id assistant_id audio_url background cached_content cachedcontent container content-type
    context document_url effort encoding_format endpoint file_id file_ids file_url format
    function_call generationconfig generation_config guided_choice guided_json guided_regex
    helicone-target-url include input_type logit_bias mcp_servers modalities options output_config
    output_format parameters plugins prediction preset provider quality reasoning reasoning_effort
    response_format route safetysettings service_tier size stop stop_sequences store stream_options
    style thinking tool_choice tool_config toolconfig transforms truncate truncation verbosity voice
    voice_id web_search_options
    """.split()
)
# What is in the names of further ones.
_DECIDING_WORD: Final = re.compile(
    r"adapter|beta|config$|deployment|grammar|language|lora|model|prompt|schema|template|version"
)
_NUMBERS: Final = (bool, int, float)
_TRACKING: Final = re.compile(r"(?=\D*\d)\S+")


class Place(NamedTuple):
    """A place in a request: what it is, and its name; or the ready ``"set"`` of rules for many."""

    kind: str
    name: str


_Sized: TypeAlias = tuple[Callable[[bytes], float | None], list[bytes]]

_OF_SIZE: Final = 16
"""Requests of one's size, at most, that rules are tried on."""

_KINDS: Final = {"headers": "header", "query": "query parameter", "body": "field"}


def place_apart(cache: Cache, missed: Sequence[str], began: float) -> Place | None:
    """The one place in which some requests each differ from one that was stored before a run.

    Where there is none, the ready set of rules that makes each equal to one. None where there is
    none either, or a short look finds none.

    Args:
        cache: the cache of the run.
        missed: keys under which answers of calls that missed were stored.
        began: when the run began, in seconds since the epoch.

    Raises `StoreError`.
    """
    if cache.policy.mode != "normal":
        return None
    until = time.monotonic() + _SECONDS
    asked = [request for key in missed if (request := _request(cache, key))]
    found: list[set[Place]] = [set() for _ in asked]
    sizes: list[_Sized] = [(of_size(one), []) for one, _ in asked]
    if not asked:
        return None
    for key, encoded in _before(cache, began, until):
        for (one, plain), places in zip(asked, found, strict=True):
            if key not in missed and _is_near(one, encoded):
                places.update(_difference(encoded, plain))
        for is_alike, others in sizes:
            if len(others) < _OF_SIZE and key not in missed and is_alike(encoded) is not None:
                others.append(encoded)
        common = set.intersection(*found)
        if new := [place for place in common if place.name.lower() not in cache.policy.unkeyed]:
            return min(new)
    lacks = [
        _lacking(Lacking(cache.policy.same, plain), others)
        for (_, plain), (_, others) in zip(asked, sizes, strict=True)
    ]
    # What only steers and tracks is one place, or was left unnamed with reason.
    names = sets_of(rule for rules in lacks for rule in rules)
    return Place("set", " and ".join(names)) if all(lacks) and "AGENTS" in names else None


def _lacking(lacking: Lacking, others: list[bytes]) -> tuple[str, ...]:
    """The rules of ready sets that make a request equal to one of others."""
    for encoded in others:
        with suppress(*UNREADABLE):
            if (old := _decoded(encoded)) and (rules := lacking.between(old)):
                return rules
    return ()


def _request(cache: Cache, key: str) -> tuple[bytes, dict[str, Any]] | None:
    """A request that is stored, as it is and decoded."""
    raw = cache.store.get(key)
    with suppress(CorruptEntryError):
        if raw is not None and (encoded := _read(cache, key, raw, until=None)):
            plain = _decoded(encoded)
            return None if plain is None else (encoded, plain)
    return None


def _before(cache: Cache, began: float, until: float) -> Iterator[tuple[str, bytes]]:
    """The requests over HTTP that were stored before the run, as long as there is time."""
    for key, raw in scan(cache.store):
        if time.monotonic() > until:
            return
        with suppress(CorruptEntryError):
            if encoded := _read(cache, key, raw, until=began):
                yield key, encoded


def _read(cache: Cache, key: str, raw: bytes, until: float | None) -> bytes:
    entry = cache._guard.unseal(key, raw)
    if entry.kind is not Kind.HTTP or (until is not None and entry.created >= until):
        return b""
    request: bytes = entry.read_record()["request"]
    return request


def _decoded(encoded: bytes) -> dict[str, Any] | None:
    try:
        plain = decode_request(encoded)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def _is_near(one: bytes, other: bytes) -> bool:
    """Whether two encoded requests are the same but for a few bytes: a quick look."""
    head = common_prefix(one, other)
    tail = common_prefix(one[head:][::-1], other[head:][::-1])
    return max(len(one), len(other)) - head - tail <= _APART


def _difference(encoded: bytes, new: dict[str, Any]) -> Iterator[Place]:
    """The place in which a stored request differs from a newer one, if it is one alone.

    Where what is stored shows no difference, it is in what is stored as hidden.
    """
    old = _decoded(encoded)
    if old is None:
        return
    apart, hidden = [], []
    for part in {**old, **new}:
        one, other = old.get(part), new.get(part)
        if part in _KINDS and all(isinstance(value, Mapping) for value in (one or {}, other or {})):
            for name in {**(one or {}), **(other or {})}:
                values = (one or {}).get(name), (other or {}).get(name)
                if values[0] != values[1]:
                    apart.append((part, name, values))
                elif HIDDEN in str(values[0]):
                    hidden.append((part, name, values))
        elif one != other:
            return
    if len(apart) + len(hidden) == 1:
        ((part, name, values),) = apart or hidden
        if _may_track(part, name, values):
            yield Place(_KINDS[part], name)


def _may_track(part: str, name: str, values: tuple[Any, Any]) -> bool:
    """Whether what differs may only steer or track: no setting, and nothing that is asked."""
    return (
        _NAME.fullmatch(name) is not None
        and name.lower() not in _DECIDING
        and not _DECIDING_WORD.search(name.lower())
        and (part == "headers" or all(_is_own_number(name, value) for value in values))
        and not any(isinstance(value, _NUMBERS) for value in values)
        and not any(isinstance(value, str) and value.startswith(KEYED) for value in values)
    )


def _is_own_number(name: str, value: Any) -> bool:
    """Whether a value may be a number of the program's own making, or is not there."""
    if isinstance(value, Mapping):
        return name.lower().endswith("metadata")
    if isinstance(value, list):
        return all(_is_own_number(name, one) for one in value)
    if isinstance(value, str):
        return HIDDEN in value or _TRACKING.fullmatch(value) is not None
    return value is None
