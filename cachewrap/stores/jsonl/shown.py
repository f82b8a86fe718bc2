"""Answers as JSON that a person can read and edit, and back to the same bytes."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.format import codec
from cachewrap.format.tagging import is_shallow

_encoder = msgspec.msgpack.Encoder()

_UNTAGGED: Final = b"\x00"  # the first byte of a value, as `codec.encode` gives it
_TAGGED: Final = b"\x01"

# In which JSON bodies are found: by the OpenAI SDK's servers, Python's, and pretty-printed.
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "compact": {"separators": (",", ":"), "ensure_ascii": False},
    "spaced": {"separators": (", ", ": "), "ensure_ascii": False},
    "indented": {"indent": 2, "ensure_ascii": False},
    "compact ascii": {"separators": (",", ":"), "ensure_ascii": True},
    "spaced ascii": {"separators": (", ", ": "), "ensure_ascii": True},
    "indented ascii": {"indent": 2, "ensure_ascii": True},
}
_EVENT: Final = re.compile(r"(?:event: ([^\n]*)\n)?data: ([^\n]*)\n\n")

_BODY: Final = ("json", "events", "text", "base64")


TOO_DEEP: Final = "it is nested too deeply"

# What is nested deeper than this is not written as JSON: a reader may have little room left on its
# stack, and each Python has another limit.
_DEEPEST: Final = 100
_QUOTE: Final = ord('"')
# What is quoted is passed over once, whether it ends or not.
_BRACKETS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{}]++', re.DOTALL)


def is_deep(line: bytes) -> bool:
    """Whether a line of JSON is nested deeper than any that is written."""
    depth = 0
    for found in _BRACKETS.finditer(line):
        if line[found.start()] == _QUOTE:
            continue
        for bracket in found[0]:
            depth += 1 if bracket in b"[{" else -1
            if depth > 2 * _DEEPEST:
                return True
    return False


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parse(text: str | bytes) -> Any:
    """Strict JSON. Raises `ValueError`, and `RecursionError` for what is nested too deeply."""
    return json.loads(text, parse_constant=_no_constant)


def _parse_shallow(text: str) -> Any:
    value = parse(text)
    if text.count("[") + text.count("{") > _DEEPEST and not is_shallow(value, _DEEPEST):
        raise ValueError(TOO_DEEP)
    return value


def _written(value: Any, style: str) -> str:
    return json.dumps(value, allow_nan=False, **_STYLES[style])


def base64_of(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def bytes_of(text: str) -> bytes:
    """What `base64_of` was given. Raises `ValueError`."""
    return base64.b64decode(text, validate=True)


def show_answer(kind: Kind, answer: bytes) -> Any:
    """What stands for an answer in a cassette; `read_answer` gives the same bytes.

    Text is itself. A value is its plain tree under ``value``, or under ``tagged`` with the codec's
    tags for what JSON has not. An HTTP answer has ``status``, ``headers``, and its body as
    ``json``, ``text`` or ``base64``, or the ``chunks`` of a stream with their ``delays``. The
    items of a generator are values. What has no such form is ``base64``.
    """
    try:
        shown = _SHOW[kind](answer)
        if read_answer(kind, shown) == answer:
            return shown
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.MsgspecError):
        pass  # not as the codec writes it: kept as it is
    return {"base64": base64_of(answer)}


def read_answer(kind: Kind, shown: Any) -> bytes:
    """The bytes that `show_answer` was given. Raises `ValueError`, `TypeError` and `KeyError`."""
    if isinstance(shown, dict) and shown.keys() == {"base64"}:
        return bytes_of(shown["base64"])
    return _READ[kind](shown)


# -- plain trees -------------------------------------------------------------------------------


def show_tree(value: Any) -> Any:
    """A tree of MessagePack's as JSON.

    Raises `ValueError` for a key that is not text, and for a tree that is nested too deeply.
    """
    if type(value) in (dict, list) and not is_shallow(value, _DEEPEST):
        raise ValueError(TOO_DEEP)
    return _tree(value)


def _tree(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise ValueError("a key that is not text")
        shown = {key: _tree(inner) for key, inner in value.items()}
        return {"$dict": shown} if len(shown) == 1 and next(iter(shown)).startswith("$") else shown
    if kind is list:
        return [_tree(inner) for inner in value]
    if kind is bytes:
        return {"$bytes": base64_of(value)}
    if kind is float and not math.isfinite(value):
        return {"$float": repr(value)}
    return value


def read_tree(shown: Any) -> Any:
    """The tree that `show_tree` was given. Raises `ValueError`."""
    if type(shown) is list:
        return [read_tree(inner) for inner in shown]
    if type(shown) is not dict:
        return shown
    if len(shown) == 1:
        ((tag, inner),) = shown.items()
        if tag == "$bytes":
            return bytes_of(inner)
        if tag == "$float":
            return float(inner)
        if tag == "$dict":
            return {key: read_tree(value) for key, value in inner.items()}
        if tag.startswith("$"):
            raise ValueError(f"the unknown mark {tag}")
    return {key: read_tree(inner) for key, inner in shown.items()}


def _read_text(shown: Any) -> bytes:
    if not isinstance(shown, str):
        raise TypeError("an answer of the kind text is text")
    return shown.encode()


def _show_value(answer: bytes) -> Any:
    form = {_UNTAGGED: "value", _TAGGED: "tagged"}[answer[:1]]
    return {form: show_tree(msgspec.msgpack.decode(answer[1:]))}


def _read_value(shown: Any) -> bytes:
    if "tagged" in shown:
        return _TAGGED + _encoder.encode(read_tree(shown["tagged"]))
    return _UNTAGGED + _encoder.encode(read_tree(shown["value"]))


# -- items of a generator ----------------------------------------------------------------------


def _show_items(answer: bytes) -> Any:
    items: Items = codec.decode(Kind.ITEMS, answer)
    return {
        "items": [show_answer(*item) for item in items.values],
        "returned": show_answer(*items.returned),
        "delays": items.delays,
    }


def _read_items(shown: Any) -> bytes:
    values = [_read_item(item) for item in shown["items"]]
    delays = [float(delay) for delay in shown["delays"]]
    return codec.encode(Items(values, delays, _read_item(shown["returned"])))[1]


def _read_item(shown: Any) -> tuple[Kind, bytes]:
    kind = Kind.TEXT if isinstance(shown, str) else Kind.VALUE
    return kind, read_answer(kind, shown)


# -- HTTP answers ------------------------------------------------------------------------------


def _show_http(answer: bytes) -> Any:
    http: HttpAnswer = codec.decode(Kind.HTTP, answer)
    names = [name for name, _ in http.headers]
    unique = len(set(names)) == len(names)
    shown: dict[str, Any] = {
        "status": http.status,
        "headers": dict(http.headers) if unique else http.headers,
    }
    if http.streamed:
        shown["streamed"] = True
    if len(http.chunks) == 1 and not http.delays:
        shown.update(show_body(http.chunks[0]))
    elif http.chunks or http.delays:
        shown["chunks"] = [show_body(chunk) for chunk in http.chunks]
        shown["delays"] = http.delays
    return shown


def _read_http(shown: Any) -> bytes:
    given = shown["headers"]
    pairs = given.items() if isinstance(given, dict) else given
    headers = [(_text(name), _text(value)) for name, value in pairs]
    chunks: list[bytes] = []
    if "chunks" in shown:
        chunks = [read_body(chunk) for chunk in shown["chunks"]]
    elif any(form in shown for form in _BODY):
        chunks = [read_body(shown)]
    delays = [float(delay) for delay in shown.get("delays", ())]
    status = int(shown["status"])
    streamed = bool(shown.get("streamed", False))
    return codec.encode(HttpAnswer(status, headers, chunks, delays, streamed))[1]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where text is expected")
    return value


def show_body(body: bytes) -> dict[str, Any]:
    """A body, or a chunk of one: ``json``, ``events``, ``text`` or ``base64``.

    ``json`` and the data of ``events`` are written in one of a few styles, which is named unless it
    is compact. A body that none of them gives back byte for byte is text.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"base64": base64_of(body)}
    if text[:1] in ("{", "["):
        return _show_json(text) or {"text": text}
    if text.startswith(("data: ", "event: ")):
        return _show_events(text) or {"text": text}
    return {"text": text}


def _show_json(text: str) -> dict[str, Any] | None:
    bare = text.rstrip()
    try:
        value = _parse_shallow(bare)
        style = next((style for style in _STYLES if _written(value, style) == bare), None)
    except (ValueError, RecursionError):
        return None
    if style is None:
        return None
    shown = {"json": value, **_named(style)}
    return {**shown, "end": text[len(bare) :]} if len(bare) < len(text) else shown


def _named(style: str) -> dict[str, Any]:
    return {} if style == "compact" else {"style": style}


def _show_events(text: str) -> dict[str, Any] | None:
    found = list(_EVENT.finditer(text))
    if sum(match.end() - match.start() for match in found) != len(text):
        return None
    data = [_json_data(match[2]) for match in found]
    style = next(
        (style for style in _STYLES if all(_same(value, raw, style) for value, raw in data)),
        "compact",
    )
    events = [
        {
            **({} if match[1] is None else {"event": match[1]}),
            "data": value if _same(value, raw, style) else raw,
        }
        for match, (value, raw) in zip(found, data, strict=True)
    ]
    return {"events": events, **_named(style)}


def _json_data(raw: str) -> tuple[Any, str]:
    if raw[:1] not in ("{", "["):
        return raw, raw
    try:
        return _parse_shallow(raw), raw
    except (ValueError, RecursionError):
        return raw, raw


def _same(value: Any, raw: str, style: str) -> bool:
    return value is raw or _written(value, style) == raw


def read_body(shown: Any) -> bytes:
    """The bytes that `show_body` was given. Raises `ValueError`, `TypeError` and `KeyError`."""
    style = shown.get("style", "compact")
    if "json" in shown:
        return (_written(shown["json"], style) + _text(shown.get("end", ""))).encode()
    if "events" in shown:
        return "".join(_event(event, style) for event in shown["events"]).encode()
    if "base64" in shown:
        return bytes_of(shown["base64"])
    return _text(shown["text"]).encode()


def _event(event: Any, style: str) -> str:
    data = event["data"]
    head = f"event: {_text(event['event'])}\n" if "event" in event else ""
    return f"{head}data: {data if isinstance(data, str) else _written(data, style)}\n\n"


_SHOW: Final[dict[Kind, Callable[[bytes], Any]]] = {
    Kind.TEXT: bytes.decode,
    Kind.VALUE: _show_value,
    Kind.HTTP: _show_http,
    Kind.ITEMS: _show_items,
}
_READ: Final[dict[Kind, Callable[[Any], bytes]]] = {
    Kind.TEXT: _read_text,
    Kind.VALUE: _read_value,
    Kind.HTTP: _read_http,
    Kind.ITEMS: _read_items,
}
