"""The texts of a request and its answer, scrubbed by a function of the user's before they are kept.

An answer is taken apart in the form in which a cassette shows it: there the texts are texts, of
values and of JSON in bodies alike. A text that comes in parts, as in a stream, is scrubbed as a
whole too, and cut again where it was cut before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.errors import CodecError, ConfigurationError
from cachewrap.format import codec
from cachewrap.request.key import SCRUBBED, decode_request, encode
from cachewrap.request.values import LOADERS, is_tag, mend_str
from cachewrap.stores.jsonl.shown import read_answer, read_body, show_answer, show_body

Scrub: TypeAlias = Callable[[str], str]
"""Gives a text without what is not to be stored."""

_Place: TypeAlias = tuple[Any, Any, tuple[Any, ...]]
"""A container, where in it a text stands, and the path to it."""

_NAMED: Final = frozenset(
    {
        *("!attrs", "!dataclass", "!defaultdict", "!namedtuple", "!object", "!path", "!plugin"),
        *("!pydantic", "!struct", "!subclass", "!url"),
    }
)
"""The tags in which the name of a class comes first."""

_HOLDING: Final = frozenset(
    {
        *("!deque", "!dict", "!frozenset", "!mappingproxy", "!members", "!namespace", "!ordered"),
        *("!partial", "!pattern", "!set", "!tuple"),
    }
)
"""The tags of containers. Inside of every other one is no text of anybody's."""

_VALUE: Final = "$"
_TAGGED: Final = "!$"
_REQUEST: Final = "!"
_JSON: Final = ""
"""What the names of marks begin with: in JSON that is nobody's but the user's there are none."""

_PARTS: Final = frozenset(
    """
    created event_id finish_reason id index item_id model object obfuscation role service_tier
    status stop_reason system_fingerprint type
    """.split()
)
"""Names of what stands in every event of a stream, and is no part of a longer text."""

_PROTOCOL: Final = re.compile(r"[A-Za-z_$][\w$.-]*", re.ASCII)
"""What the names of an API's fields look like."""

_FREE: Final = frozenset({"args", "arguments", "input", "metadata"})
"""Fields of an API whose dictionaries have names of the user's."""

_KEPT: Final = frozenset({"content-type", "content-length", "content-encoding"})
_TEXTUAL: Final = re.compile(r"text/|[^;]*(?:json|xml)|.*charset", re.IGNORECASE)
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_SPACE: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*")
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


def scrubbed_text(scrub: Scrub, text: str) -> str:
    """A text without what a function takes out."""
    return _Scrubber(scrub).text(text)


def scrubbed_request(scrub: Scrub, request: bytes) -> bytes:
    """An encoded request without what a function takes out; empty for one that cannot be read."""
    return _Scrubber(scrub).request(request)


class _Scrubber:
    """One function at work."""

    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub

    def text(self, text: str) -> str:
        """A text without what is taken out: where it is JSON, each of the texts in it too."""
        if text[:1] in ("{", "[", '"'):
            text = self._json_in(text)
        return self._plain(text)

    def _json_in(self, text: str) -> str:
        """JSON that stands in a text, as what a tool is called with: its escapes hide letters."""
        try:
            data = text.encode()
            shown = _json_of(data)
            if shown is None:
                return text
            holder = [shown["json"]]
            for inside, at, value in _numbers(holder):
                if self._plain(number := json.dumps(value)) != number:
                    inside[at] = self._plain(number)
            shown["json"] = self._renamed(self._tree(holder[0], _JSON, renames=False), _JSON)
            return _written(shown, data).decode()
        except (UnicodeError, RecursionError):
            return text

    def _plain(self, text: str) -> str:
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
            # An endpoint is asked in the names of its API.
            clean = self._tree(holder, _REQUEST, protocol="function" not in tree)
            changed = {**tree, **clean} != decode_request(request)
            return encode({**tree, **clean, SCRUBBED: True}) if changed else request
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
        holder[at] = self._tree(holder[at], _marks(at))
        return read_answer(kind, holder)

    # -- trees --------------------------------------------------------------------------------

    def _tree(self, tree: Any, marks: str, *, renames: bool = True, protocol: bool = False) -> Any:
        """A tree with its texts scrubbed, and the names in its dictionaries if they are data."""
        holder = [tree]
        self._each(holder, _places(holder, marks), marks)
        return self._renamed(holder[0], marks, protocol=protocol) if renames else holder[0]

    def _each(self, tree: Any, places: Iterable[_Place], marks: str) -> None:
        """Scrub every text by itself, in its place."""
        for holder, at, _ in list(places):
            holder[at] = self.text(holder[at])
        if "!" not in marks:
            return
        for holder, at in _marked(tree, "!str"):  # half a surrogate has a form of its own
            text = LOADERS["!str"](holder[at]["!str"])
            holder[at] = mend_str(self.text(text))

    def _renamed(self, tree: Any, marks: str, *, protocol: bool = False) -> Any:
        """A tree with the names in its dictionaries scrubbed, but for those of an API."""
        if isinstance(tree, list):
            return [self._renamed(inner, marks, protocol=protocol) for inner in tree]
        if not isinstance(tree, dict):
            return tree
        if mark := _mark(tree, marks):
            inner = tree[mark]
            if mark in _NAMED and isinstance(inner, list):
                return {mark: [inner[0], *(self._inside(part, marks) for part in inner[1:])]}
            if mark != "$dict":
                return {mark: self._renamed(inner, marks)} if mark in _HOLDING else tree
            return {mark: self._names(inner, marks, protocol)}
        return self._names(tree, marks, protocol)

    def _names(self, tree: dict[str, Any], marks: str, protocol: bool) -> dict[str, Any]:
        renamed = {}
        for name, inner in tree.items():
            kept = protocol and _PROTOCOL.fullmatch(name)
            below = protocol and not (name in _FREE and isinstance(inner, dict))
            clean = name if kept else self._plain(name)
            renamed[clean] = self._renamed(inner, marks, protocol=below)
        if len(renamed) < len(tree):
            raise ConfigurationError(
                f"{_WRONG} gave two names of one dictionary the same text, {_NOT_STORED}: number"
                " what it puts in their places"
            )
        return renamed

    def _inside(self, state: Any, marks: str) -> Any:
        """The state of an object: the names in it are its fields."""
        if isinstance(state, dict) and not _mark(state, marks):
            return {name: self._renamed(inner, marks) for name, inner in state.items()}
        return self._renamed(state, marks)

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
            (name, value if name.lower() in _KEPT else self.text(value))
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
            return [self._encoded(body, content_type)]
        if content_type.startswith("text/event-stream") or body.startswith((b"data:", b"event:")):
            return self._records(_EVENT.findall(body))
        space = _SPACE.match(body)
        head = space[0] if space else b""
        bare = body[len(head) :]
        if bare[:1] in (b"{", b"["):
            shown = _json_of(bare)
            if shown is not None:
                shown["json"] = self._answer_tree(shown["json"])
                return [head + _written(shown, bare)]
            lines = body.splitlines(keepends=True)
            if len(lines) > 1:
                return self._records(lines)
        return [head + self.text(bare.decode()).encode()]

    def _encoded(self, body: bytes, content_type: str) -> bytes:
        """Text in another encoding than UTF-8; bytes that are no text stay as they are."""
        if not _TEXTUAL.match(content_type):
            return body
        named = _CHARSET.search(content_type)
        for charset in (named[1] if named else "utf-16", "latin-1"):
            try:
                text = body.decode(charset)
                if text.encode(charset) != body:
                    continue
            except (LookupError, UnicodeError):
                continue
            clean = self.text(text)
            return body if clean == text else clean.encode(charset, "backslashreplace")
        raise AssertionError("every byte is a letter of latin-1")

    def _answer_tree(self, tree: Any) -> Any:
        """JSON of an answer; the elements of a list may be parts of one stream."""
        parts = tree if isinstance(tree, list) else []
        if len(parts) > 1 and all(isinstance(part, dict) for part in parts):
            self._joined([place for part in parts for place in _places([part], _JSON)])
        return self._tree(tree, _JSON, protocol=True)

    def _records(self, parts: list[bytes]) -> list[bytes]:
        """Events, or lines of JSON, the texts of which belong together."""
        lines = [part.splitlines(keepends=True) for part in parts]
        records: list[tuple[int, int, bytes, dict[str, Any], bytes, bytes]] = []
        for i, part in enumerate(lines):
            for j, line in enumerate(part):
                bare = line.rstrip(b"\r\n")
                start = bare[: len(bare) - len(bare.removeprefix(b"data:").lstrip(b" "))]
                data = bare[len(start) :]
                if bare.startswith(b"event:") or not data or data == b"[DONE]":
                    continue
                shown = _json_of(data)
                if shown is None:
                    part[j] = start + self.text(data.decode()).encode() + line[len(bare) :]
                    continue
                shown["json"] = [shown["json"]]
                records.append((i, j, start, shown, data, line[len(bare) :]))
        # As a whole first: what is taken out of a part hides what it was a part of.
        self._joined([place for record in records for place in _places(record[3]["json"], _JSON)])
        for i, j, start, shown, data, end in records:
            shown["json"] = self._tree(shown["json"][0], _JSON, protocol=True)
            lines[i][j] = start + _written(shown, data) + end
        return [b"".join(part) for part in lines]

    # -- items of a generator -----------------------------------------------------------------

    def _items(self, items: Items) -> Items:
        places: list[_Place] = []
        shown: list[tuple[Kind, Any, Any, list[Any], str]] = []
        for kind, answer in items.values:
            holder: Any
            at: Any
            if kind is Kind.TEXT:
                holder, at, marks = [answer.decode()], 0, _JSON
            else:
                holder, at = _value(kind, answer)
                marks = _marks(at)
            inside = [holder[at]]
            places += _places(inside, marks)
            shown.append((kind, holder, at, inside, marks))
        self._joined(places)
        values = []
        for kind, holder, at, inside, marks in shown:
            holder[at] = self._tree(inside[0], marks)
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


def _marks(form: str) -> str:
    return _TAGGED if form == "tagged" else _VALUE


def _json_of(data: bytes) -> dict[str, Any] | None:
    """JSON in the form of a cassette, which knows how it is written; None for what is none."""
    shown = show_body(data) if data[:1] in (b"{", b"[") else {}
    if "json" in shown:
        return shown
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        twice.extend(found if len(found) < len(pairs) else ())
        return found

    try:
        shown = {"json": json.loads(data, object_pairs_hook=once)}
    except (ValueError, RecursionError):
        return None
    return {**shown, "twice": True} if twice else shown


def _written(shown: dict[str, Any], data: bytes) -> bytes:
    """JSON as it is written; as it was, where nothing is taken out."""
    if "twice" not in shown and _is_same(json.loads(data), shown["json"]):
        return data
    try:
        return read_body(shown)
    except ValueError:  # what JSON has not, and half a surrogate
        return json.dumps(shown["json"]).encode()


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) or json.dumps(one) == json.dumps(other)  # NaN is not itself


def _mark(tree: dict[str, Any], marks: str) -> str:
    """The mark that a dictionary is; "" for one of data."""
    name = next(iter(tree)) if len(tree) == 1 else ""
    return name if name and name[0] in marks else ""


def _numbers(tree: Any) -> Iterator[tuple[Any, Any, float]]:
    """Where numbers stand in a tree of JSON."""
    for at, inner in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        if isinstance(inner, (int, float)) and not isinstance(inner, bool):
            yield tree, at, inner
        elif isinstance(inner, (dict, list)):
            yield from _numbers(inner)


def _places(tree: Any, marks: str, path: tuple[Any, ...] = ()) -> Iterator[_Place]:
    """Where texts stand in a tree, but for those that are names of classes and their like."""
    pairs: Any
    if isinstance(tree, dict):
        if mark := _mark(tree, marks):
            inner = tree[mark]
            if mark in _NAMED and isinstance(inner, list):
                fields = mark == "!pydantic"  # the names of those that are set are a list
                for at, part in enumerate(inner):
                    if at and not (fields and isinstance(part, list)):
                        yield from _in_place(inner, at, part, marks, (*path, mark, at))
                return
            if mark not in _HOLDING and mark != "$dict":
                return
            if mark == "$dict":
                tree = inner
        same = tuple(tree.get(n) for n in ("type", "index", "output_index", "content_index"))
        path = (*path, *(mark for mark in same if isinstance(mark, (str, int))))
        pairs = tree.items()
    else:
        pairs = enumerate(tree)
    for at, inner in pairs:
        step: Any = at
        if isinstance(at, int) and isinstance(inner, dict) and isinstance(inner.get("index"), int):
            step = "index"  # which of several it is says the item itself
        yield from _in_place(tree, at, inner, marks, (*path, step))


def _in_place(
    holder: Any, at: Any, inner: Any, marks: str, path: tuple[Any, ...]
) -> Iterator[_Place]:
    if isinstance(inner, str):
        yield holder, at, path
    elif isinstance(inner, (dict, list)):
        yield from _places(inner, marks, path)


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
