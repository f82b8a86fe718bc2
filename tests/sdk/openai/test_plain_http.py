"""One key space: what `patch_openai` stores serves plain HTTP of the same request, and back."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from cachewrap import patch_openai
from sdk.openai.asking import asking
from sdk.openai.shapes import (
    CHAT,
    RESPONSES,
    SHAPES,
    TOOLS,
    USAGE,
    Shape,
    also,
    chat,
    embed,
    picture,
    respond,
    transcribe,
)
from sdk.parity import Parity, Ways, both_ways, by_turns, forms

__all__ = ["forms"]

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
SYSTEM = {"role": "system", "content": "Grüße 😀 \u2028 </script>"}


def edit(n: int, /, **more: Any) -> dict[str, Any]:
    return {"model": "m", "prompt": f"Hat {n}", "image": ("a.png", picture(n)[1]), **more}


def listen(n: int, /, **more: Any) -> dict[str, Any]:
    return transcribe(n, **{"response_format": "verbose_json", **more})


MORE = (
    Shape("numbers", f"{CHAT}.create", also(chat, temperature=1.0, top_p=0.1, n=2, seed=2**53)),
    Shape("tiny-numbers", f"{CHAT}.create", also(chat, temperature=1e-7, presence_penalty=-2.0)),
    Shape(
        "logprobs", f"{CHAT}.create", also(chat, logprobs=True, top_logprobs=3, logit_bias={"5": 1})
    ),
    Shape(
        "system-and-image",
        f"{CHAT}.create",
        lambda n: {
            "model": "m",
            "messages": [
                SYSTEM,
                {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
            ],
        },
    ),
    Shape(
        "tools-and-more",
        f"{CHAT}.create",
        also(
            chat,
            tools=TOOLS,
            parallel_tool_calls=False,
            user="u",
            metadata={"team": "a"},
            stop=["a", "b"],
            extra_body={"cache_control": {"type": "ephemeral"}, "thing": [1.0, None, {"a": 0.0}]},
            extra_headers={"OpenAI-Organization": "o", "X-Tier": "a", "accept-language": "de"},
            extra_query={"tier": "a", "other": "b c&d"},
        ),
    ),
    Shape(
        "stream-and-more",
        f"{CHAT}.create",
        also(chat, stream=True, stream_options=USAGE, n=2, tools=TOOLS),
        "events",
    ),
    Shape("not-a-stream", f"{CHAT}.create", also(chat, stream=False)),
    Shape("embeddings-tokens", "embeddings.create", lambda n: embed(n) | {"input": [[1, 2], [n]]}),
    Shape(
        "embeddings-size", "embeddings.create", lambda n: embed(n) | {"dimensions": 4, "user": "u"}
    ),
    Shape("moderations-list", "moderations.create", lambda n: {"input": ["a", "b"], "model": "m"}),
    Shape(
        "responses-and-more",
        "responses.create",
        also(
            respond,
            instructions="Be kind.",
            reasoning={"effort": "low"},
            include=["reasoning.encrypted_content"],
            store=False,
            max_output_tokens=10,
        ),
        since=RESPONSES,
    ),
    Shape("input-tokens", "responses.input_tokens.count", respond, since=(2, 0)),
)
UPLOADS = (
    Shape("edit", "images.edit", edit),
    Shape(
        "edit-numbers",
        "images.edit",
        also(edit, n=2, size="256x256", extra_body={"output_compression": 80}),
    ),
    Shape(
        "edit-many",
        "images.edit",
        lambda n: edit(n) | {"image": [("a.png", b"1"), ("b.png", b"2")], "mask": b"mask"},
        since=(1, 70),
    ),
    Shape("variation", "images.create_variation", lambda n: {"image": b"1", "n": 2}),
    Shape("listen", "audio.transcriptions.create", transcribe),
    Shape("listen-text", "audio.transcriptions.create", also(transcribe, response_format="text")),
    Shape(
        "listen-and-more",
        "audio.transcriptions.create",
        also(
            listen,
            temperature=0.2,
            language="de",
            prompt="Grüße, \r\n--x",
            timestamp_granularities=["word", "segment"],
        ),
    ),
    Shape(
        "listen-chunks",
        "audio.transcriptions.create",
        also(
            transcribe,
            extra_body={
                "include": ["logprobs"],
                "temperature": 1.0,
                "chunking_strategy": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "silence_duration_ms": 200,
                },
            },
        ),
    ),
    Shape(
        "listen-odd-name",
        "audio.transcriptions.create",
        lambda n: {"model": "m", "file": ('Grü"ß\\e;=%.wav', b"\r\n--\r\n\0\xff")},
    ),
    Shape(
        "listen-type",
        "audio.transcriptions.create",
        lambda n: {"model": "m", "file": ("a.bin", b"1", "audio/odd", {"X-Part": "1"})},
    ),
    Shape(
        "listen-stream",
        "audio.transcriptions.create",
        also(transcribe, stream=True),
        "events",
        since=(1, 68),
    ),
    Shape("translate", "audio.translations.create", transcribe),
    Shape("listen-azure", "audio.transcriptions.create", transcribe, client="azure"),
)
# Two calls that send the same bytes, of which the other one gives the file a type: see `forms`.
TYPED = {"image-edit", "image-edit-prompt", "transcription-stream"}
NUMBERS_IN_A_QUERY = {"chat-extra-query"}
LEFT_OUT = TYPED | NUMBERS_IN_A_QUERY


@pytest.fixture(scope="module")
def ways(request: pytest.FixtureRequest, forms: None) -> Ways:
    """A call of one shape in both ways."""
    shape, name = request.param
    return both_ways(name, partial(asking, shape), patch_openai)


@by_turns(
    [
        *(shape for shape in SHAPES if shape.name not in LEFT_OUT),
        *(shape for shape in (*MORE, *UPLOADS) if shape.available),
    ]
)
class TestParity(Parity):
    """Every endpoint, in many shapes."""
