"""Shapes of calls: how those of one are answered at the front door, as the long way showed."""

from __future__ import annotations

import functools
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.entry import HttpAnswer
from cachewrap.http.exchange import Endpoint
from cachewrap.http.request import canonical_request, is_given

Inputs: TypeAlias = tuple[Any, ...]

_SIMPLE: Final = (str, int, float, bool, type(None))


class Rest:
    """The rest of the last request, and what it was made of.

    Args:
        stream: whether the requests ask for a stream.
    """

    def __init__(self, stream: bool) -> None:
        self._stream = stream
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
        rest = canonical_request(client, options, path, None, stream=self._stream)
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
        add_request_id: the SDK's own.
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
    add_request_id: Callable[[Any, str | None], None]

    def request(self, client: Any, body: dict[str, Any]) -> dict[str, Any]:
        """The canonical request of a call with this body."""
        if self.constants:
            body = {**body, **self.constants}
        path = self.path(client, self.options, body)
        return {**self.rest.of(client, self.options, path), "body": body}

    def value(self, answer: HttpAnswer) -> Any:
        """The result of an answer that was read at once, or `NOTHING`."""
        content_type = request_id = None
        for name, value in answer.headers:
            name = name.lower()
            if name == "content-type" or name == "x-request-id":
                if (content_type if name == "content-type" else request_id) is not None:
                    return NOTHING
                if name == "content-type":
                    content_type = value
                else:
                    request_id = value
        if answer.status != 200 or not (content_type or "").partition(";")[0].endswith("json"):
            return NOTHING
        try:
            data = json.loads(b"".join(answer.chunks).decode())
        except ValueError:
            return NOTHING
        if type(data) is not dict or self.build is None:
            return NOTHING
        result = self.build(data)
        if self.parse is not None:
            result = self.parse(result)
        self.add_request_id(result, request_id)
        return result


def is_own_function(method: Any, name: str) -> bool:
    """Whether a method is the SDK's own code, not something that another tool wrapped around it.

    Args:
        method: as it stands in its class.
        name: the SDK's top-level module.
    """
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(method, types.FunctionType) or not file:
        return False
    folder = file.removesuffix("__init__.py")
    return method.__code__.co_filename.startswith(folder)


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
