"""Requests and answers of every API and of functions, as a conversation of roles and texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cachewrap.entries.values import (
    bare,
    langchain_messages,
    langchain_settings,
    said_by,
)
from cachewrap.entry import Entry, HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec
from cachewrap.format.aliases import alias_in

_TEXTS: Final = ("text", "refusal", "thinking", "input_text", "output_text", "transcript")
_INSIDE: Final = ("content", "parts", "output")
_DELTAS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
        "transcript.text.delta",
    }
)


def content_text(content: Any) -> str:
    """The text of a message, of its content, or of one part of it; other parts are named."""
    return "\n".join(filter(None, _said(content)))


def _said(content: Any) -> Iterator[str]:
    """What is said, piece by piece."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            yield from _said(part)
    elif not isinstance(content, dict):
        yield "" if content is None else json.dumps(content)
    elif texts := [content[n] for n in _TEXTS if isinstance(content.get(n), str)]:
        yield texts[0]
    else:
        inner = [content[n] for n in _INSIDE if n in content]
        calls = content.get("tool_calls")
        calls = list(calls) if isinstance(calls, list) else []
        calls += [content] if _is_call(content) else []
        for part in inner:
            yield from _said(part)
        for call in calls:
            yield _call(call)
        if not inner and not calls:
            yield _named(content)


def _named(part: Mapping[str, Any]) -> str:
    if "b64_json" in part:
        return f"[{len(str(part['b64_json'])) * 3 // 4} bytes]"
    kind = str(part.get("type") or next(iter(part), "part"))
    if kind.endswith("_call") or kind == "reasoning":
        return f"[{kind}]"
    return f"[{kind}, {len(json.dumps(part, default=str))} bytes]"


def body_parts(body: Any) -> Iterator[tuple[str, Any]]:
    """Role and content of each part of a whole answer; none for a shape that is not known."""
    if not isinstance(body, dict):
        return
    for choice in objects_in(body, "choices"):
        message = choice.get("message")
        if isinstance(message, dict):
            yield str(message.get("role") or "assistant"), message
        elif isinstance(choice.get("text"), str):
            yield "assistant", choice["text"]
    for item in objects_in(body, "output"):
        yield str(item.get("role") or item.get("type") or "assistant"), item
    if isinstance(body.get("content"), list):
        yield str(body.get("role") or "assistant"), body["content"]
    for candidate in objects_in(body, "candidates"):
        yield "assistant", candidate.get("content")
    for item in objects_in(body, "data"):
        if "embedding" in item:
            vector = item["embedding"]
            size = f"{len(vector)} numbers" if isinstance(vector, list) else "encoded"
            yield "embedding", f"[{size}]"
        elif "url" in item:
            yield "image", str(item["url"])
        elif "b64_json" in item:
            yield "image", item
    if isinstance(body.get("text"), str):
        yield "transcript", body["text"]


def event_piece(event: Mapping[str, Any]) -> str:
    """What one event of a stream adds to what is said; ``""`` for most."""
    if event.get("type") in _DELTAS:
        return str(event.get("delta") or "")
    said = []
    for choice in objects_in(event, "choices"):
        delta = choice.get("delta")
        if isinstance(delta, dict):
            said += [str(delta[n]) for n in ("content", "refusal") if delta.get(n)]
            for call in objects_in(delta, "tool_calls"):
                function = call.get("function")
                if isinstance(function, dict):
                    said += [f"{function['name']} "] if function.get("name") else []
                    said.append(str(function.get("arguments") or ""))
        elif isinstance(choice.get("text"), str):
            said.append(choice["text"])
    delta = event.get("delta")
    if event.get("type") == "content_block_delta" and isinstance(delta, dict):
        said += [str(delta[n]) for n in ("text", "thinking", "partial_json") if delta.get(n)]
    block = event.get("content_block")
    if isinstance(block, dict) and block.get("type") == "tool_use":
        said.append(f"{block.get('name')} ")
    for candidate in objects_in(event, "candidates"):
        said.append(content_text(candidate.get("content")))
    return "".join(said)


def objects_in(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a list of JSON, if there is one under that name."""
    found = holder.get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _is_call(content: Mapping[str, Any]) -> bool:
    return "arguments" in content or "functionCall" in content or content.get("type") == "tool_use"


def _call(call: Any) -> str:
    if not isinstance(call, dict):
        return ""
    given = next((call[n] for n in ("function", "functionCall", "custom") if n in call), call)
    if not isinstance(given, dict):
        return ""
    arguments = next((given[n] for n in ("arguments", "args", "input") if n in given), "")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{given.get('name', 'call')}({text})"


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn: who says what.

    Args:
        role: who.
        text: what, with the calls of tools.
        content: the message, or its content, as the API has it; None for a text of ours.
    """

    role: str
    text: str
    content: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a stream, and the seconds after the start of the call at which it came."""

    delay: float
    text: str


_SPOKEN: Final = ("system", "instructions", "messages", "contents", "input", "prompt")
_SILENT: Final = frozenset({"messages", "contents", "input", "prompt"})
CONVERSATIONS: Final = ("messages", "history", "conversation")
_PROMPTS: Final = ("prompt", "question", "query", "message", "text", "input", "content", "user")
PEOPLE: Final = frozenset({"user", "human"})
_RESULTS: Final = ("tool_result", "function_call_output", "functionResponse", "function_response")
KEY_ALONE: Final = "autogen"
"""The role of a key that says nothing of what was asked."""


def request_turns(request: Any) -> list[Turn]:
    """What was asked. Empty for an entry that was stored without its request."""
    if not isinstance(request, dict):
        return []
    if "function" in request:
        name = str(request["function"]).partition(":")[2] or "call"
        given = request.get("arguments", request.get("key"))
        if isinstance(given, dict):
            lines = [f"{field} = {_shown(value)}" for field, value in given.items()]
        else:
            lines = [_shown(given)]
        return [Turn(name, "\n".join(lines))]
    if (messages := langchain_messages(request)) is not None:
        return [_turn(role, content) for role, content in messages]
    body = request.get("body")
    if set(request) == {"key"}:
        body = _body_in(request["key"])
        if body is None:
            return [_key_turn(request["key"])]
    if not isinstance(body, dict):
        return [Turn("request", _shown({k: v for k, v in request.items() if k != "headers"}))]
    turns: list[Turn] = []
    for name in _SPOKEN:
        if name in body:
            turns += _turns(name, body[name])
    turns += [Turn("upload", _shown(upload)) for upload in request.get("files", ())]
    return turns


def _body_in(key: Any) -> dict[str, Any] | None:
    """The request in a key that is its JSON, as AutoGen 0.2 makes them for `cache.set`."""
    if not isinstance(key, str) or key[:1] != "{":
        return None
    try:
        body = json.loads(key)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and not _SILENT.isdisjoint(body) else None


def _key_turn(key: Any) -> Turn:
    if isinstance(key, list) and len(key) == 3 and key[0] == "autogen":
        scope = f"scope {key[1]}, " if key[1] else ""
        return Turn(KEY_ALONE, f"{scope}key {key[2]}")
    return Turn("cache.set", _shown(key))


def prompt_of(request: Any, turns: list[Turn]) -> str:
    """The last thing that a person said in a request: ``""`` where that was not stored.

    Of a function it is the argument that is named like a prompt, or the only one that is text, or
    all of them; of what was stored by hand the key.

    Args:
        request: the canonical request.
        turns: those of the request.
    """
    given = request.get("arguments") if isinstance(request, dict) else None
    if isinstance(given, dict) and (said := _argument(given)):
        return said
    return last_said(turns)


def last_said(turns: list[Turn]) -> str:
    """The text of a person's last turn; without one, of the last turn. ``""`` for none."""
    if not turns or turns[-1].role == KEY_ALONE:
        return ""
    people = (turn.text for turn in reversed(turns) if turn.role in PEOPLE and turn.text)
    return next(people, turns[-1].text)


def _argument(given: Mapping[str, Any]) -> str:
    for name in CONVERSATIONS:
        if isinstance(given.get(name), list) and (
            said := last_said(list(_turns(name, given[name])))
        ):
            return said
    for name in _PROMPTS:
        if isinstance(given.get(name), str):
            return str(given[name])
    texts = [value for value in given.values() if isinstance(value, str)]
    return texts[0] if len(texts) == 1 else ""


def request_settings(request: Any) -> dict[str, Any]:
    """The parameters of a request beside what is said in it."""
    if not isinstance(request, dict):
        return {}
    found: dict[str, Any] = {
        k: request[k] for k in ("version", "constants", "bound") if k in request
    }
    if langchain_messages(request) is not None:
        return found | langchain_settings(request)
    body = _body_in(request["key"]) if set(request) == {"key"} else request.get("body")
    if isinstance(body, dict):
        found |= {k: v for k, v in body.items() if k not in _SPOKEN}
    return found


def answer_turns(entry: Entry) -> list[Turn]:
    """What was answered. Raises `CorruptEntryError`."""
    if entry.kind is Kind.HTTP:
        answer: HttpAnswer = codec.decode(Kind.HTTP, entry.answer)
        if answer.streamed:
            text = "".join(piece.text for piece in _http_pieces(answer))
            return [Turn("assistant", text)] if text else [_whole(answer)]
        return _body_turns(answer)
    if entry.kind is Kind.ITEMS:
        items: Items = codec.decode(Kind.ITEMS, entry.answer)
        return [Turn("yields", _shown(_plain(*item))) for item in items.values]
    if (alias := alias_in(entry)) is not None:
        return [Turn("alias", f"the answer under {alias.target}")]
    plain = codec.plain_form(entry.kind, entry.answer)
    said = [turn for role, content in said_by(plain) or () for turn in _said_turns(role, content)]
    return said or [Turn("returns", _shown(bare(plain)))]


def _said_turns(role: str, content: Any) -> list[Turn]:
    if role:
        return [_turn(role, content)]
    return [_turn(role, part) for role, part in body_parts(content)]


def answer_pieces(entry: Entry) -> list[Piece]:
    """The parts of a stream with their times; empty for an answer that came at once."""
    if entry.kind is Kind.HTTP:
        answer: HttpAnswer = codec.decode(Kind.HTTP, entry.answer)
        return list(_http_pieces(answer)) if answer.streamed else []
    if entry.kind is Kind.ITEMS:
        items: Items = codec.decode(Kind.ITEMS, entry.answer)
        return [
            Piece(delay, _shown(_plain(*item)))
            for delay, item in zip(items.delays, items.values, strict=False)
        ]
    return []


def turns_text(turns: Iterable[Turn]) -> str:
    """All that is said, to be searched."""
    return "\n".join(turn.text for turn in turns)


def jsonable(value: Any, room: int = 200) -> Any:
    """A stored value as JSON has it: bytes as Base64, and ``…`` below so many levels."""
    if isinstance(value, bytes):
        return {"!bytes": base64.b64encode(value).decode()}
    if not isinstance(value, (dict, list, tuple)):
        return value
    room -= 1
    if room < 0:
        return "…"
    if isinstance(value, dict):
        return {str(key): jsonable(inner, room) for key, inner in value.items()}
    return [jsonable(inner, room) for inner in value]


def _turns(name: str, said: Any) -> Iterator[Turn]:
    if isinstance(said, list) and any(isinstance(part, dict) for part in said):
        for part in said:
            role = part.get("role") or part.get("type") if isinstance(part, dict) else None
            yield _turn("tool" if _is_result(part) else str(role or name), part)
    elif name in ("system", "instructions"):
        yield Turn("system", content_text(said), said)
    else:
        yield Turn("user", content_text(said), said)


def _is_result(message: Any) -> bool:
    """Whether a message in a person's name holds what tools gave, and nothing else."""
    content = message.get("content", message.get("parts")) if isinstance(message, dict) else None
    return isinstance(content, list) and bool(content) and all(map(_is_result_part, content))


def _is_result_part(part: Any) -> bool:
    return isinstance(part, dict) and (
        part.get("type") in _RESULTS or not part.keys().isdisjoint(_RESULTS)
    )


def _turn(role: str, content: Any) -> Turn:
    return Turn(role, content_text(content), content)


def _body_turns(answer: HttpAnswer) -> list[Turn]:
    body = b"".join(answer.chunks)
    try:
        value = json.loads(body)
        turns = [_turn(role, part) for role, part in body_parts(value)]
    except (ValueError, RecursionError):  # no JSON, or JSON that is nested too deeply
        return [_whole(answer)]
    return turns or [Turn("answer", _shown(value))]


def _whole(answer: HttpAnswer) -> Turn:
    body = b"".join(answer.chunks)
    kind = next((v for n, v in answer.headers if n.lower() == "content-type"), "")
    if kind.startswith("text/") or "json" in kind:
        return Turn("answer", body.decode(errors="replace"))
    return Turn("answer", f"[{len(body)} bytes of {kind or 'an unknown type'}]")


def stream_events(answer: HttpAnswer) -> Iterator[tuple[float, dict[str, Any]]]:
    """The events of a stream, each with the time of the chunk that completed it."""
    rest = b""
    for i, chunk in enumerate(answer.chunks):
        delay = answer.delays[i] if i < len(answer.delays) else 0.0
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            field, _, data = line.partition(b":")
            if field != b"data":
                continue
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield delay, event


def _http_pieces(answer: HttpAnswer) -> Iterator[Piece]:
    """The texts of an event stream."""
    for delay, event in stream_events(answer):
        text = ""
        with suppress(ValueError, RecursionError):
            text = event_piece(event)
        if text:
            yield Piece(delay, text)


def _plain(kind: Kind, data: bytes) -> Any:
    return bare(codec.plain_form(kind, data))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(jsonable(value), ensure_ascii=False, indent=2)
    except (TypeError, ValueError, RecursionError) as error:
        raise CorruptEntryError(f"a value that cannot be shown: {error}") from None
