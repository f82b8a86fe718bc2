"""The plans by which models are built: what they make is what the SDK makes."""

from __future__ import annotations

import copy
import importlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import openai._models
import pytest
from openai.types import Completion, CreateEmbeddingResponse, ModerationCreateResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from cachewrap.format.plans import Models
from cachewrap.sdk.front.results import Parser
from sdk.drawing import Drawing, differing, drawn, left_to_the_sdk, outcome
from sdk.openai.shapes import INSTALLED

pytestmark = pytest.mark.skipif(
    INSTALLED < (1, 109), reason="this version's models are left to the SDK"
)

MESSAGE = {
    "role": "assistant",
    "content": "Hi",
    "refusal": None,
    "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ],
    "reasoning": {"text": "because"},
}
CHOICE = {
    "index": 0,
    "finish_reason": "stop",
    "message": MESSAGE,
    "logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]},
}
USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "total_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 0},
}
HEAD = {"id": "x", "created": 1, "model": "m"}
SAMPLES: list[tuple[Any, dict[str, Any]]] = [
    (
        ChatCompletion,
        {**HEAD, "object": "chat.completion", "choices": [CHOICE], "usage": USAGE, "tier": [1]},
    ),
    (
        ChatCompletionChunk,
        {
            **HEAD,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
        },
    ),
    (
        Completion,
        {
            **HEAD,
            "object": "text_completion",
            "choices": [{"index": 0, "text": "a", "finish_reason": "stop", "logprobs": None}],
        },
    ),
    (
        CreateEmbeddingResponse,
        {
            "object": "list",
            "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1, -2.0]}],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        },
    ),
    (
        ModerationCreateResponse,
        {
            "id": "m",
            "model": "m",
            "results": [
                {
                    "flagged": False,
                    "categories": {"hate": False, "hate/threatening": True, "new": True},
                    "category_scores": {"hate": 1, "hate/threatening": 0.5},
                    "category_applied_input_types": {"hate": ["text"]},
                }
            ],
        },
    ),
]
ODD: list[Any] = [
    None,
    True,
    0,
    1.0,
    2**70,
    "7",
    "",
    [],
    [None],
    [1, "a"],
    {},
    {"type": "function"},
    {"_fields_set": ["x"], "a": 1},
    [{"index": "0", "finish_reason": "unheard of"}],
]

if INSTALLED >= (1, 66):
    from openai.types.responses import Response, ResponseStreamEvent

    RESPONSE = {
        "id": "r",
        "created_at": 1,
        "model": "m",
        "object": "response",
        "status": "completed",
        "error": None,
        "metadata": {"a": "b"},
        "parallel_tool_calls": True,
        "temperature": 1,
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
        },
        "tool_choice": "auto",
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}],
        "output": [
            {
                "type": "message",
                "id": "o",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
            },
            {"type": "something new", "id": "p"},
        ],
    }
    SAMPLES += [
        (Response, RESPONSE),
        (
            ResponseStreamEvent,
            {"type": "response.completed", "sequence_number": 1, "response": RESPONSE},
        ),
        (
            ResponseStreamEvent,
            {
                "type": "response.output_text.delta",
                "item_id": "o",
                "output_index": 0,
                "content_index": 0,
                "delta": "a",
                "sequence_number": 3,
                "logprobs": [],
            },
        ),
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a structure."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for name, inner in pairs:
        yield (*path, name)
        yield from places(inner, (*path, name))


def variants(sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The sample, and every way to spoil one place of it."""
    yield sample
    for path in places(sample):
        for odd in (*ODD, KeyError):
            changed = copy.deepcopy(sample)
            inner: Any = changed
            for name in path[:-1]:
                inner = inner[name]
            if odd is KeyError:
                del inner[path[-1]]
            else:
                inner[path[-1]] = copy.deepcopy(odd)
            yield changed


@pytest.mark.parametrize(("cls", "sample"), SAMPLES, ids=[str(i) for i in range(len(SAMPLES))])
def test_a_spoilt_answer_is_made_as_the_sdk_makes_it(cls: Any, sample: dict[str, Any]) -> None:
    every = 7 if "response" in sample else 1  # the SDK takes long for an event with a response
    spoilt = itertools.islice(variants(sample), 0, None, every)
    assert differing(openai._models, cls, spoilt) == []


RESULTS = {
    "chat.ChatCompletion": 0,
    "chat.ChatCompletionChunk": 0,
    "responses.Response": 2,  # where its instructions are messages
    "responses.ResponseStreamEvent": 2,
    "responses.InputTokenCountResponse": 0,
    "Completion": 0,
    "CreateEmbeddingResponse": 0,
    "ModerationCreateResponse": 0,
    "ImagesResponse": 0,
    "ImageGenStreamEvent": 0,
    "ImageEditStreamEvent": 0,
    "audio.Transcription": 0,
    "audio.TranscriptionVerbose": 0,
    "audio.TranscriptionStreamEvent": 0,
    "audio.Translation": 0,
    "audio.TranslationVerbose": 0,
}
"""What the endpoints answer, and how many of sixty hold something that is left to the SDK."""


def named(path: str) -> Any:
    module, _, name = f"openai.types.{path}".rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip("this version has none")
    return found


@pytest.mark.parametrize("path", RESULTS)
def test_whatever_comes_is_made_as_the_sdk_makes_it(path: str) -> None:
    cls = named(path)
    assert differing(openai._models, cls, drawn(cls, 90)) == []


@pytest.mark.parametrize(("path", "most"), RESULTS.items(), ids=RESULTS.keys())
def test_what_an_endpoint_answers_has_a_plan(path: str, most: int) -> None:
    cls = named(path)
    values = [Drawing(seed, 0).value(cls) for seed in range(60)]
    assert len(left_to_the_sdk(openai._models, cls, values)) <= most


def test_an_older_version_is_left_to_the_sdk() -> None:
    class Older:
        BaseModel = openai._models.BaseModel

        @staticmethod
        def construct_type(*, value: object, type_: object) -> None: ...

    assert Models(Older).builder(ChatCompletion) is None  # type: ignore[arg-type]


# -- embeddings -----------------------------------------------------------------------------------

ONE, TWO = "AACAPwAAAMA=", "AAAAPw=="
VECTORS: dict[str, Any] = {
    "base64": [ONE, TWO],
    "numbers": [[1.0, 0.5], [1]],
    "both": [ONE, [0.5]],
    "no number, and the largest": ["AADAfwAAgH8="],
    "nothing": [],
    "an empty text": [""],
    "in lines": [ONE, TWO[:4] + "\n" + TWO[4:]],
    "without its end": [ONE[:-1]],
    "other letters": ["-_8_Pw=="],
    "no base64": ["é"],
    "half a number": ["AACA"],
    "bits too many": ["AAAAPx=="],
    "null": [None, ONE],
    "a number": [5, ONE],
}


def embedding_parser() -> Callable[[Any], Any]:
    """What the SDK does to embeddings at the end."""
    client: Any = openai.OpenAI(api_key="k").embeddings
    given: list[Any] = []
    client._post = lambda *_, options, **__: given.append(options["post_parser"])
    type(client).create.__wrapped__(client, model="m", input="a") if hasattr(
        type(client).create, "__wrapped__"
    ) else client.create(model="m", input="a")
    (parse,) = given
    return parse  # type: ignore[no-any-return]


@pytest.mark.parametrize("vectors", VECTORS.values(), ids=VECTORS.keys())
def test_embeddings_are_decoded_as_the_sdk_decodes_them(vectors: list[Any]) -> None:
    parse = embedding_parser()
    build = Models(openai._models).builder(CreateEmbeddingResponse)
    assert build is not None
    quick = Parser(parse)
    quick.quicken(build)
    data = [{"object": "embedding", "index": 0, "embedding": vector} for vector in vectors]
    text = json.dumps({"object": "list", "model": "m", "data": data})
    keywords: Any = None
    ours = outcome(lambda value: quick.of(keywords)(build(value)), text)
    assert repr(ours) == repr(outcome(lambda value: parse(build(value)), text))
    assert quick.of(keywords) is not parse


def test_a_parser_that_leaves_embeddings_alone_is_left_alone() -> None:
    build = Models(openai._models).builder(CreateEmbeddingResponse)
    assert build is not None
    for parse in (lambda result: result, lambda result: 5):
        parser = Parser(parse)
        parser.quicken(build)
        assert parser._fixed is parse
