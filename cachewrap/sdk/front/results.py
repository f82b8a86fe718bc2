"""Results at the front door that are more than models: raw responses, and the SDK's parsers.

Whoever takes a raw response wants what it is parsed to, or its headers, or both. The HTTP response
is built when the first of its attributes is asked for, the result when it is parsed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from operator import is_
from types import CellType, FunctionType
from typing import Any, Final
from weakref import ref

from msgspec import convert

from cachewrap.entry import HttpAnswer
from cachewrap.hooks import is_own
from cachewrap.http.asked import later
from cachewrap.http.request import is_given
from cachewrap.http.response import build, family_of, fill
from cachewrap.sdk.front.keywords import Keywords
from cachewrap.sdk.seam import SdkCall, request_later

_NEEDED: Final = frozenset({"raw", "cast_to", "client", "stream", "stream_cls", "options"})


def wrapper_class(name: str, kind: str, client: Any) -> Any:
    """The class of an SDK's raw responses, None in a version that has no such one.

    Args:
        name: the SDK's top-level module.
        kind: what kind of raw response is wanted: ``true`` or ``raw``.
        client: the SDK's client.
    """
    if kind == "raw":
        is_async = isinstance(client, sys.modules[f"{name}._base_client"].AsyncAPIClient)
        place, called = "_response", "AsyncAPIResponse" if is_async else "APIResponse"
    else:
        place, called = "_legacy_response", "LegacyAPIResponse"
    found = getattr(sys.modules.get(f"{name}.{place}"), called, None)
    if found is None or not inspect.signature(found).parameters.keys() >= _NEEDED:
        return None
    return found


def raw_response(
    wrapper: Any,
    sdk_call: SdkCall,
    client: Any,
    answer: HttpAnswer,
    value: Callable[[Any], Any],
    **given: Any,
) -> Any:
    """A hit's raw response.

    Args:
        wrapper: its class.
        sdk_call: how the call is served.
        client: the SDK's client.
        answer: what is stored, with the headers that are served.
        value: makes of the raw response what it is parsed to, None where the SDK has to.
        given: what else the wrapper takes.
    """
    library = family_of(client._client).response
    request = request_later(sdk_call, client)
    response = later(library, partial(_built, sdk_call, client, answer, request))
    raw = wrapper(raw=response, client=client, options=sdk_call.options, **given)
    if raw._parsed_by_type == {}:
        raw._parsed_by_type = _Parsed(raw, value)
    return raw


def _built(sdk_call: SdkCall, client: Any, answer: HttpAnswer, request: Callable[[], Any]) -> Any:
    family = family_of(client._client)
    response = build(client._client, family, answer, later(family.request, request))
    if not sdk_call.open:
        fill(family, response, answer)
        response.read()
    return response


class Parser:
    """The function by which an SDK ends the reading of an answer, made anew for each call.

    Args:
        fixed: the function, where it holds nothing of the call that it was made for.
        function: another one, to make those of other calls like it.
        held: for each variable that it holds a keyword, or what it is itself.
    """

    __slots__ = ("_fixed", "_held", "_parts")

    def __init__(self, fixed: Any, function: Any = None, held: Any = ()) -> None:
        self._fixed = fixed
        self._held = held
        if function is not None:
            self._parts = function.__code__, function.__globals__, function.__name__

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same for every call."""
        return self._fixed is not None

    def quicken(self, build: Callable[[Any], Any]) -> None:
        """Decode embeddings before the function does, if that is what it does with them.

        Args:
            build: makes results of JSON.
        """
        parse = self._fixed
        if parse is not None and _decodes(parse, build):
            self._fixed = lambda result: parse(decoded(result))

    def of(self, keywords: Keywords) -> Callable[[Any], Any]:
        """The function of a call with these keywords."""
        if self._fixed is not None:
            fixed: Callable[[Any], Any] = self._fixed
            return fixed
        given = {**keywords.body, **(keywords.classes or {})}
        held = [given[name] if name else value for name, value in self._held]
        cells = tuple(CellType(one[:] if type(one) is list else one) for one in held)
        return FunctionType(*self._parts, None, cells)


def learn_parser(parse: Any, keywords: Keywords, name: str) -> Parser | None:
    """How such a function is made of a call's keywords; None where that does not show.

    Args:
        parse: the function of one call.
        keywords: that call's.
        name: the SDK's top-level module.
    """
    if keywords.classes is None:
        return Parser(parse) if is_fixed(parse) else None
    if type(parse) is not FunctionType or not is_own(parse, name):
        return None
    if parse.__defaults__ or parse.__kwdefaults__:
        return None
    held = []
    for cell in parse.__closure__ or ():
        found = _origin(cell.cell_contents, keywords)
        if found is None:
            return None
        held.append(found)
    return Parser(None, parse, held)


def _origin(value: Any, keywords: Keywords) -> tuple[str, Any] | None:
    """The keyword that a value is, or that it is like for every call of the shape itself."""
    if value is None or not is_given(value):
        return "", value
    for name, cls in (keywords.classes or {}).items():
        if cls is value:
            return name, None
    for name, given in keywords.body.items():
        if given is value and type(given) is dict:
            return name, None
        if type(given) is type(value) is list and given and _are_same(given, value):
            return name, None
    return ("", value) if value == [] else None


def _are_same(given: list[Any], held: list[Any]) -> bool:
    return len(given) == len(held) and all(map(is_, given, held))


def is_fixed(parser: Any) -> bool:
    """Whether a parser holds nothing of the call that it was made for."""
    held: list[Any] = []
    if isinstance(parser, partial):
        held += [*parser.args, *parser.keywords.values()]
        parser = parser.func
    if isinstance(parser, FunctionType):
        held += [cell.cell_contents for cell in parser.__closure__ or ()]
    else:
        return False
    return all(is_constant(value) or not is_given(value) for value in held)


def is_constant(value: object) -> bool:
    """Whether a value is one that nobody changes."""
    return value is None or type(value) in (str, int, float, bool)


_PROBE: Final = "AACAPwAAAMA="
_MEANT: Final = [1.0, -2.0]


def _decodes(parse: Any, build: Callable[[Any], Any]) -> bool:
    """Whether a function makes a list of numbers of an embedding that is a text."""
    try:
        found: Any = parse(build({"data": [{"embedding": _PROBE}, {"embedding": "AACAPw=="}]}))
        return [one.embedding for one in found.data] == [_MEANT, _MEANT[:1]]
    except Exception:  # it is for another class, and there is no way to tell
        return False


def decoded(result: Any) -> Any:
    """A result with lists of numbers in place of embeddings that are texts, if all can be decoded.

    What is not the one way to write numbers in base64 is left to the SDK.
    """
    try:
        texts = [one for one in result.data if type(one.embedding) is str]
        numbers = [memoryview(convert(one.embedding, bytes)).cast("f").tolist() for one in texts]
    except Exception:
        return result
    for one, vector in zip(texts, numbers, strict=True):
        vars(one)["embedding"] = vector
    return result


class _Parsed(dict[Any, Any]):
    """Results of a raw response by their types; that of its own is made when it is asked for."""

    def __init__(self, raw: Any, value: Callable[[Any], Any]) -> None:
        super().__init__()
        self._values = [value]
        self._raw = ref(raw)
        self._cast_to = raw._cast_to

    def get(self, key: Any, default: Any = None) -> Any:
        """The result of this type, as a dictionary gives it."""
        raw = self._raw() if self._values else None
        if raw is not None and key == self._cast_to:
            try:
                value = self._values.pop()
            except IndexError:  # another thread was the first
                return super().get(key, default)
            made = value(raw)
            if made is not None:
                self[key] = made
                return made
        return super().get(key, default)
