"""Lists that an SDK asks for: what is in them, and the request for a part of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachewrap.errors import UnkeyableError
from cachewrap.http.capture import Slot, asend, send
from cachewrap.http.elements import Listed, form_of
from cachewrap.http.exchange import Answered, SdkExchange
from cachewrap.http.request import merged_body
from cachewrap.http.split import Ask, AsyncAsk, ListCall, elements_of
from cachewrap.http.tracking import OF_ONE_REQUEST
from cachewrap.sdk.request_options import argument, copied


def elements_in(exchange: SdkExchange, options: Any, sent: Any) -> Listed | None:
    """The elements that a request is told apart into; None where it is left whole.

    Args:
        exchange: of the request.
        options: its options.
        sent: them as the client's own hook changes them; None where it has none.
    """
    if form_of(exchange.endpoint.path) is None:
        return None
    body = _body(options)
    if sent is not None and _body(sent) != body:
        return None  # of a part the hook may make something else
    return elements_of(exchange, body.get("input"))


def asking(listed: ListCall, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ask:
    """What asks upstream for a part of a list, by the SDK's own ``request``."""

    def ask(wanted: list[int] | None) -> Answered:
        slot = Slot(listed.cache, listed.whole)
        asked, named = _in_part(listed.elements, wanted, args, kwargs)
        send(slot, lambda: request(*asked, **named))
        return slot.answered

    return ask


def aasking(
    listed: ListCall, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncAsk:
    """`asking` for async callers."""

    async def ask(wanted: list[int] | None) -> Answered:
        slot = Slot(listed.cache, listed.whole)
        asked, named = _in_part(listed.elements, wanted, args, kwargs)
        await asend(slot, lambda: request(*asked, **named))
        return slot.answered

    return ask


def _in_part(
    elements: Listed, wanted: list[int] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of ``request`` that ask for some of the elements; for None for all of them.

    The options among them are others than the caller's, which stay as they are.
    """
    options = copied(argument(1, "options", args, kwargs))
    if wanted is not None:
        part = elements.inputs(_body(options)["input"], wanted)
        if "input" in (options.extra_json or ()):
            options.extra_json = {**options.extra_json, "input": part}
        else:
            options.json_data = {**options.json_data, "input": part}
        options.idempotency_key = None  # it names another request
        if options.headers:
            options.headers = {
                name: value
                for name, value in options.headers.items()
                if name.lower() not in OF_ONE_REQUEST
            }
    if len(args) > 1:
        return (args[0], options, *args[2:]), kwargs
    return args, {**kwargs, "options": options}


def _body(options: Any) -> Mapping[str, Any]:
    try:
        body = merged_body(options)
    except UnkeyableError:
        return {}
    return body if isinstance(body, Mapping) else {}
