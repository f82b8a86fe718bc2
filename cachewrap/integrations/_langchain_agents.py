"""The middleware that serves the model calls of LangChain's agents from a cache."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, Final

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_core.load import dumpd
from langchain_core.utils.function_calling import convert_to_openai_tool

from cachewrap.cache import Cache
from cachewrap.call.terms import ValueExchange
from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.integrations._langchain import clean, model_request, usage_of_messages
from cachewrap.options import choose_cache, take_sample
from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode
from cachewrap.request.values import key_name
from cachewrap.telemetry.events import warn_once
from cachewrap.telemetry.usage import Usage
from cachewrap.urls import wrong_cache

_SOURCE: Final = "langchain:agent"


class CacheMiddleware(AgentMiddleware):
    """A middleware that serves model calls from a cache: ``create_agent(..., middleware=[...])``.

    A request is the model and its settings, the messages (without ids and metadata), the tools
    and the response format: not the agent's state, its thread or its run. A hit is what the miss
    was: tool calls, structured response, usage and metadata. Identical calls that are under way at
    one time go upstream once. Put it last, so that it sees what the other middleware has made of
    the request. A hit is one message: it does not stream token by token.

    Inside a block the answers are kept in the block's cache; outside, in ``cache``.

    Args:
        cache: serves the calls made outside any block; without it they are not cached.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        super().__init__()
        if cache is not None and not isinstance(cache, Cache):
            raise ConfigurationError(wrong_cache(cache))
        self._cache = cache

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]
    ) -> Any:
        """Answer from the cache, else by the handler whose answer is stored."""
        planned = self._plan(request)
        if planned is None:
            return handler(request)
        cache, exchange = planned
        with take_sample(cache, exchange) or nullcontext():
            return _renamed(cache.serve(exchange, lambda: handler(request)).value, request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        """`wrap_model_call` for async callers."""
        planned = self._plan(request)
        if planned is None:
            return await handler(request)
        cache, exchange = planned
        with take_sample(cache, exchange) or nullcontext():
            reply = await cache.aserve(exchange, lambda: handler(request))
            return _renamed(reply.value, request)

    def _plan(self, request: ModelRequest[Any]) -> tuple[Cache, ValueExchange] | None:
        cache = choose_cache(default=lambda: self._cache)
        if cache is None:
            return None
        try:
            asked = encode(_canonical(request))
        except UnkeyableError as error:
            cache.bypass(_SOURCE, "unkeyable", fault=error)
            warn_once((UnkeyableError, _SOURCE), f"{_SOURCE}: the call is not cached: {error}")
            return None
        return cache, ValueExchange(cache.policy, _SOURCE, asked, usage=_usage)


def _canonical(request: ModelRequest[Any]) -> Any:
    settings = clean(request.model_settings)
    # What LangChain's own caches take for the identity of a model.
    model = model_request(request.model._get_llm_string())
    asked = {
        "model": model,
        "system": clean(dumpd(request.system_message)),
        "messages": clean(dumpd(request.messages)),
        "tools": [_tool(tool) for tool in request.tools],
        "tool_choice": request.tool_choice,
        "response_format": _format(request.response_format),
        "settings": settings,
    }
    return canonical(asked)


def _tool(tool: Any) -> Any:
    if isinstance(tool, dict):
        return clean({"tools": [tool]})["tools"][0]  # as among the settings of a model
    described = convert_to_openai_tool(tool)
    extras = getattr(tool, "extras", None)
    return {**described, "extras": extras} if extras else described


def _format(form: Any) -> Any:
    if form is None:
        return None
    if isinstance(form, ProviderStrategy):
        return ["provider", _schema(form.schema_spec)]
    kind = "tool"
    if isinstance(form, AutoStrategy):
        # By which of the two ways is decided by the model, which is in the request.
        kind, form = "auto", ToolStrategy(form.schema)
    if not isinstance(form, ToolStrategy):
        raise UnkeyableError(f"response_format is a {type(form).__qualname__}")
    return [
        kind,
        [_schema(spec) for spec in form.schema_specs],
        form.tool_message_content,
        _handling(form.handle_errors),
    ]


def _schema(spec: Any) -> Any:
    # The class as well: the structured response is an instance of it.
    name = key_name(spec.schema) if isinstance(spec.schema, type) else ""
    return [name, spec.name, spec.description, spec.json_schema, spec.strict]


def _handling(how: Any) -> Any:
    if isinstance(how, (bool, str)):
        return how
    if isinstance(how, tuple):
        return [key_name(kind) for kind in how]
    return key_name(how)


def _renamed(response: Any, request: ModelRequest[Any]) -> Any:
    """The response, with new ids for messages that the conversation holds already.

    An agent's state replaces a message by one of the same id: an answer that is served twice in
    one conversation would take the place of its first occurrence.
    """
    if isinstance(response, ModelResponse):
        present = {message.id for message in request.state.get("messages", ()) if message.id}
        for message in response.result:
            if message.id in present:
                message.id = f"lc_run--{uuid.uuid4()}"
    return response


def _usage(response: Any) -> Usage:
    return usage_of_messages(response.result if isinstance(response, ModelResponse) else ())
