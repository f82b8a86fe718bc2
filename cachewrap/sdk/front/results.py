"""Raw responses at the front door: the SDK's own wrapper, of which nothing is made unasked.

Whoever takes a raw response wants what it is parsed to, or its headers, or both. The HTTP response
is built when the first of its attributes is asked for, the result when it is parsed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cachewrap.entry import HttpAnswer
from cachewrap.http.asked import later
from cachewrap.http.response import build, family_of, fill
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


class _Parsed(dict[Any, Any]):
    """Results of a raw response by their types; that of its own is made when it is asked for."""

    def __init__(self, raw: Any, value: Callable[[Any], Any]) -> None:
        super().__init__()
        self._values = [value]
        self._raw = raw

    def get(self, key: Any, default: Any = None) -> Any:
        """The result of this type, as a dictionary gives it."""
        if self._values and key == self._raw._cast_to:
            try:
                value = self._values.pop()
            except IndexError:  # another thread was the first
                return super().get(key, default)
            made = value(self._raw)
            if made is not None:
                self[key] = made
                return made
        return super().get(key, default)
