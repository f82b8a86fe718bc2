"""Calls with their entries, stored by hand, for what compares runs."""

from __future__ import annotations

import json
from typing import Any

from cachewrap import Cache
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.ledger.names import REPLACED
from cachewrap.ledger.pieces import Ended, Replaced, encode
from cachewrap.ledger.runs import Run
from cachewrap.request import key
from cachewrap.stores.base import Logs
from ledger.making import ended

STARTED = 1_800_000_000.0


def asked(prompt: str, *more: dict[str, str], model: str = "gpt-4o", **settings: Any) -> Any:
    """A chat request: what comes before the prompt, and the prompt."""
    body = {"model": model, "messages": [*more, {"role": "user", "content": prompt}], **settings}
    return {"method": "POST", "url": "http://up/v1/chat/completions", "body": body}


def said(text: str | None, number: int = 0, **message: Any) -> HttpAnswer:
    """A chat answer, with an id and a time of its own."""
    body = {
        "id": f"chatcmpl-{number}",
        "created": 1_700_000_000 + number,
        "system_fingerprint": f"fp_{number}",
        "usage": {"prompt_tokens": number},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, **message}}],
    }
    headers = [("content-type", "application/json"), ("x-request-id", f"req-{number}")]
    return HttpAnswer(200, headers, [json.dumps(body).encode()], [])


def streamed(*texts: str) -> HttpAnswer:
    """A chat answer in pieces."""
    events = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    chunks = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return HttpAnswer(200, [], chunks, [0.1] * len(chunks), streamed=True)


def entry_of(
    cache: Cache, request: Any, answer: Any, at: float, *, keep_request: bool = True
) -> tuple[str, bytes]:
    """The key of a request, and what is stored for it."""
    encoded = key.encode(request)
    name = key.key_of(key.salted(), encoded)
    facts = Facts(STARTED + at, 1.5, 0.0, "POST /chat/completions", "gpt-4o", 100, 20)
    raw = seal(*codec.encode(answer), encoded if keep_request else b"", facts)
    return name, cache._guard.close(name, raw)


def call(
    cache: Cache,
    request: Any,
    answer: Any = "fine",
    at: float = 0.0,
    *,
    seed: str = "41",
    keep_request: bool = True,
    **given: Any,
) -> Ended:
    """A call whose answer is stored."""
    there = cache.reseed(seed)
    name, raw = entry_of(there, request, answer, at, keep_request=keep_request)
    there.store.set(name, raw)
    usual = {"started": STARTED + at, "answered": STARTED + at, "tokens_in": 100, "upstream": 1.5}
    return ended(name, seed=seed, **{"tokens_out": 20, **usual, **given})


def keep(cache: Cache, run: Run, request: Any, answer: Any, at: float) -> None:
    """Keep an answer that was replaced in a run."""
    name, raw = entry_of(cache, request, answer, at)
    store = cache.store
    assert isinstance(store, Logs)
    replaced = Replaced(name, cache.seed or "", STARTED + at, raw)
    store.append_to_log(f"{REPLACED}{run.log}", [encode(replaced)])
