"""Keywords of a call at the front door, told apart as far as its way may depend on them."""

from __future__ import annotations

import copy
import hashlib
import marshal
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.errors import UnkeyableError
from cachewrap.http.request import (
    RAW_RESPONSE,
    canonical_headers,
    is_given,
    without_secrets,
)
from cachewrap.options import NAMES
from cachewrap.request.canonical import MARSHAL, NO_NAMES, packed, plain_body
from cachewrap.request.key import decode_request, encode
from cachewrap.request.states import packed as kept
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
        classes: the classes among the keywords, to which the SDK parses answers.
    """

    body: dict[str, Any]
    stream: bool
    marks: Marks = ()
    unkeyed: frozenset[str] = NO_NAMES
    beside: Beside | None = None
    classes: dict[str, type] | None = None

    @property
    def raw(self) -> str | None:
        """What kind of raw response is wanted."""
        return None if self.beside is None else self.beside.raw

    def body_for_key(self, name: str, *, open_: bool = False) -> Any:
        """The canonical body, or None where it holds more than JSON and the SDK's own objects.

        Objects are replaced by what the SDK sends for them, and noted in the marks.

        Args:
            name: the SDK's top-level module.
            open_: whether rules of equality will look into the conversation.
        """
        spoken = self.body.get("messages") or self.body.get("input")
        if type(spoken) is not list or _PLAIN.issuperset(map(type, spoken)):
            if kept.wanted:
                clean = (opened_body if open_ else clean_body)(self.body, self.unkeyed)
            else:
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


def read_keywords(
    kwargs: dict[str, Any], unkeyed: frozenset[str] = NO_NAMES, *, parses: bool = False
) -> Keywords | None:
    """Read a call's keywords; None where there are some that the door does not know.

    Args:
        kwargs: the keywords.
        unkeyed: the names that the call's cache leaves out of a request.
        parses: whether the method does more than to send them, so that their values matter.
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
    keywords = Keywords(body, stream, marks, unkeyed, beside)
    return keywords if not parses or _settle(keywords) else None


_SETTINGS: Final = frozenset({dict, list})
# Settings may be long, and hold credentials: what is kept of them says nothing to anybody.
_SALT: Final = os.urandom(32)


def _settle(keywords: Keywords) -> bool:
    """Note the settings of a call that is parsed, and take the classes among them out of its body.

    Whether the SDK takes them, and what it parses to, is decided by what they are.
    """
    body, classes = keywords.body, {}
    marks: list[Any] = []
    settings: list[Any] = []
    for name, value in body.items():
        if isinstance(value, type):
            schema = SCHEMAS.of(value)
            if schema is None:
                return False
            classes[name] = value
            marks += (name, schema)
        elif name in _SPOKEN:
            for item in value if type(value) is list else ():
                if type(item) is dict and item.get("type") == "configuration_update":
                    return False
        elif type(value) in _SETTINGS:
            settings += (name, value)
    if settings:
        try:
            marks.append(hashlib.sha256(_SALT + marshal.dumps(settings, 0)).digest())
        except ValueError:
            return False
    for name in classes:
        del body[name]
    keywords.classes = classes
    keywords.marks = (*keywords.marks, *marks)
    return True


def _sent(value: Any, name: str, classes: dict[type, None]) -> Any:
    """A value as the SDK sends it, with what it sends for objects of its own; they are noted."""
    kind = type(value)
    if kind is list:
        return [item if is_plain(item) else _sent(item, name, classes) for item in value]
    if kind is dict:
        return {key: _sent(inner, name, classes) for key, inner in value.items()}
    if isinstance(value, str):  # a member of an enumeration, for one
        classes[kind] = None
        return str.__str__(value)
    if kind.__module__.partition(".")[0] != name or not hasattr(kind, "model_dump"):
        return value
    classes[kind] = None
    left_out: Iterable[str] | None = getattr(kind, "__api_exclude__", None)
    return value.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=left_out)


# -- classes among the keywords ------------------------------------------------------------------


_MOST: Final = 64
_EXTRA: Final = "json_schema_extra"
_SAID: Final = "pydantic_js_extra"
_CODE: Final = (_EXTRA, "model_title_generator", "field_title_generator")


class Schema:
    """Makings of a class's JSON schema, which the SDK sends, as they were when it was looked at.

    The SDK makes the same schema of a class at each call. A class that was rebuilt is told from
    what it was, and one that makes its schema by code of its own has none here: that may change.

    Args:
        core: pydantic's own schema of the class.
        classes: all the classes in it.
        told: what its fields say of their schemas.
    """

    __slots__ = ("_core", "_makes", "_parts", "_told")

    def __init__(self, core: Any, classes: list[Any], told: list[dict[Any, Any]]) -> None:
        self._core = core
        self._makes = _maker(classes[0])
        self._parts = [(cls, cls.__name__, cls.__doc__, _config(cls).copy()) for cls in classes]
        beside = (config.get(_EXTRA) for *_, config in self._parts)
        told += [one for one in beside if type(one) is dict]
        self._told = [(one, copy.deepcopy(one)) for one in told]

    def is_of(self, cls: Any) -> bool:
        """Whether it is still that of the class."""
        if cls.__dict__.get("__pydantic_core_schema__") is not self._core:
            return False
        if _maker(cls) is not self._makes:
            return False
        for part, name, doc, config in self._parts:
            if part.__name__ != name or part.__doc__ != doc or _config(part) != config:
                return False
        return not self._told or all(now == before for now, before in self._told)


def _maker(cls: Any) -> Any:
    return getattr(cls.model_json_schema, "__func__", None)


def _config(cls: Any) -> dict[str, Any]:
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None)
    return config if type(config) is dict else {}


class Schemas:
    """Schemas of the latest classes: a program may make a class for each call."""

    def __init__(self) -> None:
        self._known: dict[type, Schema] = {}

    def of(self, cls: type) -> Schema | None:
        """The schema of a class, the same object while it is the same; None for an unknown kind."""
        known = self._known.get(cls)
        if known is not None and known.is_of(cls):
            return known
        known = _look(cls)
        if known is not None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[cls] = known
        return known


SCHEMAS: Final = Schemas()


def _look(cls: Any) -> Schema | None:
    base: Any = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    core = cls.__dict__.get("__pydantic_core_schema__")
    if base is None or not issubclass(cls, base) or type(core) is not dict:
        return None
    if _maker(cls) is not _maker(base):
        return None
    classes: dict[type, None] = {cls: None}
    said: list[dict[Any, Any]] = []
    ahead: list[tuple[Any, bool]] = [(core, False)]
    while ahead:
        value, told = ahead.pop()
        if type(value) is dict:
            for name, held in value.items():
                if name == "cls" and isinstance(held, type):
                    classes[held] = None
                elif name == _SAID and type(held) is dict:
                    said.append(held)
                else:
                    ahead.append((held, told or name == "metadata"))
        elif type(value) in (list, tuple):
            ahead += [(held, told) for held in value]
        elif told and callable(value) and not _is_pydantics(value):
            return None
    if any(callable(_config(one).get(name)) for one in classes for name in _CODE):
        return None
    return Schema(core, list(classes), said)


def _is_pydantics(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "pydantic"


def clean_body(body: dict[str, Any], unkeyed: frozenset[str] = NO_NAMES) -> Any:
    """What `plain_body` makes of a body without its credentials; None for one that is not plain.

    It looks for a long conversation among those that were asked again.

    Args:
        body: the body.
        unkeyed: names, in lower case, of fields that do not count.
    """
    spoken = body.get("messages")
    if type(spoken) is not list or len(spoken) < _LONG:
        return plain_body(without_secrets(body), unkeyed)
    try:
        told = marshal.dumps(body, MARSHAL)
    except ValueError:
        return plain_body(without_secrets(body), unkeyed)
    clean = kept.get(unkeyed, told)
    if clean is None:
        bare = without_secrets(body)
        clean = plain_body(bare, unkeyed)
        if clean is None or bare is not body:  # a credential is not kept
            return clean
        try:
            clean = packed(clean)
        except (OverflowError, UnicodeEncodeError, UnkeyableError):
            return clean
        kept.keep(unkeyed, told, clean)
    return clean.copy()


def opened_body(body: dict[str, Any], unkeyed: frozenset[str] = NO_NAMES) -> Any:
    """`clean_body` where rules of equality will look into the conversation and change it.

    It is not encoded, and is found again whatever stands beside it.
    """
    spoken = body.get("messages")
    if type(spoken) is not list or len(spoken) < _LONG:
        return plain_body(without_secrets(body), unkeyed)
    try:
        told = marshal.dumps(spoken, MARSHAL)
    except ValueError:
        return plain_body(without_secrets(body), unkeyed)
    messages = kept.get(_OPEN, told)
    if messages is None:
        alone = {"messages": spoken}
        bare = without_secrets(alone)
        clean = plain_body(bare)
        if clean is None or bare is not alone:
            return plain_body(without_secrets(body), unkeyed)
        try:
            messages = decode_request(encode(clean["messages"]))
        except (OverflowError, UnicodeEncodeError, UnkeyableError):
            return plain_body(without_secrets(body), unkeyed)
        kept.keep(_OPEN, told, messages)
    rest = plain_body(
        without_secrets({name: held for name, held in body.items() if name != "messages"}), unkeyed
    )
    return None if rest is None else {**rest, "messages": messages}


_OPEN: Final = "open"

_LONG: Final = 8  # messages that are walked through as fast as they are looked for
