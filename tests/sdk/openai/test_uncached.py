"""Calls that are left alone, even inside a block: they reach the upstream every time."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache
from sdk.openai.asking import Colour, unmarked
from sdk.openai.shapes import BY_NAME, INSTALLED, RESPONSES, respond

Use = Callable[[Any], Any]


class Pipe(io.RawIOBase):
    """A file that can be read once and not rewound."""

    name = "a.wav"

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(buffer)


LEFT_ALONE: list[tuple[str, tuple[int, int], Use]] = [
    ("models list", (1, 0), lambda c: c.models.list()),
    ("model", (1, 0), lambda c: c.models.retrieve("m")),
    ("file upload", (1, 0), lambda c: c.files.create(file=b"{}", purpose="batch")),
    ("file", (1, 0), lambda c: c.files.retrieve("file-1")),
    ("file removal", (1, 0), lambda c: c.files.delete("file-1")),
    ("response", RESPONSES, lambda c: c.responses.retrieve("resp_1")),
    (
        "background",
        (1, 85),
        lambda c: c.responses.create(**respond(1), background=True),
    ),
    (
        "conversation",
        (1, 105),
        lambda c: c.responses.create(**respond(1), conversation="conv_1"),
    ),
    (
        "conversation in the extra body",
        RESPONSES,
        lambda c: c.responses.create(**respond(1), extra_body={"conversation": "conv_1"}),
    ),
    (
        "another endpoint",
        (1, 0),
        lambda c: c.post("/conversations", cast_to=object, body={}),
    ),
    (
        "a file that can be read once",
        (1, 0),
        lambda c: c.audio.transcriptions.create(model="m", file=Pipe(b"RIFF")),
    ),
]


@pytest.mark.parametrize(
    "use",
    [use for _, since, use in LEFT_ALONE if since <= INSTALLED],
    ids=[name for name, since, _ in LEFT_ALONE if since <= INSTALLED],
)
def test_it_goes_straight_through(
    up: Upstream, client: Any, colour: Colour, cache: Cache, use: Use
) -> None:
    with cache:
        colour.wait(use(client))
        colour.wait(use(client))
    assert up.calls == 2
    assert (cache.stats.hits, cache.stats.misses, cache.stats.stored) == (0, 0, 0)


def test_a_file_that_can_be_read_once_is_uploaded_whole(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.wait(client.audio.transcriptions.create(model="m", file=Pipe(b"RIFF" * 1000)))
    assert [part.content for part in up.last.parts() if part.filename] == [b"RIFF" * 1000]


CONTENT = b"RIFF\r\n\x00\xff" * 500


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Callable[[], Any]]:
    """The same upload in every form that the SDK takes and that can be read again."""
    path = tmp_path / "a.wav"
    path.write_bytes(CONTENT)
    return {
        "path": lambda: path,
        "open file": lambda: open(path, "rb"),
        "tuple": lambda: ("a.wav", CONTENT),
        "tuple of a buffer": lambda: ("a.wav", io.BytesIO(CONTENT)),
    }


@pytest.mark.parametrize("form", ["path", "open file", "tuple", "tuple of a buffer"])
class TestUploads:
    def test_the_same_file_again_is_a_hit(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, files: Any, form: str
    ) -> None:
        with cache:
            for _ in range(2):
                colour.wait(client.audio.transcriptions.create(model="m", file=files[form]()))
        assert up.calls == 1

    def test_it_is_uploaded_whole(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, files: Any, form: str
    ) -> None:
        with cache:
            colour.wait(client.audio.transcriptions.create(model="m", file=files[form]()))
        [part] = [part for part in up.last.parts() if part.filename]
        assert (part.filename, part.content) == ("a.wav", CONTENT)


@pytest.mark.parametrize(
    "other",
    [
        ("b.wav", CONTENT),
        ("a.wav", CONTENT + b"!"),
        ("a.wav", CONTENT, "audio/x-other"),
    ],
    ids=["name", "content", "type"],
)
def test_another_file_is_another_request(
    up: Upstream, client: Any, colour: Colour, cache: Cache, other: Any
) -> None:
    with cache:
        for file in (("a.wav", CONTENT, "audio/wav"), other):
            colour.wait(client.audio.transcriptions.create(model="m", file=file))
    assert up.calls == 2


def test_calls_left_alone_are_counted(client: Any, colour: Colour, cache: Cache) -> None:
    with cache:
        colour.wait(client.files.create(file=b"{}", purpose="batch"))
    assert cache.stats.bypassed == 1


def test_a_call_left_alone_answers_as_outside_the_block(
    client: Any, colour: Colour, cache: Cache
) -> None:
    shape = BY_NAME["chat-raw"]
    outside = colour.ask(client, shape)
    with cache:
        inside = colour.ask(client, shape, cache_seed=None)
    assert unmarked(inside).keys() == unmarked(outside).keys()
    assert inside["mark"] is None


def test_nothing_is_written_for_calls_left_alone(
    client: Any, colour: Colour, tmp_path: Path
) -> None:
    with Cache.disk(cache_path_root=tmp_path / "root"):
        colour.wait(client.files.create(file=b"{}", purpose="batch"))
    assert not os.path.exists(tmp_path / "root")
