"""Keywords of a call at the front door, told apart as far as its way may depend on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.http.request import RAW_RESPONSE, canonical_headers, is_given, without_secrets
from cachewrap.options import NAMES
from cachewrap.request.canonical import NO_NAMES, plain_body
from cachewrap.request.values import is_plain

Marks: TypeAlias = tuple[Any, ...]

_BESIDE: Final = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})
_SPOKEN: Final = ("messages", "input")
_PLAIN: Final = frozenset({dict, str, list, int})
_MOST_HEADERS: Final = 32
_UNKNOWN_HEADERS: Final = ("content-type", "____")


@dataclass(slots=True)
class Beside:
    """Keywords of a call that are none of its body.

    Args:
        headers: its own headers, with that of the SDK's for a raw response.
        query: its own query.
        body: what is added to the body.
        timeout: its own, in a tuple. It changes no answer.
        raw: what kind of raw response is wanted: ``true``, ``raw``, ``stream`` or none.
    """

    headers: dict[str, str] | None = None
    query: dict[str, Any] | None = None
    body: dict[str, Any] | None = None
    timeout: tuple[Any, ...] = ()
    raw: str | None = None

    def take(self, name: str, value: Any) -> bool:
        """Take one keyword; False for a value that the door does not know."""
        if name == "timeout":
            self.timeout = (value,)
            return True
        if type(value) is not dict:
            return False
        if not value:  # the same as none
            return True
        if name == "extra_query":
            self.query = value
        elif name == "extra_body":
            self.body = value
        else:
            self.headers = value
            return self._are_known(value)
        return True

    def _are_known(self, headers: dict[Any, Any]) -> bool:
        if len(headers) > _MOST_HEADERS:
            return False
        for name, value in headers.items():
            if type(name) is not str or type(value) is not str:
                return False
            lower = name.lower()
            if lower == RAW_RESPONSE:
                if self.raw is not None or value not in _RAW:
                    return False
                self.raw = value
            elif lower.startswith(_UNKNOWN_HEADERS):
                return False
        return True

    def marks(self) -> Marks:
        """What calls of one shape have in common of it."""
        headers, body = self.headers or (), self.body or ()
        return (self.raw, *headers, self.query is None, not self.timeout, *body)


_RAW: Final = frozenset({"true", "raw", "stream"})


@dataclass(slots=True)
class Keywords:
    """The keywords of a call, told apart as far as the way of its request may depend on it.

    Args:
        body: what is given of the body, as it was given.
        stream: whether a stream is asked for.
        marks: beside the names in the body, what calls of one shape have in common: the names of
            the headers of the call's own, the names that its cache leaves out, and the classes of
            the SDK's objects among its messages.
        unkeyed: the names that the call's cache leaves out of a request.
        beside: what else the call brings, if anything.
    """

    body: dict[str, Any]
    stream: bool
    marks: Marks = ()
    unkeyed: frozenset[str] = NO_NAMES
    beside: Beside | None = None

    @property
    def raw(self) -> str | None:
        """What kind of raw response is wanted."""
        return None if self.beside is None else self.beside.raw

    def body_for_key(self, name: str) -> Any:
        """The canonical body, or None where it holds more than JSON and the SDK's own objects.

        Objects are replaced by what the SDK sends for them, and noted in the marks.

        Args:
            name: the SDK's top-level module.
        """
        spoken = self.body.get("messages") or self.body.get("input")
        if type(spoken) is not list or _PLAIN.issuperset(map(type, spoken)):
            clean = plain_body(without_secrets(self.body), self.unkeyed)
            if clean is not None:
                return clean
        classes: dict[type, None] = {}
        sent = {
            key: _sent(value, name, classes) if key in _SPOKEN else value
            for key, value in self.body.items()
        }
        if not classes:
            return None
        self.body = sent
        self.marks = (*self.marks, frozenset(classes))
        return plain_body(without_secrets(sent), self.unkeyed)

    def headers_for_key(self) -> dict[str, str]:
        """The headers of the call's own that are part of its key."""
        beside = self.beside
        if beside is None or beside.headers is None:
            return {}
        if beside.raw is not None and len(beside.headers) == 1:
            return {}
        return canonical_headers(beside.headers.items(), unkeyed=self.unkeyed)


def read_keywords(kwargs: dict[str, Any], unkeyed: frozenset[str] = NO_NAMES) -> Keywords | None:
    """Read a call's keywords; None where there are some that the door does not know.

    Args:
        kwargs: the keywords.
        unkeyed: the names that the call's cache leaves out of a request.
    """
    body: dict[str, Any] = {}
    marks: Marks = (unkeyed,) if unkeyed else ()
    beside = None
    for name, value in kwargs.items():
        if name in _BESIDE:
            if (value is None and name != "timeout") or not is_given(value):
                continue
            if beside is None:
                beside = Beside()
            if not beside.take(name, value):
                return None
        elif name not in NAMES and (type(value) in _PLAIN or is_given(value)):
            body[name] = value
    stream = body.get("stream") or False
    if type(stream) is not bool:
        return None
    if beside is not None:
        marks = (*marks, beside.marks())
        if beside.body is not None:
            if not body.keys().isdisjoint(beside.body):
                return None
            body.update(beside.body)
    return Keywords(body, stream, marks, unkeyed, beside)


def _sent(value: Any, name: str, classes: dict[type, None]) -> Any:
    """A value as the SDK sends it, with what it sends for objects of its own; they are noted."""
    kind = type(value)
    if kind is list:
        return [item if is_plain(item) else _sent(item, name, classes) for item in value]
    if kind is dict:
        return {key: _sent(inner, name, classes) for key, inner in value.items()}
    if kind.__module__.partition(".")[0] != name or not hasattr(kind, "model_dump"):
        return value
    classes[kind] = None
    left_out: Iterable[str] | None = getattr(kind, "__api_exclude__", None)
    return value.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=left_out)
