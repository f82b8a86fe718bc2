"""Shapes of calls: how those of one shape are sent and answered."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.entry import HttpAnswer
from cachewrap.hooks import is_own
from cachewrap.http.answers import is_sound, is_told
from cachewrap.http.events import lacking, parsed
from cachewrap.http.exchange import Endpoint
from cachewrap.http.request import canonical_request, is_given
from cachewrap.sdk.front.keywords import Beside, Keywords
from cachewrap.sdk.front.results import Parser

Inputs: TypeAlias = tuple[Any, ...]

_TEXT: Final = frozenset({str})
_TOLD: Final = ("organization", "project", "_version", "_platform")
"""What the usual client of OpenAI's makes its headers of, beside those that it was given."""
_READ: Final = frozenset(
    """
    Omit __class__ __name__ _custom_headers api_key auth_headers default_headers get_async_library
    platform_headers super user_agent
    """.split()
).union(_TOLD)
_SIMPLE: Final = (str, int, float, bool, type(None))


class Rest:
    """The rest of the last request, and what it was made of.

    Args:
        stream: whether the requests ask for a stream.
        unkeyed: the names that are left out of them.
        plain: whether the client's headers and query are made of `_TOLD` alone.
    """

    def __init__(self, stream: bool, unkeyed: frozenset[str], plain: bool = False) -> None:
        self._stream = stream
        self._unkeyed = unkeyed
        self._plain = plain
        self._last: tuple[Inputs, dict[str, Any]] | None = None

    def of(
        self, client: Any, options: Any, path: str, query: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The rest of a request. It is not to be changed.

        Args:
            client: the SDK's client.
            options: its request options, the same at each call.
            path: where the request goes.
            query: of the call's own.
        """
        inputs = _inputs(client, path, query, self._plain)
        last = self._last
        if inputs is not None and last is not None and last[0] == inputs:
            return last[1]
        if query:
            options = changed(options, params=query)
        rest = canonical_request(
            client, options, path, None, stream=self._stream, unkeyed=self._unkeyed
        )
        if inputs is not None:
            self._last = inputs, rest
        return rest


def _inputs(client: Any, path: str, own: dict[str, Any] | None, plain: bool) -> Inputs | None:
    """What `canonical_request` reads of a client, as values; None where there are others."""
    transport = client._client
    held = vars(client)
    told = [held.get(name) for name in _TOLD] if plain else []
    headers = held["_custom_headers"] if plain else client.default_headers
    pairs: list[tuple[str, str | None]] = [*headers.items()]
    if pairs and not _TEXT.issuperset(map(type, headers.values())):
        for number, (name, value) in enumerate(pairs):
            if type(value) is not str:
                if value is not None and is_given(value):
                    return None
                pairs[number] = name, None
    query = client.default_query
    for one in (query, own):
        if one and any(type(value) not in _SIMPLE for value in one.values()):
            return None
    given, params = getattr(transport, "headers", None), getattr(transport, "params", None)
    return (
        path,
        client.base_url,
        told,
        pairs,
        given.raw if given else None,
        str(params) if params else None,
        repr(query) if query else None,
        repr(own) if own else None,
    )


def changed(options: Any, **values: Any) -> Any:
    """A copy of request options that has other values, as they are."""
    try:
        state = {*options.__pydantic_fields_set__}, options.__pydantic_extra__
    except AttributeError:  # of an older pydantic
        made = copy(options)
        vars(made).update(values)
        return made
    kind: Any = type(options)
    made = kind.__new__(kind)
    _put(made, "__dict__", {**vars(options), **values})
    _put(made, "__pydantic_fields_set__", state[0])
    _put(made, "__pydantic_extra__", state[1])
    _put(made, "__pydantic_private__", None)
    return made


_put: Final = object.__setattr__


def without_own(options: Any, beside: Beside | None, parser: Parser | None) -> Any:
    """Request options without what one call brought."""
    values: dict[str, Any] = {"json_data": None}
    if parser is not None and not parser.is_fixed:
        values["post_parser"] = None
    if beside is not None:
        if beside.headers is not None:
            own = beside.headers
            values["headers"] = {k: v for k, v in options.headers.items() if k not in own}
        if beside.query is not None:
            values["params"] = {}
        if beside.body is not None:
            values["extra_json"] = None
    return changed(options, **values)


def are_same(made: Any, options: Any) -> bool:
    """Whether request options were made of a call's keywords as the SDK has made them."""
    if list(made.json_data) != list(options.json_data):
        return False
    if list((made.headers or {}).items()) != list((options.headers or {}).items()):
        return False
    return all(getattr(made, name) == getattr(options, name) for name in _OF_A_CALL)


_OF_A_CALL: Final = ("json_data", "extra_json", "params", "timeout")


NOTHING: Final = object()
"""Stands for a result that only the long way can build."""


class Works:
    """The methods of a client that a hit passes through on the long way, all of them the SDK's own.

    Whoever wraps one of them is to see every call of it: where something else stands in its place
    now, or in its code, the door is not for that call.

    Attributes:
        tells: whether the headers of clients are made of what `Rest` looks at, by the SDK alone.
    """

    tells: bool

    __slots__ = (
        *("_cast", "_url", "_options", "_parsed", "_post", "_posts", "_processed", "_processes"),
        *("_request", "_requests", "_spared", "tells"),
    )

    @classmethod
    def of(cls, kind: Any, name: str) -> Works | None:
        """Those of a class of clients, None where somebody stands in one of them.

        Args:
            kind: the class.
            name: the SDK's top-level module.
        """
        works = cls(kind, name)
        found = [getattr(kind, work) for work in WORKS]
        for *_, one in works._spared:
            if one is not None:
                found.append(getattr(one, "__func__", getattr(one, "fget", one)))
        return works if all(is_own(one, name) for one in found) else None

    def __init__(self, kind: Any, name: str) -> None:
        self._request, self._post = kind.request, kind.post
        self._processed, self._parsed = kind._process_response, kind._process_response_data
        self._cast, self._options = kind._maybe_override_cast_to, kind._prepare_options
        self._url = kind._prepare_url
        self._requests, self._posts = kind.request.__code__, kind.post.__code__
        self._processes = kind._process_response.__code__
        self._spared = tuple(_spared(name))
        headers = _headers(kind)
        self.tells = headers is not None
        self._spared += headers or ()

    def are_alone(self, client: Any, resource: Any = None) -> bool:
        """Whether they are all that stands there now, in the client's class and its resource.

        Args:
            client: the client.
            resource: the SDK's object whose method was called; None where its ``post`` has come.
        """
        kind = type(client)
        request, post, processed = kind.request, kind.post, kind._process_response
        for held, name, function in self._spared:
            if held.get(name) is not function:
                return False
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


_SPARED: Final = (
    ("_response", "APIResponse", "parse"),
    ("_response", "APIResponse", "_parse"),
    ("_response", "AsyncAPIResponse", "parse"),
    ("_response", "AsyncAPIResponse", "_parse"),
    ("_legacy_response", "LegacyAPIResponse", "parse"),
    ("_legacy_response", "LegacyAPIResponse", "_parse"),
    ("_models", "BaseModel", "construct"),
    ("_models", "", "construct_type"),
)


def _spared(name: str) -> Iterable[tuple[Mapping[str, Any], str, Any]]:
    """Where the SDK looks for what it would read an answer with: each place, and what is there."""
    for module, owner, attribute in _SPARED:
        place: Any = sys.modules.get(f"{name}.{module}")
        place = getattr(place, owner, None) if owner else place
        for base in place.__mro__ if isinstance(place, type) else (place,):
            found = None if base is None else vars(base).get(attribute)
            if base is not None:
                yield vars(base), attribute, found
            if found is not None:
                break


_HEADERS: Final = frozenset({"auth_headers", "default_headers", "platform_headers", "user_agent"})


def _headers(kind: type) -> tuple[tuple[Mapping[str, Any], str, Any], ...] | None:
    """What makes a client's headers, as `_spared` gives it; None where they are made of more."""
    if any(hasattr(kind, name) for name in (*_TOLD, "_custom_headers")):
        return None
    places: list[tuple[Mapping[str, Any], str, Any]] = []
    ahead = ["default_headers"]
    for attribute in ahead:
        for base in kind.__mro__[:-1]:
            found = vars(base).get(attribute)
            places.append((vars(base), attribute, found))
            if found is not None:
                function = getattr(found, "fget", found)
                read = set(getattr(getattr(function, "__code__", None), "co_names", ("",)))
                if not read <= _READ:
                    return None
                ahead += sorted(read.intersection(_HEADERS).difference(ahead))
    return tuple(places)


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
        rest: gives all of the canonical request but the body and the call's own headers.
        path: gives the path of a request, of its client, options and body.
        constants: what the SDK adds to the body, in canonical form.
        added: the same, as it is sent.
        order: the names in the body, as the SDK sends them.
        options: the request options, without what is of one call.
        cast_to: the class of the result.
        stream_cls: the class of a streamed one.
        wrapper: the class of a raw result; None for any other.
        build: makes the result of JSON; None for one that is read later.
        builder: gives what builds the models of a stream.
        parser: gives what the SDK does to the result at the end.
        ids: notes the numbers of a response.
        works: what the call passed through.
    """

    endpoint: Endpoint
    rest: Rest
    path: Callable[[Any, Any, Any], str]
    constants: dict[str, Any]
    added: dict[str, Any]
    order: tuple[str, ...]
    options: Any
    cast_to: Any
    stream_cls: Any
    wrapper: Any
    build: Callable[[Any], Any] | None
    builder: Callable[[Any], Callable[[Any], Any] | None]
    parser: Parser | None
    ids: Ids
    works: Works

    def request(self, client: Any, body: dict[str, Any], keywords: Keywords) -> dict[str, Any]:
        """The canonical request of a call with these keywords, whose canonical body it is."""
        if self.constants:
            body = {**body, **self.constants}
        path = self.path(client, self.options, body)
        beside = keywords.beside
        if beside is None:
            return {**self.rest.of(client, self.options, path), "body": body}
        rest = self.rest.of(client, self.options, path, beside.query)
        if headers := keywords.headers_for_key():
            rest = {**rest, "headers": {**rest.get("headers", {}), **headers}}
        return {**rest, "body": body}

    def options_of(self, keywords: Keywords) -> Any:
        """The request options of a call with these keywords."""
        given = keywords.body
        body, beside = {}, keywords.beside
        for name in self.order:
            value = given[name] if name in given else self.added[name]
            # What is added to a conversation later is not seen in the request.
            body[name] = value[:] if type(value) is list else value
        values: dict[str, Any] = {"json_data": body}
        if self.parser is not None and not self.parser.is_fixed:
            values["post_parser"] = self.parser.of(keywords)
        if beside is None:
            return changed(self.options, **values)
        if beside.headers is not None:
            values["headers"] = {**(self.options.headers or {}), **beside.headers}
        if beside.query is not None:
            values["params"] = dict(beside.query)
        if beside.body is not None:
            values["extra_json"] = dict(beside.body)
        if beside.timeout:
            (values["timeout"],) = beside.timeout
        return changed(self.options, **values)

    def read(self, answer: HttpAnswer) -> tuple[dict[str, Any], dict[str, str]] | None:
        """The JSON of an answer that was read at once, and what its headers tell, if it is both."""
        told: dict[str, str] = {}
        wanted = self.ids.headers
        for name, value in answer.headers:
            name = name.lower()
            if name in wanted:
                if name in told or not is_sound(value):
                    return None
                told[name] = value
        kind = told.get("content-type", "").partition(";")[0]
        if answer.status != 200 or not kind.endswith("json"):
            return None
        try:
            data = parsed(b"".join(answer.chunks))
        except ValueError:
            return None
        if type(data) is not dict or lacking(self.endpoint.path, data):
            return None
        return data, told

    def made(
        self,
        keywords: Keywords,
        data: dict[str, Any],
        told: Mapping[str, str],
        parse: Callable[[Any], Any] | None = None,
    ) -> Any:
        """The result of an answer's JSON to a call with these keywords, or `NOTHING`.

        Args:
            keywords: the keywords.
            data: the JSON.
            told: what the answer's headers tell.
            parse: what the SDK does to the result, where each call has its own.
        """
        assert self.build is not None
        try:
            result = self.build(data)
            if self.parser is not None:
                parse = self.parser.of(keywords)
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
        if not is_own(self._add, self._base.__module__.partition(".")[0]):
            return None
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
