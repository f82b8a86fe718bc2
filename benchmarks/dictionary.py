"""Makes a compression dictionary, of made-up prose in the structures that entries have.

`python -m benchmarks.dictionary 2 FILE` writes the second one. A dictionary that was ever released
stays in the package as it is: what was compressed with it can be read with nothing else.
"""

from __future__ import annotations

import json
import random
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from cachewrap.entry import HttpAnswer
from cachewrap.format import codec
from cachewrap.request.key import encode

_PROSE = Path(__file__).with_name("prose.txt")
_SAMPLES = 6_000
_STATISTICS = 8192
"""Bytes of the dictionary that the statistics are taken from."""

_OFFSETS = struct.pack("<III", 1, 4, 8)
"""The end of a dictionary's statistics: the offsets that are usual at first."""

_PRIVATE = 2**15
"""Numbers of dictionaries from here on are anybody's."""

_MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "claude-sonnet-4-5")
_HEADERS = [("content-type", "application/json"), ("x-request-id", "req_0123456789abcdef")]


def _sentences() -> list[str]:
    text = _PROSE.read_text(encoding="utf-8")
    return [one for line in text.splitlines() for one in re.split(r"(?<=[.!?:]) ", line) if one]


class _Samples:
    """Entries' sections, drawn at random, the same in every run."""

    def __init__(self) -> None:
        self._draw = random.Random(7)
        self._known = _sentences()

    def __iter__(self) -> Iterator[bytes]:
        kinds = (self._text, self._text, self._called, self._asked, self._answered, self._streamed)
        for index in range(_SAMPLES):
            yield kinds[index % len(kinds)]()

    def structures(self) -> list[bytes]:
        """What is around the texts, the most usual last."""
        self._known = [""]
        asked = (self._asked, self._called, self._asked, self._called)
        return [make() for make in (self._streamed, self._answered, self._answered, *asked)]

    def _prose(self, most: int = 12) -> str:
        number = self._draw.randint(1, most)
        joint = self._draw.choice((" ", " ", "\n\n", "\n"))
        return joint.join(self._draw.choices(self._known, k=number)).strip()

    def _text(self) -> bytes:
        return self._prose().encode()

    def _messages(self) -> list[Any]:
        system = [{"role": "system", "content": self._prose(4)}]
        turns = [
            {"role": ("user", "assistant")[index % 2], "content": self._prose(6)}
            for index in range(self._draw.choice((1, 1, 3)))
        ]
        return [*system[: self._draw.randint(0, 1)], *turns]

    def _options(self) -> dict[str, Any]:
        all_of_them = {
            "temperature": self._draw.choice((0.0, 0.2, 0.7, 1.0)),
            "max_tokens": self._draw.choice((256, 512, 1024, 4096)),
            "top_p": 1.0,
            "n": 1,
            "seed": 42,
            "stream": True,
            "response_format": {"type": "json_object"},
        }
        names = self._draw.sample(sorted(all_of_them), self._draw.randint(0, 3))
        return {name: all_of_them[name] for name in names}

    def _body(self) -> dict[str, Any]:
        chat = {"model": self._draw.choice(_MODELS), "messages": self._messages()}
        return {**chat, **self._options()}

    def _called(self) -> bytes:
        if self._draw.random() < 0.5:
            arguments: dict[str, Any] = {"prompt": self._prose(6), **self._options()}
        else:
            arguments = self._body()
        return encode({"function": "__main__:complete", "arguments": arguments})

    def _asked(self) -> bytes:
        url = "https://api.openai.com/v1/chat/completions"
        return encode({"method": "POST", "url": url, "body": self._body()})

    def _usage(self) -> dict[str, Any]:
        asked, told = self._draw.randint(9, 900), self._draw.randint(9, 900)
        return {
            "prompt_tokens": asked,
            "completion_tokens": told,
            "total_tokens": asked + told,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._draw.getrandbits(140):x}",
            "object": kind,
            "created": 1_700_000_000 + self._draw.randint(0, 10**8),
            "model": self._draw.choice(_MODELS),
        }

    def _answered(self) -> bytes:
        message = {
            "role": "assistant",
            "content": self._prose(),
            "refusal": None,
            "annotations": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        rest = {
            "usage": self._usage(),
            "service_tier": "default",
            "system_fingerprint": f"fp_{self._draw.getrandbits(40):x}",
        }
        body = {**self._head("chat.completion"), "choices": [choice], **rest}
        text = self._draw.choice((_compact, _spaced, _indented))(body)
        return codec.encode(HttpAnswer(200, _HEADERS, [text.encode()], []))[1]

    def _streamed(self) -> bytes:
        head = self._head("chat.completion.chunk")
        deltas: list[Any] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": f" {word}"} for word in self._prose(2).split()[:8]]
        choices = [
            {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
            for delta in [*deltas, {}]
        ]
        choices[-1]["finish_reason"] = "stop"
        lines = [f"data: {_compact({**head, 'choices': [choice]})}" for choice in choices]
        return "\n\n".join([*lines, "data: [DONE]", ""]).encode()


def _compact(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"))


def _spaced(body: Any) -> str:
    return json.dumps(body)


def _indented(body: Any) -> str:
    return json.dumps(body, indent=2)


def make(number: int) -> bytes:
    """The dictionary of a number: what zstd knows of such texts, and then the texts themselves.

    The statistics are those of sections compressed with next to no dictionary. Trained on its own
    content a dictionary expects to find all of it, and does worse than none with other texts.
    """
    samples = _Samples()
    trained = zstandard.train_dictionary(_STATISTICS, list(samples), level=3).as_bytes()
    statistics = trained[8 : trained.index(_OFFSETS) + len(_OFFSETS)]
    head = trained[:4] + struct.pack("<I", _PRIVATE + number) + statistics
    return head + b"".join(samples.structures()) + " ".join(_sentences()).encode()


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(make(int(sys.argv[1])))
