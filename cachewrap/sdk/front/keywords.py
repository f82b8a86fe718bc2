"""A call's keywords as the front door reads them: a body of plain JSON, and what shape it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.http.request import is_given, is_idle
from cachewrap.http.secrets import is_secret, is_secret_value, without_secrets
from cachewrap.options import NAMES
from cachewrap.request.key import plain_json
from cachewrap.request.values import is_plain

Marks: TypeAlias = tuple[Any, ...]

# Keywords that are no part of the body. A time-out changes no answer.
_UNREAD: Final = frozenset({"extra_query", "extra_body"})
_SPOKEN: Final = ("messages", "input")
_MOST_HEADERS: Final = 16


@dataclass(slots=True)
class Keywords:
    """The keywords of a call, told apart as far as the way of its request may depend on it.

    Args:
        body: what is given of the body, as it was given.
        stream: whether a stream is asked for.
        marks: beside the names in the body, what calls of one shape have in common: the headers of
            the call's own, and the classes of the SDK's objects among its messages.
    """

    body: dict[str, Any]
    stream: bool
    marks: Marks = ()

    def body_for_key(self, name: str) -> Any:
        """The canonical body, or None where it holds more than JSON and the SDK's own objects.

        Objects are replaced by what the SDK sends for them, and noted in the marks.

        Args:
            name: the SDK's top-level module.
        """
        clean = plain_json(without_secrets(self.body))
        if clean is not None:
            return clean
        classes: dict[type, None] = {}
        sent = {
            key: _sent(value, name, classes) if key in _SPOKEN else value
            for key, value in self.body.items()
        }
        if not classes:
            return None
        self.marks = (*self.marks, frozenset(classes))
        return plain_json(without_secrets(sent))


def read_keywords(kwargs: dict[str, Any]) -> Keywords | None:
    """Read a call's keywords; None where there are some that the door does not know."""
    body: dict[str, Any] = {}
    marks: Marks = ()
    for name, value in kwargs.items():
        if name in _UNREAD:
            if value is not None:
                return None
        elif name == "extra_headers":
            if value:
                if not _are_known(value):
                    return None
                marks = (*marks, frozenset(value.items()))
        elif name == "timeout":
            if value is not None and type(value) not in (int, float) and is_given(value):
                return None
        elif name not in NAMES and is_given(value):
            body[name] = value
    stream = body.get("stream") or False
    return Keywords(body, stream, marks) if type(stream) is bool else None


def _are_known(headers: Any) -> bool:
    """Whether headers are the same from call to call, and no credentials: calls are learnt by them.

    What differs from call to call (as a trace's number) would make a shape of each call.
    """
    return (
        type(headers) is dict
        and len(headers) <= _MOST_HEADERS
        and all(_is_known(name, value) for name, value in headers.items())
    )


def _is_known(name: Any, value: Any) -> bool:
    return (
        type(name) is str
        and type(value) is str
        and not (is_idle(name.lower()) or is_secret(name) or is_secret_value(value))
    )


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
