"""Caches with entries that are known to the last byte, and the command line in this process."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.cli.main import main
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request import key

DAY = 86_400.0


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Its output, JSON by line."""
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs commands in this process.

    Args:
        capture: pytest's ``capsys``.
    """

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: str) -> Result:
        self._capture.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        out, err = self._capture.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Result(code, out, err)


def chat(prompt: str, answer: str, model: str = "gpt-4o") -> tuple[dict[str, Any], HttpAnswer]:
    """A chat request and its answer."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    request = {"method": "POST", "url": "http://up/v1/chat/completions", "body": body}
    message = {"role": "assistant", "content": answer}
    return request, answer_of({"model": model, "choices": [{"index": 0, "message": message}]})


def answer_of(body: Any) -> HttpAnswer:
    """A whole JSON answer."""
    return HttpAnswer(200, [("content-type", "application/json")], [json.dumps(body).encode()], [])


def stream_of(events: list[tuple[float, Any]]) -> HttpAnswer:
    """An event stream: when each event came, and what it holds."""
    return HttpAnswer(
        200,
        [("content-type", "text/event-stream")],
        [f"data: {json.dumps(event)}\n\n".encode() for _, event in events],
        [delay for delay, _ in events],
        streamed=True,
    )


def put(
    url: str,
    request: dict[str, Any],
    answer: Any,
    *,
    age: float = 0.0,
    model: str = "",
    source: str = "POST /chat/completions",
    tokens: tuple[int, int] = (0, 0),
    seconds: float = 0.5,
    salt: tuple[str, ...] = (),
    under: str | None = None,
    keep_request: bool = True,
) -> str:
    """Store an entry and return its key.

    Args:
        url: the cache.
        request: the canonical request.
        answer: the value that was answered.
        age: seconds since it was stored.
        model: the model's name.
        source: the function or endpoint.
        tokens: of the prompt and of the completion.
        seconds: what upstream took.
        salt: what is hashed with the request.
        under: another key than that of the request.
        keep_request: whether the request is stored.
    """
    cache = Cache.from_url(url)
    asked = key.encode(request)
    name = under or key.key_of(key.salted(*salt), asked)
    facts = Facts(time.time() - age, seconds, 0.0, source, model, *tokens)
    raw = seal(*codec.encode(answer), asked if keep_request else b"", facts)
    cache.store.set(name, cache._guard.close(name, raw))
    cache.close()
    return name
