"""The texts of a request and its answer, scrubbed by a function of the user's before they are kept.

An answer is taken apart in the form in which a cassette shows it: there the texts are texts, of
values and of JSON in bodies alike. A text that comes in parts, as in a stream, is scrubbed as a
whole too, and cut again where it was cut before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.errors import CodecError, ConfigurationError
from cachewrap.format import codec
from cachewrap.request.key import decode_request, encode
from cachewrap.request.values import LOADERS, is_tag, mend_str
from cachewrap.stores.jsonl.shown import read_answer, read_body, show_answer, show_body

Scrub: TypeAlias = Callable[[str], str]
"""Gives a text without what is not to be stored."""

_Place: TypeAlias = tuple[Any, Any, tuple[Any, ...]]
"""A container, where in it a text stands, and the path to it."""

_NAMED: Final = frozenset(
    {
        *("!attrs", "!dataclass", "!defaultdict", "!namedtuple", "!path", "!plugin", "!pydantic"),
        *("!struct", "!subclass", "!url"),
    }
)
"""The tags in which the name of a class comes first."""

_HOLDING: Final = frozenset(
    {
        *("!deque", "!dict", "!frozenset", "!mappingproxy", "!members", "!namespace", "!ordered"),
        *("!set", "!tuple"),
    }
)
"""The tags of containers. Inside of every other one is no text of anybody's."""

_PARTS: Final = frozenset(
    """
    created event_id finish_reason id index item_id model object obfuscation role service_tier
    status stop_reason system_fingerprint type
    """.split()
)
"""Names of what stands in every event of a stream, and is no part of a longer text."""

_EVENT: Final = re.compile(rb".*?(?:\r?\n){2}|.+", re.DOTALL)
_FRAMES: Final = "application/vnd.amazon.eventstream"
_WRONG: Final = "scrub= of the cache"
_NOT_STORED: Final = "so the answer is not stored"


def scrubbed(scrub: Scrub, kind: Kind, answer: bytes, request: bytes) -> tuple[bytes, bytes]:
    """An answer and a request, as they are encoded, without what a function takes out.

    Raises `ConfigurationError` where the function raises or gives no text, and where what it took
    out is what makes the answer one.
    """
    own = _Scrubber(scrub)
    try:
        clean = own.answer(kind, answer)
        if clean != answer:
            codec.decode(kind, clean)
    except (CodecError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"{_WRONG} changed what makes an answer one, {_NOT_STORED}: {error}"
        ) from error
    return clean, own.request(request)


def scrubbed_request(scrub: Scrub, request: bytes) -> bytes:
    """An encoded request without what a function takes out; empty for one that cannot be read."""
    return _Scrubber(scrub).request(request)


class _Scrubber:
    """One function at work."""

    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub

    def text(self, text: str) -> str:
        if not text:
            return text
        try:
            clean = self._scrub(text)
        except Exception as error:
            raise ConfigurationError(
                f"{_WRONG} raised {error!r} for a text of {len(text)} characters, {_NOT_STORED}:"
                " mend the function"
            ) from error
        if not isinstance(clean, str):
            raise ConfigurationError(
                f"{_WRONG} gave {type(clean).__name__} in place of a text, {_NOT_STORED}: it takes"
                " one text and returns it, changed or as it is"
            )
        return clean

    def request(self, request: bytes) -> bytes:
        if not request:
            return request
        try:
            tree = decode_request(request)
            if not isinstance(tree, dict):
                return b""
            names = {"function", "method"}
            holder = {name: inner for name, inner in tree.items() if name not in names}
            return encode({**tree, **self._tree(holder, renames="function" in tree)})
        except (msgspec.MsgspecError, RecursionError):
            return b""

    def answer(self, kind: Kind, answer: bytes) -> bytes:
        if kind is Kind.TEXT:
            return self.text(answer.decode()).encode()
        if kind is Kind.HTTP:
            return codec.encode(self._http(codec.decode(kind, answer)))[1]
        if kind is Kind.ITEMS:
            return codec.encode(self._items(codec.decode(kind, answer)))[1]
        holder, at = _value(kind, answer)
        holder[at] = self._tree(holder[at])
        return read_answer(kind, holder)

    # -- trees --------------------------------------------------------------------------------

    def _tree(self, tree: Any, *, renames: bool = True) -> Any:
        """A tree with its texts scrubbed, and the names in its dictionaries if they are data."""
        holder = [tree]
        self._each(holder)
        return self._renamed(holder[0]) if renames else holder[0]

    def _each(self, tree: Any) -> list[_Place]:
        """Scrub every text by itself, in its place."""
        places = list(_places(tree))
        for holder, at, _ in places:
            holder[at] = self.text(holder[at])
        self._surrogates(tree)
        return places

    def _surrogates(self, tree: Any) -> None:
        """Scrub texts with half a surrogate, which stand in a form of their own."""
        for holder, at in _marked(tree, "!str"):
            text = LOADERS["!str"](holder[at]["!str"])
            holder[at] = mend_str(self.text(text))

    def _renamed(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self._renamed(inner) for inner in tree]
        if not isinstance(tree, dict):
            return tree
        if len(tree) == 1:
            ((name, inner),) = tree.items()
            if name in _NAMED and isinstance(inner, list):
                return {name: [inner[0], *map(self._inside, inner[1:])]}
            if name[:1] in ("!", "$"):
                return {name: self._renamed(inner)} if name in _HOLDING else tree
        renamed = {self.text(name): self._renamed(inner) for name, inner in tree.items()}
        if len(renamed) < len(tree):
            raise ConfigurationError(
                f"{_WRONG} gave two names of one dictionary the same text, {_NOT_STORED}: number"
                " what it puts in their places"
            )
        return renamed

    def _inside(self, state: Any) -> Any:
        """The state of an object: the names in it are its fields."""
        if isinstance(state, dict):
            return {name: self._renamed(inner) for name, inner in state.items()}
        return self._renamed(state)

    def _joined(self, places: list[_Place]) -> None:
        """Scrub each text that comes in several parts as a whole."""
        parts: dict[tuple[Any, ...], list[_Place]] = {}
        for place in places:
            if place[2][-1] not in _PARTS:
                parts.setdefault(place[2], []).append(place)
        for same in parts.values():
            whole = "".join(holder[at] for holder, at, _ in same)
            clean = self.text(whole) if len(same) > 1 else whole
            if clean == whole:
                continue
            for holder, at, _ in same[:-1]:
                length = len(holder[at])
                holder[at], clean = clean[:length], clean[length:]
            holder, at, _ = same[-1]
            holder[at] = clean

    # -- HTTP answers -------------------------------------------------------------------------

    def _http(self, answer: HttpAnswer) -> HttpAnswer:
        headers = [
            (name, value if name.lower().startswith("content-") else self.text(value))
            for name, value in answer.headers
        ]
        body = b"".join(answer.chunks)
        kinds = [value for name, value in answer.headers if name.lower() == "content-type"]
        parts = self._body(body, kinds[0] if kinds else "")
        chunks, delays = answer.chunks, answer.delays
        if b"".join(parts) != body:
            chunks, delays = parts, self._delays(parts, answer) if delays else []
            if not delays:
                chunks = [b"".join(parts)]
        return HttpAnswer(answer.status, headers, chunks, delays, answer.streamed)

    def _delays(self, parts: list[bytes], answer: HttpAnswer) -> list[float]:
        """When each part of what was scrubbed came: with the share of the body that was there."""
        ends, total = [], 0
        for chunk in answer.chunks:
            total += len(chunk)
            ends.append(total)
        size, at, number, delays = sum(map(len, parts)) or 1, 0, 0, []
        for part in parts:
            at += len(part)
            while number < len(ends) - 1 and ends[number] * size < at * total:
                number += 1
            delays.append(answer.delays[min(number, len(answer.delays) - 1)])
        return delays

    def _body(self, body: bytes, content_type: str) -> list[bytes]:
        """The parts of a body without what is taken out: the events of a stream, else the whole."""
        if content_type.startswith(_FRAMES):
            raise ConfigurationError(
                f"{_WRONG} cannot see into a stream of {_FRAMES}, {_NOT_STORED}: ask without"
                " streaming"
            )
        try:
            body.decode()
        except UnicodeDecodeError:
            return [body]  # no text
        if content_type.startswith("text/event-stream") or body.startswith((b"data:", b"event:")):
            return self._records(_EVENT.findall(body))
        if body[:1] in (b"{", b"["):
            shown = _json_of(body)
            if shown is not None:
                shown["json"] = self._tree(shown["json"], renames=False)
                return [_written(shown, body)]
            lines = body.splitlines(keepends=True)
            if len(lines) > 1:
                return self._records(lines)
        return [self.text(body.decode()).encode()]

    def _records(self, parts: list[bytes]) -> list[bytes]:
        """Events, or lines of JSON, the texts of which belong together."""
        lines = [part.splitlines(keepends=True) for part in parts]
        records: list[tuple[int, int, bytes, dict[str, Any], bytes, bytes]] = []
        places: list[_Place] = []
        for i, part in enumerate(lines):
            for j, line in enumerate(part):
                bare = line.rstrip(b"\r\n")
                start = bare[: len(bare) - len(bare.removeprefix(b"data:").lstrip(b" "))]
                data = bare[len(start) :]
                if bare.startswith((b"event:", b":")) or not data or data == b"[DONE]":
                    continue
                shown = _json_of(data)
                if shown is None:
                    part[j] = start + self.text(data.decode()).encode() + line[len(bare) :]
                    continue
                holder = [shown["json"]]
                places += self._each(holder)
                shown["json"] = holder
                records.append((i, j, start, shown, data, line[len(bare) :]))
        self._joined(places)
        for i, j, start, shown, data, end in records:
            shown["json"] = shown["json"][0]
            lines[i][j] = start + _written(shown, data) + end
        return [b"".join(part) for part in lines]

    # -- items of a generator -----------------------------------------------------------------

    def _items(self, items: Items) -> Items:
        places: list[_Place] = []
        shown = []
        for kind, answer in items.values:
            holder: Any
            at: Any
            if kind is Kind.TEXT:
                holder, at = [answer.decode()], 0
            else:
                holder, at = _value(kind, answer)
            inside = [holder[at]]
            places += self._each(inside)
            shown.append((kind, holder, at, inside))
        self._joined(places)
        values = []
        for kind, holder, at, inside in shown:
            holder[at] = self._renamed(inside[0])
            whole = holder[0] if kind is Kind.TEXT else holder
            values.append((kind, read_answer(kind, whole)))
        kind, returned = items.returned
        return Items(values, items.delays, (kind, self.answer(kind, returned)))


def _value(kind: Kind, answer: bytes) -> tuple[dict[str, Any], str]:
    """A value as a cassette shows it, and the name under which its tree is."""
    shown = show_answer(kind, answer)
    if "base64" in shown:
        raise ValueError("a value has no form in which its texts can be told")
    return shown, next(iter(shown))


def _json_of(data: bytes) -> dict[str, Any] | None:
    """JSON in the form of a cassette, which knows how it is written; None for what is none."""
    shown = show_body(data)
    if "json" in shown:
        return shown
    try:
        return {"json": json.loads(data)} if data[:1] in (b"{", b"[") else None
    except (ValueError, RecursionError):
        return None


def _written(shown: dict[str, Any], data: bytes) -> bytes:
    """JSON as it is written; as it was, where nothing is taken out."""
    return data if json.loads(data) == shown["json"] else read_body(shown)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[_Place]:
    """Where texts stand in a tree, but for those that are names of classes and their like."""
    pairs: Any
    if isinstance(tree, dict):
        if len(tree) == 1:
            ((name, inner),) = tree.items()
            if name in _NAMED and isinstance(inner, list):
                fields = name == "!pydantic"  # the names of those that are set are a list
                for at, part in enumerate(inner):
                    if at and not (fields and isinstance(part, list)):
                        yield from _in_place(inner, at, part, (*path, name, at))
                return
            if str(name)[:1] in ("!", "$") and name not in _HOLDING and name != "$dict":
                return
        same = tuple(tree.get(n) for n in ("type", "index", "output_index", "content_index"))
        path = (*path, *(mark for mark in same if isinstance(mark, (str, int))))
        pairs = tree.items()
    else:
        pairs = enumerate(tree)
    for at, inner in pairs:
        step: Any = at
        if isinstance(at, int) and isinstance(inner, dict) and isinstance(inner.get("index"), int):
            step = "index"  # which of several it is says the item itself
        yield from _in_place(tree, at, inner, (*path, step))


def _in_place(holder: Any, at: Any, inner: Any, path: tuple[Any, ...]) -> Iterator[_Place]:
    if isinstance(inner, str):
        yield holder, at, path
    elif isinstance(inner, (dict, list)):
        yield from _places(inner, path)


def _marked(tree: Any, mark: str) -> list[tuple[Any, Any]]:
    """Where values with a mark stand in a tree."""
    found, ahead = [], [tree]
    while ahead:
        holder = ahead.pop()
        for at, inner in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(inner, dict) and len(inner) == 1 and is_tag(inner) and mark in inner:
                found.append((holder, at))
            elif isinstance(inner, (dict, list)):
                ahead.append(inner)
    return found
