"""What a recorded event stream tells: whether it is whole, and what it says about model and usage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# After these nothing follows that a caller would see.
_LAST: Final = frozenset(
    """
    response.completed response.incomplete message_stop transcript.text.done speech.audio.done
    """.split()
)
# One comes for each of several results: the stream is whole when it also ends properly.
_DONE: Final = frozenset({"image_generation.completed", "image_edit.completed"})
_FAILED: Final = frozenset({"error", "response.failed", "response.error", "response.cancelled"})


@dataclass(slots=True)
class Facts:
    """What an answer says about itself.

    Args:
        model: the model's name, or ``""``.
        tokens_in: prompt tokens, or 0.
        tokens_out: completion tokens, or 0.
    """

    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0

    def read(self, body: Mapping[str, Any]) -> None:
        """Take in what a JSON answer or one event of a stream says."""
        for part in (body, body.get("response"), body.get("message")):
            if not isinstance(part, Mapping):
                continue
            if isinstance(model := part.get("model"), str):
                self.model = model
            usage = part.get("usage")
            if isinstance(usage, Mapping):
                self.tokens_in = _count(usage, "prompt_tokens", "input_tokens", self.tokens_in)
                self.tokens_out = _count(
                    usage, "completion_tokens", "output_tokens", self.tokens_out
                )


def _count(usage: Mapping[str, Any], chat: str, responses: str, before: int) -> int:
    value = usage.get(chat, usage.get(responses))
    return value if isinstance(value, int) else before


def read_stream(body: bytes, *, ended: bool) -> Facts | None:
    """The facts of a recorded event stream that is whole, else None.

    Args:
        body: the decoded bytes that were recorded.
        ended: whether the stream came to its own end, rather than being closed by its reader.

    A stream is whole when its last event was seen; one that has no such event, when every choice
    has a finish reason (every picture is complete) and the stream ended by itself. One with an error in it is
    never whole.
    """
    facts = Facts()
    last = done = False
    open_choices: dict[Any, bool] = {}
    for name, data in _events(body):
        if data.startswith("[DONE]"):
            last = True
            break
        try:
            event = json.loads(data)
        except ValueError:
            return None
        if not isinstance(event, Mapping):
            continue
        kind = event.get("type") or name
        if kind in _FAILED or name == "error" or event.get("error"):
            return None
        last = last or kind in _LAST
        done = done or kind in _DONE
        facts.read(event)
        for choice in event.get("choices") or ():
            if choice.get("error"):
                return None
            index = choice.get("index", 0)
            open_choices[index] = open_choices.get(index, True) and not choice.get("finish_reason")
    if open_choices and not any(open_choices.values()):
        done = True
    return facts if last or (done and ended) else None


def _events(body: bytes) -> Iterator[tuple[str, str]]:
    """The name and data of each event, https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    name = ""
    data: list[str] = []
    for line in body.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    if data:
        yield name, "\n".join(data)
