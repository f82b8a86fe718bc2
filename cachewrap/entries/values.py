"""Stored values for people: objects as their fields, and what the objects of libraries say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cachewrap.request.values import LOADERS

_LISTS: Final = frozenset({"!tuple", "!set", "!frozenset"})
_PAIRS: Final = frozenset({"!dict", "!ordered", "!mappingproxy"})
_OBJECTS: Final = frozenset({"!pydantic", "!dataclass", "!attrs", "!struct"})
_SECOND: Final = frozenset({"!namedtuple", "!subclass", "!plugin", "!url", "!ip"})
_LEAVES: Final = frozenset(
    {"!date", "!datetime", "!time", "!timedelta", "!uuid", "!decimal", "!path", "!complex"}
)
_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
_SDKS: Final = frozenset({"openai", "anthropic", "groq", "together", "litellm", "google"})


def bare(value: Any, room: int = 200) -> Any:
    """A plain form, as `codec.plain_form` gives it, without tags: JSON that people read.

    Objects are their fields, tuples and sets are lists, dates and the like are texts, bytes and
    arrays are named. What lies deeper than ``room`` levels is ``…``.
    """
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]"
    if not isinstance(value, (dict, list)):
        return value
    room -= 1
    if room < 0:
        return "…"
    if isinstance(value, list):
        return [bare(item, room) for item in value]
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if isinstance(tag, str) and tag[:1] == "!":
            try:
                return _untagged(tag, inner, room)
            except Exception:  # of whatever kind a leaf that was not written by us raises
                pass
    return {_name(key): bare(item, room) for key, item in value.items()}


def _untagged(tag: str, inner: Any, room: int) -> Any:
    if tag in _LISTS:
        return [bare(item, room) for item in inner]
    if tag == "!deque":
        return [bare(item, room) for item in inner[0]]
    if tag == "!defaultdict" or tag in _PAIRS:
        pairs = inner[1] if tag == "!defaultdict" else inner
        return {_name(bare(key, room)): bare(item, room) for key, item in pairs}
    if tag in _OBJECTS:
        fields = bare(inner[1], room)
        extra = inner[2] if tag == "!pydantic" and len(inner) > 2 else None
        return {**fields, **bare(extra, room)} if extra else fields
    if tag in _SECOND:
        return bare(inner[1], room)
    if tag == "!enum":
        return bare(inner[-1], room)
    if tag == "!namespace":
        return bare(inner, room)
    if tag == "!pattern":
        return bare(inner[0], room)
    if tag in ("!array", "!number"):
        return f"[{tag[1:]}, {' '.join(str(part) for part in inner[:2])}]"
    if tag in _LEAVES:
        return str(LOADERS[tag](inner))
    if tag == "!float":
        return inner
    if tag == "!str":
        return LOADERS[tag](inner)
    return {tag: inner}


def _name(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, default=str)


def object_name(value: Any) -> str:
    """The class of a tagged object, as ``module:name``; ``""`` for any other value."""
    if not isinstance(value, dict) or len(value) != 1:
        return ""
    ((tag, inner),) = value.items()
    if tag not in _OBJECTS or not isinstance(inner, list) or not inner:
        return ""
    name = inner[0]
    while isinstance(name, list) and name:  # a parametrised model: its parameters come behind
        name = name[0]
    return name if isinstance(name, str) else ""


def said_by(value: Any) -> list[tuple[str, Any]] | None:
    """Role and content of what an answer of LangChain's, AutoGen's or an SDK's says.

    ``content`` is as `conversation.content_text` takes it. For an answer of an SDK the role is
    ``""`` and the content its whole body. None for a value of no such class.
    """
    if isinstance(value, list) and value:
        if object_name(value[-1]).startswith("autogen_core."):
            return said_by(value[-1])  # what was streamed before is in it
        parts = [said_by(item) for item in value if object_name(item).startswith("langchain_core.")]
        return [one for part in parts for one in part or ()] if len(parts) == len(value) else None
    root, _, name = object_name(value).partition(".")
    fields = bare(value) if root else None
    if not isinstance(fields, dict):
        return None
    if root == "langchain_core":
        message = fields.get("message")
        return [_message(message if isinstance(message, dict) else fields)]
    if root == "langchain" and isinstance(fields.get("result"), list):
        return [_message(message) for message in fields["result"] if isinstance(message, dict)]
    if root == "autogen_core" and name.endswith(":CreateResult"):
        return [("assistant", fields.get("content"))]
    return [("", fields)] if root in _SDKS else None


def _message(fields: Mapping[str, Any]) -> tuple[str, Any]:
    """Role and content of a message of LangChain's, or of a generation that is text alone."""
    kind = str(fields.get("type") or "ai")
    role = _ROLES.get(kind, "assistant" if "content" not in fields else kind)
    if "content" not in fields:
        return role, fields.get("text")
    content = fields["content"]
    calls = [] if _has_calls(content) else fields.get("tool_calls")
    if kind == "tool":
        return role, {"role": role, "content": content, "tool_call_id": fields.get("tool_call_id")}
    return role, {"content": content, "tool_calls": calls}


def _has_calls(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") in ("tool_use", "function_call")
        for part in content
    )


def langchain_messages(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]] | None:
    """Role and content of what LangChain was asked; None for another request."""
    if "llm" in request and "prompt" in request:
        asked = request["prompt"]
    elif "messages" in request and "response_format" in request and "settings" in request:
        system = request.get("system")
        asked = [*([system] if system else []), *(request["messages"] or ())]
    else:
        return None
    return _asked(asked)


def _asked(asked: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(asked, list):
        yield "user", asked
        return
    for message in asked:
        fields = message.get("kwargs") if isinstance(message, dict) else None
        yield _message(fields) if isinstance(fields, dict) else ("user", message)


def langchain_settings(request: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request to LangChain: the model's own, and those of the call."""
    asked = request.get("llm") if "llm" in request else request.get("model")
    if not isinstance(asked, dict):
        return {}
    found: dict[str, Any] = {}
    model = asked.get("model")
    if isinstance(model, dict):
        path, kwargs = model.get("id"), model.get("kwargs")
        kwargs = kwargs if isinstance(kwargs, dict) else {}
        named = kwargs.get("model_name") or kwargs.get("model")
        found["model"] = named or (path[-1] if isinstance(path, list) and path else None)
        found |= {k: v for k, v in kwargs.items() if k not in ("model", "model_name")}
    params = asked.get("params")
    found |= params if isinstance(params, dict) else {}
    others = ("tools", "tool_choice", "response_format", "settings")
    found |= {name: request[name] for name in others if request.get(name)}
    return {name: value for name, value in found.items() if value is not None}
