"""The reading of the usage that an answer reports, wherever its kind keeps it.

Providers count in their own ways: some tell the tokens that their prompt cache had beside those of
the prompt, and some within them. Here all prompt tokens are `Usage.tokens_in`, all that a model
made, thoughts included, are `Usage.tokens_out`, and the details are within these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from cachewrap.telemetry.usage import (
    NO_USAGE,
    PROVIDERS,
    Usage,
    both_details,
    details_of,
    of_provider,
)

_Fields: TypeAlias = Mapping[str, Any]

_HOLDERS: Final = ("usage", "usageMetadata", "usage_metadata")
_NOTHING: Final[_Fields] = {}
_MOST: Final = 2**32

_PROMPT: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION: Final = (
    *("completion_tokens_details", "output_tokens_details", "output_token_details"),
)
_READ: Final = (
    *("cached_tokens", "cache_read", "cache_read_input_tokens", "cache_read_tokens"),
    *("prompt_cache_hit_tokens", "cached_prompt_text_tokens"),
)
_WRITTEN: Final = (
    *("cache_write_tokens", "cache_creation", "cache_creation_input_tokens"),
    "cache_creation_tokens",
)
_GEMINI: Final = {
    name: (f"{first}{''.join(map(str.title, rest))}", name)
    for name in (
        *("prompt_token_count", "tool_use_prompt_token_count", "cached_content_token_count"),
        *("candidates_token_count", "thoughts_token_count", "total_token_count", "token_count"),
        *("prompt_tokens_details", "tool_use_prompt_tokens_details", "cache_tokens_details"),
        *("candidates_tokens_details", "response_token_count", "response_tokens_details"),
    )
    for first, *rest in [name.split("_")]
}
"""The members of what Gemini reports, as its JSON has them, and as the objects of its SDK do."""

_OF_GEMINI: Final = frozenset(_GEMINI["prompt_token_count"] + _GEMINI["total_token_count"])

_MODALITIES: Final = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}


class Reading:
    """Usage as the parts of one answer report it: a stream tells of it in several events.

    What a later part tells takes the place of what an earlier one did, unless it is nothing.
    """

    __slots__ = ("_told", "model")

    def __init__(self) -> None:
        self.model = ""
        self._told: dict[str, Any] = {}

    def add(self, part: object) -> None:
        """Read a part: plain JSON, or an object of an SDK's."""
        held = _fields(part)
        if model := _text(held, "model"):
            self.model = model
        for name in _HOLDERS:
            if (usage := held.get(name)) is not None:
                self._read(_fields(usage))
                if name != "usage" and not model:
                    self.model = _model_beside(held) or self.model
        if "x_groq" in held:
            self._read(_fields(_fields(held["x_groq"]).get("usage")))
        if "meta" in held and (billed := _fields(held["meta"]).get("billed_units")) is not None:
            self._read({"billed_units": billed})

    def _read(self, usage: _Fields) -> None:
        told = self._told
        for name, value in usage.items():
            if value or name not in told:
                told[name] = value

    @property
    def usage(self) -> Usage:
        """The usage that was read so far."""
        told = self._told
        if not told:
            return Usage(self.model) if self.model else NO_USAGE
        if not _OF_GEMINI.isdisjoint(told):
            return _of_gemini(self.model, told)
        if "billed_units" in told and told["billed_units"] is not None:
            told = {**told, **_fields(told["billed_units"])}  # of Cohere
        return _of_bedrock(self.model, told) if "inputTokens" in told else _of(self.model, told)


def usage_of(answer: object) -> Usage:
    """Read the usage of an SDK's answer object, or of the same as plain JSON."""
    try:
        if isinstance(answer, (str, bytes)):
            return NO_USAGE
        reading = Reading()
        reading.add(answer)
        return reading.usage
    except Exception:  # objects of the program's own can raise anything when they are looked at
        return NO_USAGE


_HOSTS: Final = {
    ".groq.com": "groq",
    ".openrouter.ai": "openrouter",
    ".together.xyz": "together",
    ".together.ai": "together",
    ".fireworks.ai": "fireworks",
    ".novita.ai": "novita",
    ".amazonaws.com": "aws",
    ".azure.com": "azure",
    ".cerebras.ai": "cerebras",
    ".baseten.co": "baseten",
    ".perplexity.ai": "perplexity",
    ".ovh.net": "ovhcloud",
}


@lru_cache(maxsize=256)
def _provider_at(url: str) -> int:
    host = url.partition("://")[2].partition("/")[0].partition(":")[0].lower()
    found = next((name for end, name in _HOSTS.items() if f".{host}".endswith(end)), "")
    return PROVIDERS.index(found)


def usage_at(url: str, usage: Usage) -> Usage:
    """The usage of what was answered at a URL, with the provider where a price depends on it."""
    number = _provider_at(url)
    if not number or not (usage.tokens_in or usage.tokens_out):
        return usage
    return replace(usage, details=both_details(usage.details, of_provider(number)))


_IN_PATH: Final = re.compile(r"(?:^|/)(?:models/([^/:]+):|model/([^/]+)/(?:converse|invoke))")


@lru_cache(maxsize=256)
def model_in(path: str) -> str:
    """The model that a path names, as those of Gemini and Bedrock do; ``""`` where it does not."""
    found = _IN_PATH.search(path)
    return unquote(found[1] or found[2]) if found else ""


def usage_of_parts(parts: Iterable[object]) -> Usage:
    """The same of an answer in parts, such as the events of a stream."""
    reading = Reading()
    for part in parts:
        reading.add(part)
    return reading.usage


def _fields(holder: object) -> _Fields:
    if isinstance(holder, Mapping):
        return holder
    state = getattr(holder, "__dict__", None)
    if not isinstance(state, dict):
        return _NOTHING
    more = getattr(holder, "__pydantic_extra__", None)
    return {**state, **more} if isinstance(more, dict) and more else state


def _model_beside(held: _Fields) -> str:
    """The model where it has another name: in what Gemini tells, and a message of LangChain's."""
    metadata = _fields(held.get("response_metadata"))
    return next(
        filter(
            None,
            (
                _text(held, "modelVersion"),
                _text(held, "model_version"),
                _text(metadata, "model_name"),
                _text(metadata, "model"),
            ),
        ),
        "",
    )


def _text(held: _Fields, name: str) -> str:
    value = held.get(name)
    return value if isinstance(value, str) else ""


def _first(held: _Fields, names: tuple[str, ...]) -> int:
    """The first of some numbers that is told, and is not zero."""
    for name in names:
        value = held.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST:
            return value
    return 0


def _part(held: _Fields, names: tuple[str, ...]) -> _Fields:
    return next((part for name in names if (part := _fields(held.get(name)))), _NOTHING)


def _of(model: str, told: _Fields) -> Usage:
    """What OpenAI reports, Anthropic, LangChain, and all that do as these do."""
    asked, answered = _part(told, _PROMPT), _part(told, _COMPLETION)
    kept = _fields(told.get("cache_creation"))
    long = _first(kept, ("ephemeral_1h_input_tokens",)) or _first(
        asked, ("ephemeral_1h_input_tokens",)
    )
    short = _first(asked, ("ephemeral_5m_input_tokens",))
    read = _first(asked, _READ) or _first(told, _READ)
    written = _first(asked, _WRITTEN) or _first(told, _WRITTEN)
    written = max(written, long + short, sum(_first(kept, (name,)) for name in kept))
    tokens_in = _first(told, ("prompt_tokens",))
    if not tokens_in:
        tokens_in = _first(told, ("input_tokens",))
        if "cache_read_input_tokens" in told or "cache_creation_input_tokens" in told:
            tokens_in += read + written  # which Anthropic tells beside them
    tokens_out = _first(told, ("completion_tokens", "output_tokens"))
    if not (tokens_in or tokens_out) and "seconds" not in told:
        tokens_in = _first(told, ("total_tokens",))
    thoughts = _first(answered, ("reasoning_tokens", "thinking_tokens", "reasoning"))
    cited = _first(told, ("citation_tokens",))
    if not thoughts and (loose := _first(told, ("reasoning_tokens",))):
        thoughts = loose
        if cited or "num_search_queries" in told or "grok" in model:
            tokens_out += thoughts  # which Perplexity tells beside what was said
    elif thoughts and _is_beside(model, told, tokens_in + tokens_out, thoughts):
        tokens_out += thoughts
    if "gemini" in model and not thoughts:
        # By its API that is like OpenAI's, Gemini tells of thoughts in the total alone.
        thoughts = max(0, _first(told, ("total_tokens",)) - tokens_in - tokens_out)
        tokens_out += thoughts if tokens_out else 0
    return _usage(
        model,
        tokens_in,
        tokens_out + cited,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=long,
        input_audio_tokens=_first(asked, ("audio_tokens", "audio")),
        cache_audio_read_tokens=_first(
            _fields(asked.get("cached_tokens_details")), ("audio_tokens",)
        ),
        output_audio_tokens=_first(answered, ("audio_tokens", "audio")),
        reasoning_tokens=thoughts,
        input_image_tokens=_first(asked, ("image_tokens",)),
        cache_image_read_tokens=_first(
            _fields(asked.get("cached_tokens_details")), ("image_tokens",)
        ),
        output_image_tokens=_first(answered, ("image_tokens",)),
        citation_tokens=cited,
        web_searches=_first(_fields(told.get("server_tool_use")), ("web_search_requests",))
        or _first(told, ("num_search_queries",)),
        audio_seconds=_seconds(told) if told.get("type") == "duration" else 0,
    )


def _is_beside(model: str, told: _Fields, both: int, thoughts: int) -> bool:
    """Whether thoughts are told beside what was said, as xAI does, and not within it."""
    total = _first(told, ("total_tokens",))
    return total == both + thoughts if total else "grok" in model and "prompt_tokens" in told


def _seconds(told: _Fields) -> int:
    seconds = told.get("seconds")
    if isinstance(seconds, float) and 0 < seconds < _MOST:
        return -int(-seconds // 1)
    return _first(told, ("seconds",))


def _of_bedrock(model: str, told: _Fields) -> Usage:
    """What Converse reports: what the prompt cache had is beside the tokens of the prompt."""
    read = _first(told, ("cacheReadInputTokens", "cacheReadInputTokenCount"))
    written = _first(told, ("cacheWriteInputTokens", "cacheWriteInputTokenCount"))
    kept = told.get("cacheDetails")
    long = [
        _first(one, ("inputTokens",))
        for one in map(_fields, kept if isinstance(kept, (list, tuple)) else ())
        if one.get("ttl") == "1h"
    ]
    return _usage(
        model,
        _first(told, ("inputTokens",)) + read + written,
        _first(told, ("outputTokens",)),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=sum(long),
    )


def _of_gemini(model: str, told: _Fields) -> Usage:
    """What Gemini reports: thoughts are beside what was said, tools' results beside the prompt."""
    tokens_in = _first(told, _GEMINI["prompt_token_count"])
    tokens_in += _first(told, _GEMINI["tool_use_prompt_token_count"])
    said = _GEMINI["candidates_token_count"] + _GEMINI["response_token_count"]
    thoughts = _first(told, _GEMINI["thoughts_token_count"])
    found: dict[str, int] = {}
    for what, name in (
        ("prompt_tokens_details", "input_{}_tokens"),
        ("tool_use_prompt_tokens_details", "input_{}_tokens"),
        ("cache_tokens_details", "cache_{}_read_tokens"),
        ("candidates_tokens_details", "output_{}_tokens"),
        ("response_tokens_details", "output_{}_tokens"),
    ):
        for kind, count in _modalities(told, _GEMINI[what]):
            detail = name.format(kind)
            found[detail] = found.get(detail, 0) + count
    return _usage(
        model,
        tokens_in,
        _first(told, said) + thoughts,
        cache_read_tokens=_first(told, _GEMINI["cached_content_token_count"]),
        reasoning_tokens=thoughts,
        **found,
    )


def _modalities(told: _Fields, names: tuple[str, ...]) -> list[tuple[str, int]]:
    parts = next((part for name in names if (part := told.get(name))), ())
    found = []
    for part in map(_fields, parts if isinstance(parts, (list, tuple)) else ()):
        modality = part.get("modality")
        name = getattr(modality, "value", modality)  # an enum of the SDK's
        if name in _MODALITIES:
            count = _first(part, _GEMINI["token_count"])
            found.append((_MODALITIES[name], count))
    return found


def _usage(model: str, tokens_in: int, tokens_out: int, **found: int) -> Usage:
    """A usage whose details do not add up to more than there is."""
    tokens_in, tokens_out = min(tokens_in, _MOST - 1), min(tokens_out, _MOST - 1)
    for name, most in _WITHIN:
        if name in found:
            within = tokens_in if most is _IN else tokens_out if most is _OUT else found[most]
            found[name] = min(found[name], within)
    return Usage(model, tokens_in, tokens_out, details_of(found))


_IN: Final = "tokens_in"
_OUT: Final = "tokens_out"
_WITHIN: Final = (
    ("cache_read_tokens", _IN),
    ("cache_write_tokens", _IN),
    ("cache_write_1h_tokens", "cache_write_tokens"),
    ("input_audio_tokens", _IN),
    ("input_image_tokens", _IN),
    ("input_video_tokens", _IN),
    ("output_audio_tokens", _OUT),
    ("output_image_tokens", _OUT),
    ("reasoning_tokens", _OUT),
    ("citation_tokens", _OUT),
)
