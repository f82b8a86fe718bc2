"""What is small and would become large is read in little memory, and in time for its size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cachewrap.entry import MAX_ENTRY_BYTES, Facts, HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec
from cachewrap.format.envelope import MAX_RATIO, check_size, seal, unseal
from cachewrap.format.tagging import MOST_OF_ONE_HASH

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the limit of the child's memory is Linux's"
)
pytest.importorskip("resource")

from fuzz.bombs import BOMBS, P, squeezed

READ = {
    "one long text",
    "text as numbers",
    "wide text as numbers",
    "text of no size",
    "text of many sides",
    "a decimal that is long",
    "a decimal that is vast",
    "a deque's length",
    "many generics",
    "long paths",
}
"""What is within the ceilings."""

SECONDS = 20
"""Of the processor, for one: ten times what the slowest takes."""


@pytest.fixture(scope="module")
def ends() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.bombs"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path]), "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_its_bounds(name: str, ends: dict[str, Any]) -> None:
    end, _, seconds = ends[name]
    assert end != "no memory"
    assert (end == "read") == (name in READ)
    assert seconds < SECONDS


def test_an_entry_grows_no_further_than_is_said(ends: dict[str, Any]) -> None:
    assert max(size for _, size, _ in ends.values()) < 2**20  # they are small
    assert MAX_ENTRY_BYTES / MAX_RATIO == 2**16  # so large must an entry be for the ceiling


VALUES: dict[str, Any] = {
    "numbers": [1.5] * 100_000,
    "integers": [10**6] * 100_000,
    "texts": ["abc"] * 50_000,
    "records": [{"name": "a", "value": 1, "tags": ["x"]}] * 10_000,
    "bytes": [b"ab" * 50] * 10_000,
    "long text": {"text": "a" * 10**7},
    "tuples": [(1, 2)] * 10_000,
    "sets": [{1, 2}] * 5000,
}


@pytest.mark.parametrize("name", VALUES)
def test_the_estimate_is_no_less_than_what_is_taken(name: str) -> None:
    import tracemalloc

    kind, data = codec.encode(VALUES[name])
    tracemalloc.start()
    codec.decode(kind, data)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with pytest.raises(CorruptEntryError, match="max_entry_bytes"):
        check_size(kind, data, taken * 9 // 10)
    check_size(kind, data, taken * 12)


LARGE = 70_000
ANSWERS: dict[str, Any] = {
    "text": "a" * LARGE,
    "value": ["a" * LARGE],
    "HTTP": HttpAnswer(200, [("a", "b")], [b"a" * LARGE], []),
    "items": Items([codec.encode("a" * LARGE)], [0.0], codec.encode(None)),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("ceiling", [LARGE // 2, LARGE - 1])
def test_a_ceiling_of_ones_own_counts(name: str, ceiling: int) -> None:
    kind, data = codec.encode(ANSWERS[name])
    raw = seal(kind, data, b"", Facts(created=1.0, seconds=0.0))
    assert unseal(raw).answer == data
    assert unseal(raw, 20 * LARGE).answer == data
    with pytest.raises(CorruptEntryError, match=f"{ceiling:,} bytes .* max_entry_bytes"):
        unseal(raw, ceiling)


def test_keys_that_are_no_text_are_looked_for_in_what_is_large() -> None:
    data = b"\0\xdf\0\1\0\0" + b"".join(
        msgspec.msgpack.encode(number) + b"\x01" for number in range(2**16)
    )
    with pytest.raises(CorruptEntryError, match="no text"):
        unseal(squeezed(data))


@pytest.mark.parametrize("mark", ["!set", "!frozenset"])
def test_few_members_may_have_one_hash(mark: str) -> None:
    def members(count: int) -> bytes:
        plain = {mark: [*range(1, 100), *({"!int": hex(k * P)} for k in range(count))]}
        return b"\x01" + msgspec.msgpack.encode(plain)

    found = codec.decode(Kind.VALUE, members(MOST_OF_ONE_HASH))
    assert len(found) == 99 + MOST_OF_ONE_HASH
    with pytest.raises(CorruptEntryError, match="one hash"):
        codec.decode(Kind.VALUE, members(MOST_OF_ONE_HASH + 1))


def test_a_lack_of_memory_makes_an_entry_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def lack(*args: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(codec, "untag", lack)
    with pytest.raises(CorruptEntryError, match="MemoryError"):
        codec.decode(*codec.encode((1,)))


def test_many_plain_items_are_counted_for_what_they_are() -> None:
    one = codec.encode(["a" * 1000])
    kind, data = codec.encode(Items([one] * 6000, [0.0] * 6000, codec.encode(None)))
    check_size(kind, data, MAX_ENTRY_BYTES)
    with pytest.raises(CorruptEntryError, match="max_entry_bytes"):
        check_size(kind, data, len(data))


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        pytest.param(b"[" + b"[]," * 2_000_000 + b"[]]", True, id="some lists"),
        pytest.param(b"[" + b"[]," * 3_000_000 + b"[]]", False, id="many lists"),
        pytest.param(b"[" + b"{}," * 1_500_000 + b"{}]", False, id="many objects"),
        pytest.param(b"[" + b"1," * 6_000_000 + b"1]", False, id="many numbers"),
        pytest.param(b"data: [" + b"[]," * 3_000_000 + b"[]]\n\n", False, id="an event"),
        pytest.param(b"[" + b"-0.012345678," * 3_000_000 + b"1]", True, id="embeddings"),
        pytest.param(b'{"text":"' + b"Well, that is long. " * 2_000_000 + b'"}', True, id="text"),
        pytest.param(bytes(range(256)) * 200_000, True, id="sound"),
    ],
)
def test_an_HTTP_body_counts_as_what_it_is_parsed_to(body: bytes, fits: bool) -> None:
    kind, data = codec.encode(HttpAnswer(200, [("content-type", "a/b")], [body], []))
    if fits:
        check_size(kind, data, MAX_ENTRY_BYTES)
        return
    with pytest.raises(CorruptEntryError, match="max_entry_bytes"):
        check_size(kind, data, MAX_ENTRY_BYTES)
