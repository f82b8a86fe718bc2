"""Requests that are compared: without what makes no difference, and the words that they say."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final, TypeAlias
from zlib import crc32

import msgspec

from cachewrap.entries.conversation import request_settings, request_turns
from cachewrap.errors import CachewrapError, ConfigurationError
from cachewrap.ledger.calls import Call
from cachewrap.request.key import decode_request, encode

Read: TypeAlias = Callable[[Call], bytes]
"""Gives the encoded request of a call; empty where it was not stored."""

_MOST_TEXT: Final = 32_000
"""Characters of a text, from its beginning and from its end, that are looked at."""

_SETUP: Final = frozenset({"system", "developer"})
_WORD: Final = re.compile(r"[^\W⺀-\U0003ffff]+|[⺀-\U0003ffff]")
_MODELS: Final = re.compile(r"(?<=/models/)[^/:?]+|(?<=/deployments/)[^/:?]+|(?<=/model/)[^/:?]+")
_VERSION: Final = re.compile(r" (?:/[^/ ]+)*/v[0-9][a-z0-9]*(?=/)")
_PATH: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\*)\]")
_PARTS: Final = ("body", "arguments")
_NAMED: Final = frozenset(
    "!pydantic !dataclass !attrs !struct !object !namedtuple !subclass !type".split()
)


@dataclass(slots=True)
class Asked:
    """A request as one run made it, once or several times.

    Attributes:
        call: a call that stands for them: the last one that was answered, else the last.
        count: how many calls there are.
        first: the number of the first of them.
    """

    call: Call
    count: int
    first: int

    def add(self, call: Call) -> None:
        """Count another call."""
        self.count += 1
        self.first = min(self.first, call.number)
        if _standing(call) > _standing(self.call):
            self.call = call


def _standing(call: Call) -> tuple[float, float]:
    return call.answered, call.started


class Ignored:
    """The fields of requests that make no difference.

    Args:
        paths: where they are, as differences name them: ``model``, ``messages[0].content``,
            ``messages[*].name``, ``metadata.*``, ``headers.x-*``. A field of a tool's arguments
            that are JSON in a text is meant as well.

    Raises `ConfigurationError` for what is no path.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._paths = {path: _steps(path) for path in paths}
        self._unmet: set[str] | None = None

    @property
    def unmet(self) -> list[str]:
        """The paths of which no request has had a field; none before there was a request."""
        return [path for path in self._paths if path in (self._unmet or ())]

    def read(self, raw: bytes) -> Any:
        """A request, encoded, without them; None for one that cannot be read."""
        if not raw:
            return None
        try:
            request = decode_request(raw)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            return None
        return self.out_of(request)

    def out_of(self, request: Any) -> Any:
        """A request without them; the very one where there are none."""
        whole = request
        if self._unmet is None:
            self._unmet = set(self._paths)
        for path, steps in self._paths.items():
            if path in self._unmet and _field_out_of(whole, steps) != whole:
                self._unmet.remove(path)
            request = _field_out_of(request, steps)
        return request

    def words(self, raw: bytes) -> array[int]:
        """What a request says, as numbers in order."""
        return said_in_request(self.read(raw))[1]


def _steps(path: str) -> list[str]:
    """A path in its steps: names, and ``[0]`` or ``[*]``."""
    steps: list[str] = []
    at = 0
    while at < len(path) and (found := _PATH.match(path, at)) is not None:
        steps.append(found[1] or f"[{found[2]}]")
        at = found.end()
    if not steps or at < len(path):
        raise ConfigurationError(
            f"{path!r} is no path of a field: write model, messages[0].content or metadata.*"
        )
    return steps


def _field_out_of(request: Any, steps: list[str]) -> Any:
    """A request without one field, of itself or of its body or arguments."""
    request = _without(request, steps)
    for part in _PARTS:
        if isinstance(request, dict) and isinstance(request.get(part), dict):
            request = {**request, part: _without(request[part], steps)}
    return request


_GONE: Final = object()


def _without(value: Any, steps: list[str]) -> Any:
    """A value without what is at the end of some steps, which changes nothing in the value."""
    if not steps:
        return _GONE
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict):
        if len(value) == 1 and (tag := next(iter(value))).startswith("!"):
            return {tag: _in_tag(tag, value[tag], steps)}
        found = {
            name: _without(inner, rest) if fnmatchcase(name, step) else inner
            for name, inner in value.items()
        }
        return {name: inner for name, inner in found.items() if inner is not _GONE}
    if isinstance(value, list) and step[:1] == "[":
        found_at = [
            _without(inner, rest) if step in ("[*]", f"[{at}]") else inner
            for at, inner in enumerate(value)
        ]
        return [None if inner is _GONE else inner for inner in found_at]
    if isinstance(value, str) and value[:1] == "{":
        try:
            return json.dumps(_without(json.loads(value), steps))
        except (ValueError, RecursionError):
            return value
    return value


def _in_tag(tag: str, inner: Any, steps: list[str]) -> Any:
    """What a tag stands for, without a field: its fields are known without the tag."""
    if tag == "!members" and isinstance(inner, list):
        kept = _without({str(name): value for name, value in inner}, steps)
        return [[name, value] for name, value in kept.items()]
    if tag in _NAMED and isinstance(inner, list):
        return [*inner[:1], *(_without(part, steps) for part in inner[1:])]
    return _without(inner, steps)


def place_of(one: Any) -> tuple[str, str]:
    call = one.call
    return call.seed, call.key


class Request:
    """A request of which no other has the key.

    Attributes:
        asked: the calls.
        call: the one that stands for them.
        kind: only requests of one kind are paired: of one endpoint or function, and one sample.
        whole: a digest of it without what is ignored; empty where it was not stored.
        bare: the same without the model.
        said: the same of what is said alone.
        words: what it says, as numbers in order.
    """

    __slots__ = ("_read", "_skip", "asked", "bare", "call", "kind", "said", "whole", "words")

    def __init__(self, asked: Asked, read: Read, skip: Ignored) -> None:
        self.asked, self.call = asked, asked.call
        self._read, self._skip = read, skip
        self.kind = kind_of(asked.call.source), asked.call.sample
        self.whole = self.bare = self.said = b""
        self.words: array[int] = array("I")
        request = self.request()
        if request is None:
            return
        self.whole = _digest(request)
        self.bare = _digest(without_model(request))
        self.said, self.words = said_in_request(request)

    def request(self) -> Any:
        """The request without what is ignored; None where it was not stored or cannot be read."""
        return self._skip.read(self._read(self.call))


def kind_of(source: str) -> str:
    """What a source has in common with those of other models, versions and modules."""
    source = _MODELS.sub("*", source)
    return _VERSION.sub(" ", source) if " /" in source else source.rpartition(":")[2]


def without_model(request: Any) -> Any:
    """A request without the name of the model."""
    if not isinstance(request, dict):
        return request
    bare = dict(request)
    if isinstance(url := bare.get("url"), str):
        bare["url"] = _MODELS.sub("*", url)
    for part in ("body", "arguments"):
        if isinstance(inner := bare.get(part), dict) and "model" in inner:
            bare[part] = {name: value for name, value in inner.items() if name != "model"}
    return bare


def _digest(value: Any) -> bytes:
    try:
        return hashlib.blake2b(encode(value), digest_size=12).digest()
    except CachewrapError:
        return b""


def said_in_request(request: Any) -> tuple[bytes, array[int]]:
    """A digest of what is said in a request, and its words."""
    try:
        turns = request_turns(request)
        settings = request_settings(request)
    except (CachewrapError, ValueError, TypeError, RecursionError):
        return b"", array("I")
    whole = hashlib.blake2b(digest_size=12)
    for turn in turns:
        whole.update(f"{turn.role}\0{turn.text}\0".encode(errors="replace"))
    spoken = [turn.text for turn in turns if turn.role not in _SETUP] or [t.text for t in turns]
    found: set[int] = set()
    for text in spoken:
        if len(text) > 2 * _MOST_TEXT:
            text = f"{text[:_MOST_TEXT]} {text[-_MOST_TEXT:]}"
        found.update(map(_number, _WORD.findall(text)))
    for name, value in settings.items():
        if isinstance(value, (str, int, float, bool)) and name != "model":
            found.add(_number(f"{name}={value!r}"))
    return whole.digest() if turns else b"", array("I", sorted(found))


@lru_cache(maxsize=2**16)
def _number(word: str) -> int:
    return crc32(word.encode(errors="replace"))
