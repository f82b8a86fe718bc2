"""Shapes of calls: which one the keywords of a call have, and how those of one are answered."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.entry import HttpAnswer
from cachewrap.hooks import is_own
from cachewrap.http.answers import is_sound, is_told
from cachewrap.http.events import lacking, parsed
from cachewrap.http.exchange import Endpoint
from cachewrap.http.request import canonical_request, is_given, without_secrets
from cachewrap.http.tracking import is_idle
from cachewrap.options import NAMES
from cachewrap.request.canonical import NO_NAMES, plain_body
from cachewrap.request.values import is_plain
from cachewrap.secrets import is_secret, is_secret_value

Marks: TypeAlias = tuple[Any, ...]

# Keywords that are no part of the body. A time-out changes no answer.
_UNREAD: Final = frozenset({"extra_query", "extra_body"})
_SPOKEN: Final = ("messages", "input")
_PLAIN: Final = frozenset({dict, str, list, int})
_MOST_HEADERS: Final = 16
# By these an SDK tells of which of its helpers makes a call.
_HELPERS: Final = frozenset(
    {"x-stainless-helper", "x-stainless-helper-method", "x-stainless-stream-helper"}
)


@dataclass(slots=True)
class Keywords:
    """The keywords of a call, told apart as far as the way of its request may depend on it.

    Args:
        body: what is given of the body, as it was given.
        stream: whether a stream is asked for.
        marks: beside the names in the body, what calls of one shape have in common: the headers of
            the call's own, the names that its cache leaves out, and the classes of the SDK's
            objects among its messages.
        unkeyed: the names that the call's cache leaves out of a request.
    """

    body: dict[str, Any]
    stream: bool
    marks: Marks = ()
    unkeyed: frozenset[str] = NO_NAMES

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
        self.marks = (*self.marks, frozenset(classes))
        return plain_body(without_secrets(sent), self.unkeyed)


def read_keywords(kwargs: dict[str, Any], unkeyed: frozenset[str] = NO_NAMES) -> Keywords | None:
    """Read a call's keywords; None where there are some that the door does not know.

    Args:
        kwargs: the keywords.
        unkeyed: the names that the call's cache leaves out of a request.
    """
    body: dict[str, Any] = {}
    marks: Marks = (unkeyed,) if unkeyed else ()
    for name, value in kwargs.items():
        if name in _UNREAD:
            if value is not None:
                return None
        elif name == "extra_headers":
            if value:
                if not are_known(value, unkeyed):
                    return None
                marks = (*marks, frozenset(value.items()))
        elif name == "timeout":
            if value is not None and type(value) not in (int, float) and is_given(value):
                return None
        elif name not in NAMES and is_given(value):
            body[name] = value
    stream = body.get("stream") or False
    return Keywords(body, stream, marks, unkeyed) if type(stream) is bool else None


def are_known(headers: Any, unkeyed: frozenset[str]) -> bool:
    """Whether headers are the same from call to call, and no credentials: calls are learnt by them.

    What differs from call to call (as a trace's number) would make a shape of each call.
    """
    return (
        type(headers) is dict
        and len(headers) <= _MOST_HEADERS
        and all(_is_known(name, value, unkeyed) for name, value in headers.items())
    )


def _is_known(name: Any, value: Any, unkeyed: frozenset[str]) -> bool:
    return (
        type(name) is str
        and type(value) is str
        and value[:1] != "{"
        and name.lower() not in unkeyed
        and (name.lower() in _HELPERS or not is_idle(name.lower()))
        and not (is_secret(name) or is_secret_value(value))
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


Inputs: TypeAlias = tuple[Any, ...]

_SIMPLE: Final = (str, int, float, bool, type(None))


class Rest:
    """The rest of the last request, and what it was made of.

    Args:
        stream: whether the requests ask for a stream.
        unkeyed: the names that are left out of them.
    """

    def __init__(self, stream: bool, unkeyed: frozenset[str]) -> None:
        self._stream = stream
        self._unkeyed = unkeyed
        self._last: tuple[Inputs, dict[str, Any]] | None = None

    def of(self, client: Any, options: Any, path: str) -> dict[str, Any]:
        """The rest of a request. It is not to be changed.

        Args:
            client: the SDK's client.
            options: its request options, the same at each call.
            path: where the request goes.
        """
        inputs = _inputs(client, path)
        last = self._last
        if inputs is not None and last is not None and last[0] == inputs:
            return last[1]
        rest = canonical_request(
            client, options, path, None, stream=self._stream, unkeyed=self._unkeyed
        )
        if inputs is not None:
            self._last = inputs, rest
        return rest


def _inputs(client: Any, path: str) -> Inputs | None:
    """What `canonical_request` reads of a client, as values; None where there are others."""
    transport = client._client
    headers = []
    for name, value in client.default_headers.items():
        if type(value) is not str:
            if value is not None and is_given(value):
                return None
            value = None
        headers.append((name, value))
    query = client.default_query
    if query and any(type(value) not in _SIMPLE for value in query.values()):
        return None
    given, params = getattr(transport, "headers", None), getattr(transport, "params", None)
    return (
        path,
        str(client.base_url),
        headers,
        given.raw if given else None,
        str(params) if params else None,
        repr(query) if query else None,
    )


NOTHING: Final = object()
"""Stands for a result that only the long way can build."""


class Works:
    """The methods of a client that a hit passes through on the long way, all of them the SDK's own.

    Whoever wraps one of them is to see every call of it: where something else stands in its place
    now, or in its code, the door is not for that call.
    """

    __slots__ = (
        *("_cast", "_url", "_options", "_parsed", "_post", "_posts", "_processed", "_processes"),
        *("_request", "_requests"),
    )

    @classmethod
    def of(cls, kind: Any, name: str) -> Works | None:
        """Those of a class of clients, None where somebody stands in one of them.

        Args:
            kind: the class.
            name: the SDK's top-level module.
        """
        return cls(kind) if all(is_own(getattr(kind, work), name) for work in WORKS) else None

    def __init__(self, kind: Any) -> None:
        self._request, self._post = kind.request, kind.post
        self._processed, self._parsed = kind._process_response, kind._process_response_data
        self._cast, self._options = kind._maybe_override_cast_to, kind._prepare_options
        self._url = kind._prepare_url
        self._requests, self._posts = kind.request.__code__, kind.post.__code__
        self._processes = kind._process_response.__code__

    def are_alone(self, client: Any, resource: Any = None) -> bool:
        """Whether they are all that stands there now, in the client's class and its resource.

        Args:
            client: the client.
            resource: the SDK's object whose method was called; None where its ``post`` has come.
        """
        kind = type(client)
        request, post, processed = kind.request, kind.post, kind._process_response
        return (
            request is self._request
            and post is self._post
            and processed is self._processed
            and kind._process_response_data is self._parsed
            and kind._maybe_override_cast_to is self._cast
            and kind._prepare_options is self._options
            and kind._prepare_url is self._url
            and request.__code__ is self._requests
            and post.__code__ is self._posts
            and processed.__code__ is self._processes
            and (resource is None or getattr(resource._post, "__func__", None) is post)
        )


WORKS: Final = (
    *("request", "post", "_process_response", "_process_response_data"),
    *("_maybe_override_cast_to", "_prepare_options", "_prepare_url"),
)
"""What `Works` is about."""


@dataclass(slots=True)
class Known:
    """Knowledge of one shape: how its calls are answered, as the long way showed.

    Args:
        endpoint: what is called.
        rest: gives all of the canonical request but the body.
        path: gives the path of a request, of its client, options and body.
        constants: what the SDK adds to the body.
        options: the request options, without a body.
        cast_to: the class of the result.
        stream_cls: the class of a streamed one; None for a result that is read at once.
        build: makes the result of JSON; None for a streamed one.
        parse: what the SDK does to the result at the end.
        ids: notes the numbers of a response.
        works: what the call passed through.
    """

    endpoint: Endpoint
    rest: Rest
    path: Callable[[Any, Any, Any], str]
    constants: dict[str, Any]
    options: Any
    cast_to: Any
    stream_cls: Any
    build: Callable[[Any], Any] | None
    parse: Callable[[Any], Any] | None
    ids: Ids
    works: Works

    def request(self, client: Any, body: dict[str, Any]) -> dict[str, Any]:
        """The canonical request of a call with this body."""
        if self.constants:
            body = {**body, **self.constants}
        path = self.path(client, self.options, body)
        return {**self.rest.of(client, self.options, path), "body": body}

    def value(self, answer: HttpAnswer, parse: Callable[[Any], Any] | None = None) -> Any:
        """The result of an answer that was read at once, or `NOTHING`.

        Args:
            answer: the answer.
            parse: what the SDK does to the result of this call, where each has its own.
        """
        told: dict[str, str] = {}
        wanted = self.ids.headers
        for name, value in answer.headers:
            name = name.lower()
            if name in wanted:
                if name in told or not is_sound(value):
                    return NOTHING
                told[name] = value
        kind = told.get("content-type", "").partition(";")[0]
        if answer.status != 200 or not kind.endswith("json"):
            return NOTHING
        try:
            data = parsed(b"".join(answer.chunks))
        except ValueError:
            return NOTHING
        if type(data) is not dict or self.build is None or lacking(self.endpoint.path, data):
            return NOTHING
        parse = parse or self.parse
        try:
            result = self.build(data)
            if parse is not None:
                result = parse(result)
        except Exception:  # the long way tells whose error it is
            return NOTHING
        return self.ids.note(result, told)


class Ids:
    """The numbers of a response that an SDK notes at the model it makes of its body.

    Args:
        add: the SDK's function that notes them; None for an SDK that does not.
        names: of which header it is given which parameter.
        base: the base of the SDK's models.

    Attributes:
        headers: the headers that make a difference to what is built.
    """

    __slots__ = ("_add", "_attributes", "_base", "_names", "_setter", "headers")

    def __init__(
        self, add: Callable[..., None] | None, names: Mapping[str, str], base: Any
    ) -> None:
        self._add = add
        self._names = tuple(names.items())
        self._base, self._setter = base, getattr(base, "__setattr__", None)
        self.headers = frozenset({"content-type", *filter(is_told, names)})
        self._attributes = self._learn()

    @classmethod
    def of(cls, name: str) -> Ids:
        """Those of one SDK, which shows by its raw responses where it reads them.

        Args:
            name: the SDK's top-level module.
        """
        models = sys.modules[f"{name}._models"]
        raw = getattr(sys.modules.get(f"{name}._response"), "APIResponse", None)
        parameters: tuple[str, ...] = ("request_id", "workspace_id")
        add = getattr(models, "add_response_ids", None)
        if add is None:
            parameters, add = ("request_id",), getattr(models, "add_request_id", None)
        if add is None:
            return cls(None, {}, models.BaseModel)
        return cls(add, {_header_of(raw, one): one for one in parameters}, models.BaseModel)

    def _learn(self) -> tuple[tuple[str, str], ...] | None:
        """The attributes that stand for headers, where the SDK only sets them; else None."""
        if self._add is None:
            return ()
        try:
            model = self._base.construct()
            state = model.__getstate__()
            self._add(model, **{one: header for header, one in self._names})
            attributes = vars(model).copy()
            vars(model).clear()
        except Exception:
            return None
        headers = [header for header, _ in self._names]
        if model.__getstate__() != state or sorted(attributes.values()) != sorted(headers):
            return None
        return tuple(attributes.items())

    def note(self, result: Any, told: Mapping[str, str]) -> Any:
        """Note them at a result, of what the headers told, and give it back."""
        if self._attributes is not None and type(result).__setattr__ is self._setter:
            held = vars(result)
            for attribute, header in self._attributes:
                held[attribute] = told.get(header)
        elif self._add is not None and isinstance(result, self._base):
            self._add(result, **{one: told.get(header) for header, one in self._names})
        return result


class _Named:
    """Headers that give their own names."""

    def get(self, name: str, default: object = None) -> str:
        return name.lower()


def _header_of(raw: Any, name: str) -> str:
    """The header that a raw response of an SDK gives under a name."""
    response = types.SimpleNamespace(http_response=types.SimpleNamespace(headers=_Named()))
    header: str = getattr(raw, name).fget(response)
    return header


def is_constant(value: object) -> bool:
    return value is None or type(value) in (str, int, float, bool)


def is_fixed(parser: Any) -> bool:
    """Whether a parser holds nothing of the call that it was made for."""
    held: list[Any] = []
    if isinstance(parser, functools.partial):
        held += [*parser.args, *parser.keywords.values()]
        parser = parser.func
    if isinstance(parser, types.FunctionType):
        held += [cell.cell_contents for cell in parser.__closure__ or ()]
    elif parser is not None:
        return False
    return all(is_constant(value) or not is_given(value) for value in held)
