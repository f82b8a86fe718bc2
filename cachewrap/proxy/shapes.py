"""Errors of the proxy's own, in the shapes that providers' SDKs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from cachewrap.errors import REMEDIES, ReplayMissError, printable

JSON: Final = "application/json"
"""The content type of all of them."""

MISS: Final = "replay_miss"
"""The code of a request that is not stored, in mode replay."""

_REMEDY: Final = (
    "to store it, send it once with the header x-cachewrap-mode: {mode},"
    " or run {command} --mode {mode}"
)

_CALLERS: Final = "cache_seed=None, or a block of no_cache()"
_CLIENTS: Final = "with the header x-cachewrap-mode: off"
"""What sends one request past the cache: in a program, and for clients of the proxy."""

_NOTHING: Final = "nothing comparable is stored there"
_NOTHING_OF_CALLER: Final = (
    "nothing comparable of this caller is stored there: callers are kept apart by --keyed"
)

_LONGEST: Final = 400
"""Characters of a text, and members of a list, that are shown of a stored request."""

_LARGEST: Final = 16 * 1024
"""Characters of a stored request that are shown at all."""

_Shape: TypeAlias = Callable[[int, str, str], dict[str, Any]]

_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The types of Anthropic's errors, by status."""

_STATES: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The states of Google's errors, by status."""


def _openai(status: int, message: str, code: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _anthropic(status: int, message: str, code: str) -> dict[str, Any]:
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _azure(status: int, message: str, code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _google(status: int, message: str, code: str) -> dict[str, Any]:
    state = _STATES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return {"error": {"code": status, "message": message, "status": state}}


def _mistral(status: int, message: str, code: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "internal_server_error"
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def _cohere(status: int, message: str, code: str) -> dict[str, Any]:
    return {"message": message}


def _ollama(status: int, message: str, code: str) -> dict[str, Any]:
    return {"error": message}


_SHAPES: Final[Mapping[str, _Shape]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "azure": _azure,
    "google": _google,
    "mistral": _mistral,
    "cohere": _cohere,
    "ollama": _ollama,
}
"""What an error is like, by the name of its shape. Most providers have OpenAI's."""


def error_body(
    shape: str, status: int, message: str, code: str, extra: Mapping[str, Any] | None = None
) -> tuple[str, bytes]:
    """The content type and body of an error.

    No header goes with it that asks an SDK to try again, or not to: they retry 408, 409, 429 and
    what is from 500 on by themselves, so an upstream that was not reached is tried again, and a
    request that is not stored is not.

    Args:
        shape: as `Upstream` has it.
        status: of the answer.
        message: for people, without credentials.
        code: for programs.
        extra: what else is known; it stands under ``cachewrap``.
    """
    body = _SHAPES.get(shape, _openai)(status, message, code)
    body["cachewrap"] = {"code": code, **(extra or {})}
    text = json.dumps(body, ensure_ascii=False, default=str)
    return JSON, text.encode("utf-8", "replace")


def replay_miss(
    shape: str, error: ReplayMissError, command: str = "cachewrap serve"
) -> tuple[str, bytes]:
    """The same for a request that is not stored in mode replay, for status 404.

    Under ``cachewrap`` it has the key, the nearest stored request with what is different, and the
    mode that stores the answer. What is secret is hidden there already; long texts are cut. Of
    callers that are kept apart none is told what another has asked.

    Args:
        shape: as `Upstream` has it.
        error: what is told.
        command: that started the proxy.
    """
    error = _told_to_caller(error)
    message = str(error).replace(_CALLERS, _CLIENTS)
    if advice := REMEDIES.get(error.remedy):
        message = message.replace(advice, _REMEDY.format(mode=error.remedy, command=command))
    near = error.explanation.nearest[:1] if error.explanation is not None else ()
    extra = {
        "key": error.key,
        "source": error.source,
        "nearest": {"key": near[0].key, "request": _shown(near[0].request)} if near else None,
        "differences": list(error.diff),
        "rules": list(error.rules),
        "remedy": error.remedy,
    }
    return error_body(shape, 404, message, MISS, extra)


def _told_to_caller(error: ReplayMissError) -> ReplayMissError:
    """The error, with a request as the nearest that is not another caller's."""
    explanation = error.explanation
    if explanation is None or not any(near.apart for near in explanation.nearest):
        return error
    own = tuple(near for near in explanation.nearest if not near.apart)
    told: ReplayMissError = replace(explanation, nearest=own).error()
    message = str(told if error.remedy == "normal" else error)
    if not own:
        message = message.replace(_NOTHING, _NOTHING_OF_CALLER)
    found = ReplayMissError(
        message,
        key=error.key,
        source=error.source,
        nearest=told.nearest,
        diff=told.diff,
        rules=told.rules,
    )
    found.explanation, found.remedy = told.explanation, error.remedy
    return found


def _shown(request: Mapping[str, Any]) -> Any:
    """A stored request, cut to what a person reads; None where even that is much."""
    try:
        cut = _cut(request)
        return cut if len(json.dumps(cut, allow_nan=False, default=str)) <= _LARGEST else None
    except (ValueError, RecursionError):
        return None


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else printable(value, _LONGEST)
    if isinstance(value, Mapping):
        return {str(name): _cut(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        cut = [_cut(inner) for inner in value[:_LONGEST]]
        return cut if len(value) <= _LONGEST else [*cut, f"… and {len(value) - _LONGEST} more"]
    return value
