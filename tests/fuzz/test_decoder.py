"""Whatever bytes a store holds, reading them runs nothing and raises nothing but what is said."""

from __future__ import annotations

import math
import random
import struct
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from examples_tried import many
from hypothesis import HealthCheck, given, settings, strategies as st

from cachewrap.entry import Facts, Kind
from cachewrap.errors import CorruptEntryError, UnsupportedTypeError
from cachewrap.format import codec
from cachewrap.format.envelope import MAX_RATIO, seal, unseal
from cachewrap.format.sealing import AesGuard, Guard
from cachewrap.format.zstd import LIBRARY
from fuzz.hostile import (
    BESIDE,
    PER_BYTE,
    Broken,
    Mourned,
    Take,
    decode,
    enclose,
    http,
    pack,
    read,
    repeated,
    samples,
    tree,
    warm_up,
    watched,
)

often = settings(
    max_examples=many(100), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
KINDS = st.sampled_from(Kind)
RECORD = msgspec.msgpack.encode([b"", "", ""])
SEALED = [
    seal(kind, data, b"request" * size, Facts(created=1.0, seconds=2.0, source="s"))
    for kind, data in samples()
    for size in (1, 50)
]


@pytest.fixture(scope="module", autouse=True)
def counting() -> Iterator[None]:
    warm_up()
    yield
    tracemalloc.stop()


# -- that the watch is kept -----------------------------------------------------------------------


def test_an_import_is_noticed() -> None:
    sys.modules.pop("this", None)
    with pytest.raises(Broken, match="import"), watched(b"", 2**20):
        __import__("wave" if "wave" not in sys.modules else "chunk")


def test_an_allocation_is_noticed() -> None:
    with pytest.raises(Broken, match="bytes for"), watched(b"", 2**20):
        bytearray(2**21)


def test_the_harness_gets_past_the_seal() -> None:
    for kind, data in samples():
        assert read(enclose(data, RECORD, kind=kind)) == "read"


def test_hostile_trees_reach_every_end() -> None:
    ends: Counter[str] = Counter()
    numbers = random.Random(1)
    for _ in range(5000):
        take = Take(numbers.randbytes(60))
        ends[decode(Kind.VALUE, b"\x01" + pack(tree(take)))] += 1
    assert min(ends["read"], ends["corrupt"], ends["missing"]) > 0


# -- the envelope ---------------------------------------------------------------------------------


@often
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    assert read(raw) == "not opened"
    assert read(SEALED[0][:4] + raw) == "not opened"


@often
@given(st.sampled_from(SEALED), st.data())
def test_a_changed_envelope(raw: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(raw) - 1))
    length = data.draw(st.integers(0, 5))
    damaged = raw[:place] + data.draw(st.binary(max_size=5)) + raw[place + length :]
    read(damaged)


@often
@given(
    kind=st.integers(0, 255),
    flags=st.integers(0, 255),
    moments=st.tuples(st.floats(), st.floats(), st.floats(width=32)),
    counts=st.tuples(st.integers(0, 2**16 - 1), *[st.integers(0, 2**32 - 1)] * 2),
    answer=st.binary(max_size=50),
    record=st.binary(max_size=50),
)
def test_a_hostile_head(
    kind: int, flags: int, moments: Any, counts: Any, answer: bytes, record: bytes
) -> None:
    numbers = (counts[0], *moments, *counts[1:])
    raw = enclose(answer, record, kind=kind, flags=flags, numbers=numbers)
    expires, created, seconds = moments
    are_times = math.isfinite(created) and 0 <= seconds < math.inf and not math.isnan(expires)
    assert (read(raw) == "not opened") or are_times
    if flags & 1 == 0 and kind in tuple(Kind) and are_times:
        assert isinstance(unseal(raw).fresh(math.inf), bool)


@often
@given(st.binary(max_size=100), st.binary(max_size=100), st.sampled_from([0, 1, 2, 3]))
def test_a_hostile_section(answer: bytes, record: bytes, flags: int) -> None:
    frame = LIBRARY.compressor(3)
    for one in (answer, frame(answer), frame(answer)[:-3] + b"abc"):
        for two in (record, frame(record), frame(RECORD)):
            read(enclose(one, two, flags=flags))


RECORDS = {
    "no MessagePack": b"\xc1",
    "another shape": msgspec.msgpack.encode({"request": b""}),
    "text that is none": msgspec.msgpack.encode([b"", "", "model"]).replace(b"mo", b"m\xff"),
    "nested deeply": b"\x94\xc4\0\xa0\xa0" + b"\x91" * 200_000,
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_that_is_none(record: bytes) -> None:
    assert read(enclose(b"\x00\xc0", record)) == "no record"


BOMBS = {
    "zeros": LIBRARY.compressor(19)(bytes(50_000_000)),
    "a claim of a terabyte": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**40) + b"\x01\0\0",
    "a claim beyond all": b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + b"\x01\0\0",
    "no claim": b"\x28\xb5\x2f\xfd\x00\x58\x01\0\0",
    "a window of gigabytes": b"\x28\xb5\x2f\xfd\x00\xf8\x01\0\0",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_not_blown_up(bomb: bytes) -> None:
    assert read(enclose(bomb, RECORD, flags=1)) == "not opened"
    assert read(enclose(b"\x00\xc0", bomb, flags=2)) == "no record"


def test_the_largest_growth_is_what_is_said() -> None:
    content = b"ab" * 2**20
    raw = seal(Kind.TEXT, content, b"", Facts(created=1.0, seconds=0.0))
    assert len(content) / len(raw) <= MAX_RATIO
    assert read(raw) == "read"


# -- the codec ------------------------------------------------------------------------------------


@often
@given(KINDS, st.binary(max_size=100))
def test_any_answer(kind: Kind, data: bytes) -> None:
    decode(kind, data)
    decode(kind, data[:1] + msgspec.msgpack.encode(data))


@often
@given(st.sampled_from(samples()), st.data())
def test_a_changed_answer(sample: tuple[Kind, bytes], data: st.DataObject) -> None:
    kind, answer = sample
    place = data.draw(st.integers(0, max(0, len(answer) - 1)))
    length = data.draw(st.integers(0, 3))
    decode(kind, answer[:place] + data.draw(st.binary(max_size=3)) + answer[place + length :])


@often
@given(st.binary(min_size=8, max_size=300))
def test_a_hostile_tree(data: bytes) -> None:
    decode(Kind.VALUE, b"\x01" + pack(tree(Take(data))))
    decode(Kind.HTTP, pack([tree(Take(data[k:])) for k in range(6)]))
    decode(Kind.HTTP, pack(http(Take(data))))
    decode(Kind.ITEMS, pack([tree(Take(data[k:])) for k in range(3)]))


@often
@given(st.binary(min_size=8, max_size=100))
def test_a_bomb(data: bytes) -> None:
    read(enclose(repeated(Take(data)), RECORD))


LENGTHS = {
    "list": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "text": b"\xdb\xff\xff\xff\xff",
    "bytes": b"\xc6\xff\xff\xff\xff",
}


@pytest.mark.parametrize("start", [b"\x00", b"\x01", b"\x96\xcc\xc8", b"\x93"])
@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", Kind)
def test_a_length_that_is_claimed_takes_no_memory(kind: Kind, length: bytes, start: bytes) -> None:
    assert decode(kind, start + length * 50) == "corrupt"


DENSE: dict[str, bytes] = {
    "lists": b"\x90",
    "maps": b"\x80",
    "maps in maps": b"\x81\xa0\x81\xa0\x81\xa0\x80",
    "numbers": b"\xcd\x7f\xff",
    "sets": msgspec.msgpack.encode({"!set": []}),
    "namespaces": msgspec.msgpack.encode({"!namespace": {}}),
    "paths": msgspec.msgpack.encode({"!path": ["PosixPath", ""]}),
    "arrays": msgspec.msgpack.encode({"!array": ["u1", [0], b""]}),
    "models": msgspec.msgpack.encode(
        {"!pydantic": ["fuzz.hostile:Model", {"one": 1}, None, ["one"], None]}
    ),
    "deques": msgspec.msgpack.encode({"!deque": [[], None]}),
    "default dictionaries": msgspec.msgpack.encode({"!defaultdict": [None, []]}),
    "subclasses": msgspec.msgpack.encode({"!subclass": ["collections:Counter", {}, {}]}),
    "attrs": msgspec.msgpack.encode({"!attrs": ["fuzz.hostile:Defined", {}]}),
    "structs": msgspec.msgpack.encode({"!struct": ["fuzz.hostile:Struct", {}]}),
    "ranges": msgspec.msgpack.encode({"!range": [0, 0, 1]}),
    "addresses": msgspec.msgpack.encode({"!ip": ["IPv6Network", "::"]}),
    "URLs": msgspec.msgpack.encode({"!url": ["pydantic.networks:HttpUrl", "a://b"]}),
    "patterns": msgspec.msgpack.encode({"!pattern": ["", 32]}),
}


SOME = dict(list(DENSE.items())[:: len(DENSE) // many(len(DENSE))])
"""All of them, or every fourth."""


@pytest.mark.parametrize("item", SOME.values(), ids=SOME)
def test_the_densest_values_take_what_is_said(item: bytes) -> None:
    data = b"\x01\xdd" + struct.pack(">I", 30_000) + item * 30_000
    with watched(data, PER_BYTE * len(data) + BESIDE):
        assert len(codec.decode(Kind.VALUE, data)) == 30_000


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa0", b"\x81\xa6!tuple\x91"])
def test_what_is_nested_too_deeply_is_corrupt(opening: bytes) -> None:
    assert decode(Kind.VALUE, b"\x01" + opening * 200_000 + b"\xc0") == "corrupt"


def test_text_that_is_none_in_an_array_is_corrupt() -> None:
    pytest.importorskip("numpy")
    for tag, shape in (("!array", [1]), ("!number", [])):
        for dtype in ("<U1", ">U1"):
            data = msgspec.msgpack.encode({tag: [dtype, shape, b"\xff\xff\xff\xff"]})
            assert decode(Kind.VALUE, b"\x01" + data) == "corrupt"


def test_a_class_whose_instances_run_code_when_they_go_is_never_built() -> None:
    mourned = Mourned()
    with watched(b"", 2**20), pytest.raises(UnsupportedTypeError):
        codec.encode(mourned)
    data = msgspec.msgpack.encode({"!dataclass": ["fuzz.hostile:Mourned", {"one": 1}]})
    assert decode(Kind.VALUE, b"\x01" + data) == "corrupt"


def test_a_model_that_the_program_has_not_parametrised_is_missing() -> None:
    for argument in ("os:stat_result", "fuzz.hostile:Final_", "builtins:type"):
        spec = ["fuzz.hostile:Box", [argument]]
        data = msgspec.msgpack.encode({"!pydantic": [spec, {}, None, [], None]})
        assert decode(Kind.VALUE, b"\x01" + data) == "missing"


def test_a_hash_that_fails_makes_an_entry_corrupt() -> None:
    data = msgspec.msgpack.encode({"!set": [{"!dataclass": ["fuzz.hostile:Unsure", {"one": 1}]}]})
    assert decode(Kind.VALUE, b"\x01" + data) == "corrupt"


# -- the guard ------------------------------------------------------------------------------------


@often
@given(st.binary(max_size=100), st.sampled_from([b"", b"cw", b"cwe", b"cwe\x01", b"cw\0\x01"]))
def test_a_guard_opens_nothing_of_the_sort(data: bytes, start: bytes) -> None:
    pytest.importorskip("cryptography")
    for guard in (Guard(), AesGuard((b"k" * 32,), "41")):
        with watched(data, 2**20), pytest.raises(CorruptEntryError):
            guard.unseal("ab" * 32, start + data)
