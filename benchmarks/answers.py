"""What it costs to come from an entry to what a function returned, in hits of decorated functions.

The floor is a hit of diskcache's `memoize`, which pickles the same answer. One more group has the
misses of a function that returns a completion.
"""

from __future__ import annotations

import itertools
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import diskcache
import numpy
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from benchmarks.harness import Row
from benchmarks.requests import BIG, SMALL, Size
from cachewrap import Cache, llm_cached


@dataclass
class City:
    """An answer that is a dataclass."""

    name: str
    people: int
    area: float
    rivers: list[str]


class Town(BaseModel):
    """An answer that is a model."""

    name: str
    people: int
    area: float
    rivers: list[str]


def completion(size: Size) -> ChatCompletion:
    """A chat completion, as the SDK gives it."""
    return ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1234567890",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": "gpt-4o-mini-2024-07-18",
            "service_tier": "default",
            "system_fingerprint": "fp_1234567890",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": size.answer(),
                        "refusal": None,
                        "annotations": [],
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 250,
                "completion_tokens": 300,
                "total_tokens": 550,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
        }
    )


def numbers() -> list[float]:
    """An embedding: numbers of 32 bits, as the API sends them."""
    draw = random.Random(1)
    packed = struct.pack("<1536f", *(draw.gauss(0, 0.03) for _ in range(1536)))
    return list(struct.unpack("<1536f", packed))


def embedding() -> CreateEmbeddingResponse:
    """The response to a request for one embedding."""
    return CreateEmbeddingResponse.model_validate(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": numbers()}],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        }
    )


def answers() -> dict[str, tuple[Any, float]]:
    """What functions return, by title, and what a hit may cost of the floor."""
    rivers = ["Spree", "Havel"]
    plain = {"name": "Berlin", "people": 3_700_000, "area": 891.7, "rivers": rivers}
    return {
        "answer: a text": (SMALL.answer(), 0.75),
        "answer: a tuple": (("Berlin", 3_700_000, 891.7), 0.75),
        "answer: a dictionary": (plain, 0.75),
        "answer: a list": ([*rivers, "Panke"], 0.75),
        "answer: a dataclass": (City("Berlin", 3_700_000, 891.7, rivers), 0.9),
        "answer: a pydantic model": (Town.model_validate(plain), 0.9),
        "answer: a ChatCompletion, small": (completion(SMALL), 0.6),
        "answer: a ChatCompletion, big": (completion(BIG), 0.6),
        "answer: an embedding response": (embedding(), 0.5),
        "answer: a list of 1,536 numbers": (numbers(), 0.9),
        "answer: a numpy array": (numpy.array(numbers(), "f4"), 0.8),
    }


def groups() -> dict[str, Callable[[], AbstractContextManager[list[Row]]]]:
    """The rows of every kind of answer, by title."""
    found = {title: partial(_beside, *each) for title, each in answers().items()}
    return {**found, "miss of a ChatCompletion": misses}


@contextmanager
def _beside(answer: Any, target: float) -> Iterator[list[Row]]:
    """A hit, beside `memoize`."""
    left = iter([answer, answer])  # whatever is returned afterwards was stored

    def ask(prompt: str, *, model: str = "m") -> Any:
        return next(left)

    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        disk = Cache.disk(cache_path_root=ours)
        cached = llm_cached(ask)
        with diskcache.Cache(theirs) as raw:
            memoized = raw.memoize()(ask)
            yield [
                Row("diskcache memoize", lambda: memoized("Hello")),
                Row("hit", lambda: cached("Hello"), lambda: disk, target=target),
            ]
        disk.close()


@contextmanager
def misses() -> Iterator[list[Row]]:
    """What a miss adds to a function that returns a completion at once, beside `memoize`."""
    numbered = itertools.count()
    left = itertools.repeat(completion(SMALL))

    def ask(prompt: str, *, n: int) -> Any:
        return next(left)

    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        cached = llm_cached(ask)
        with (
            diskcache.Cache(theirs, eviction_policy="none") as raw,
            Cache.disk(cache_path_root=ours),
        ):
            memoized = raw.memoize()(ask)
            yield [
                Row("diskcache memoize", lambda: memoized("Hello", n=next(numbered))),
                Row("miss", lambda: cached("Hello", n=next(numbered)), target=1.0),
            ]
