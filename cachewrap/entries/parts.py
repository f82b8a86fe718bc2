"""Parts of what is said, of every API: texts, thoughts, calls of tools, their results, pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cachewrap.entries.conversation import content_text, objects_in, stream_events
from cachewrap.entry import HttpAnswer

PartKind = Literal["text", "thinking", "call", "result", "picture"]

_DEEPEST: Final = 40
_TEXTS: Final = ("text", "refusal", "input_text", "output_text", "transcript")
_INSIDE: Final = ("content", "parts", "output", "summary")
_THOUGHTS: Final = ("thinking", "reasoning_content", "reasoning", "thought")
_RESULTS: Final = ("functionResponse", "function_response")
_CALLS: Final = ("functionCall", "function_call", "custom", "function")
_IDS: Final = ("tool_call_id", "call_id", "tool_use_id", "id")
_PICTURES: Final = ("image_url", "input_image", "computer_screenshot", "image")
_OPAQUE: Final = frozenset({"file", "input_file", "document", "input_audio", "audio"})


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a turn.

    Args:
        kind: what it is. A picture's text is what `content_text` says of it.
        text: what is said, thought or given; of a call its arguments, as they were stored.
        name: the tool, of a call.
        id: what links a call with its result, or ``""``.
        data: a picture in Base64 or as a ``data:`` URL.
    """

    kind: PartKind
    text: str
    name: str = ""
    id: str = ""
    data: str = ""


def parts_of(content: Any) -> list[Part]:
    """The parts of a message, of its content, or of one part of it."""
    return [part for part in _parts(content, _DEEPEST) if part.text or part.kind != "text"]


def _parts(content: Any, room: int) -> Iterator[Part]:
    room -= 1
    if isinstance(content, list) and room > 0:
        for item in content:
            yield from _parts(item, room)
    elif not isinstance(content, Mapping) or room <= 0:
        yield Part("text", content if isinstance(content, str) else content_text(content))
    elif (found := _result(content)) is not None:
        given, name = found
        yield Part("result", _given_back(given, room), name, name or _id(content))
        yield from (part for part in _parts(given, room) if part.kind == "picture")
    elif data := _picture(content):
        yield Part("picture", content_text(content), data=data)
    elif (url := _url(content))[:4].lower() == "http":
        yield Part("text", url)
    else:
        yield from _said(content, room)


def _said(content: Mapping[str, Any], room: int) -> Iterator[Part]:
    for name in _THOUGHTS:
        if isinstance(content.get(name), str) and content[name]:
            yield Part("thinking", content[name])
            break
    kind = str(content.get("type") or "")
    text = next((content[n] for n in _TEXTS if isinstance(content.get(n), str)), None)
    inner = [content[n] for n in _INSIDE if content.get(n)] if kind not in _OPAQUE else []
    if text is not None:
        yield Part("thinking" if kind == "summary_text" or content.get("thought") else "text", text)
    for part in inner:
        yield from _parts(part, room)
    calls = [*objects_in(content, "tool_calls"), *([content] if _is_call(content) else [])]
    if isinstance(content.get("function_call"), Mapping) and "role" in content:
        calls.append(content["function_call"])
    yield from map(_call, calls)
    if text is None and not inner and not calls and "role" not in content and kind != "thinking":
        yield Part("text", content_text(content))


def _is_call(content: Mapping[str, Any]) -> bool:
    kind = str(content.get("type") or "")
    return (
        "functionCall" in content
        or ("arguments" in content and "role" not in content)
        or kind.endswith("tool_use")
        or kind in ("tool_call", "custom_tool_call")
    )


def _call(call: Mapping[str, Any]) -> Part:
    given = next((call[n] for n in _CALLS if isinstance(call.get(n), Mapping)), call)
    arguments = next((given[n] for n in ("arguments", "args", "input") if n in given), "")
    name = given.get("name")
    return Part("call", _json(arguments), name if isinstance(name, str) else "", _id(call))


def _id(content: Mapping[str, Any]) -> str:
    return next((content[n] for n in _IDS if isinstance(content.get(n), str)), "")


def _result(content: Mapping[str, Any]) -> tuple[Any, str] | None:
    """What a tool gave, and its name where nothing else links it with the call; None for others."""
    kind = str(content.get("type") or "")
    for name in _RESULTS:
        if isinstance(content.get(name), Mapping):
            given = content[name]
            return given.get("response"), str(given.get("name") or "")
    if content.get("role") == "tool" or kind.endswith("tool_result") or kind == "tool":
        return content.get("content"), ""
    if kind.endswith("call_output"):
        return content.get("output"), ""
    if content.get("role") == "function":
        return content.get("content"), str(content.get("name") or "")
    return None


def _given_back(given: Any, room: int) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, list):
        return "\n".join(part.text for part in _parts(given, room) if part.text)
    return "" if given is None else _json(given)


def _picture(content: Mapping[str, Any]) -> str:
    """The bytes of a picture in one of the forms in which APIs have them; ``""`` for none."""
    kind = str(content.get("type") or "")
    if isinstance(content.get("b64_json"), str):
        return str(content["b64_json"])
    if kind == "image_generation_call" and isinstance(content.get("result"), str):
        return str(content["result"])
    if (url := _url(content))[:5].lower() == "data:":
        return url
    inside = next(
        (
            content[n]
            for n in ("source", "inlineData", "inline_data")
            if isinstance(content.get(n), Mapping)
        ),
        content if kind == "image" else {},
    )
    data = inside.get("data") or inside.get("base64")
    said = str(inside.get("media_type") or inside.get("mimeType") or inside.get("mime_type") or "")
    is_image = kind == "image" or said.startswith("image/")
    return data if isinstance(data, str) and is_image else ""


def _url(content: Mapping[str, Any]) -> str:
    """Where the picture in a part lies; ``""`` for what is no picture, or tells no place."""
    if content.get("type") not in _PICTURES:
        return ""
    found: Any = next((content[n] for n in ("image_url", "source", "url") if n in content), "")
    found = found.get("url") if isinstance(found, Mapping) else found
    return found if isinstance(found, str) else ""


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """A piece of a stream, of what is said, of a call, or of what was thought.

    Args:
        delay: the seconds after the start of the call at which it came.
        text: what it adds.
        number: the call, by its place in `Stream.calls`; -1 for a thought, None for what is said.
    """

    delay: float
    text: str
    number: int | None = None


THOUGHT: Final = -1


class Stream:
    """The pieces of an event stream, and the calls of tools that they are parts of.

    Attributes:
        pieces: each with the seconds after which it came.
        calls: the name and the id of each call.
    """

    def __init__(self, answer: HttpAnswer) -> None:
        self.pieces: list[StreamPiece] = []
        self.calls: list[tuple[str, str]] = []
        self._numbers: dict[object, int] = {}
        for delay, event in stream_events(answer):
            for text, number in self._event(event):
                if text or number is not None:
                    self.pieces.append(StreamPiece(delay, text, number))

    def parts(self) -> list[Part]:
        """What the pieces make together."""
        said: dict[object, list[str]] = {}
        last: object = None
        for at, piece in enumerate(self.pieces):
            is_call = piece.number is not None and piece.number >= 0
            if is_call:
                last = piece.number
            elif last is None or not isinstance(last, tuple) or last[0] != piece.number:
                last = piece.number, at
            said.setdefault(last, []).append(piece.text)
        return [self._part(name, "".join(texts)) for name, texts in said.items()]

    def _part(self, name: object, text: str) -> Part:
        if isinstance(name, int):
            return Part("call", text, *self.calls[name])
        number = name[0] if isinstance(name, tuple) else None
        return Part("thinking" if number == THOUGHT else "text", text)

    def _number(self, name: object, call: Mapping[str, Any], given: Mapping[str, Any]) -> int:
        """The number of a call, by its place in the stream."""
        number = self._numbers.setdefault(name, len(self.calls))
        if number == len(self.calls):
            self.calls.append(("", ""))
        known = self.calls[number]
        self.calls[number] = (known[0] or str(given.get("name") or ""), known[1] or _id(call))
        return number

    def _event(self, event: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
        kind = str(event.get("type") or "")
        if kind.endswith(".delta"):
            yield from self._response_delta(kind, event)
        elif kind == "response.output_item.added":
            item = event.get("item")
            calls = ("function_call", "custom_tool_call")
            if isinstance(item, Mapping) and item.get("type") in calls:
                yield "", self._number(("output", event.get("output_index")), item, item)
        elif kind == "content_block_start":
            block = event.get("content_block")
            if isinstance(block, Mapping) and str(block.get("type")).endswith("tool_use"):
                yield "", self._number(("block", event.get("index")), block, block)
        elif kind == "content_block_delta":
            yield from self._block_delta(event)
        for choice in objects_in(event, "choices"):
            yield from self._choice(choice)
        for candidate in objects_in(event, "candidates"):
            for part in parts_of(candidate.get("content")):
                number = THOUGHT if part.kind == "thinking" else None
                if part.kind == "call":
                    number = self._number(len(self.calls), {"id": part.id}, {"name": part.name})
                yield part.text, number

    def _response_delta(
        self, kind: str, event: Mapping[str, Any]
    ) -> Iterator[tuple[str, int | None]]:
        text = event.get("delta")
        if not isinstance(text, str):
            return
        if kind.endswith(("call_arguments.delta", "tool_call_input.delta")):
            yield text, self._number(("output", event.get("output_index")), {}, {})
        elif "reasoning" in kind:
            yield text, THOUGHT
        elif kind in (
            "response.output_text.delta",
            "response.refusal.delta",
            "transcript.text.delta",
        ):
            yield text, None

    def _block_delta(self, event: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
        delta = event.get("delta")
        if not isinstance(delta, Mapping):
            return
        if isinstance(delta.get("text"), str):
            yield delta["text"], None
        if isinstance(delta.get("thinking"), str):
            yield delta["thinking"], THOUGHT
        if isinstance(delta.get("partial_json"), str):
            yield delta["partial_json"], self._number(("block", event.get("index")), {}, {})

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
        delta = choice.get("delta")
        if not isinstance(delta, Mapping):
            if isinstance(choice.get("text"), str):
                yield choice["text"], None
            return
        for name in ("reasoning_content", "reasoning"):
            if isinstance(delta.get(name), str):
                yield delta[name], THOUGHT
                break
        for name in ("content", "refusal"):
            if delta.get(name):
                yield str(delta[name]), None
        calls = [(call.get("index"), call) for call in objects_in(delta, "tool_calls")]
        if isinstance(delta.get("function_call"), Mapping):
            calls.append((None, delta))
        for index, call in calls:
            found = (call[n] for n in _CALLS if isinstance(call.get(n), Mapping))
            given: Mapping[str, Any] = next(found, {})
            number = self._number((choice.get("index"), index), call, given)
            yield str(given.get("arguments") or ""), number
