"""What was declared of an entry, in its envelope and on its line: whole, or the entry is none."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from cachewrap.entry import Declared, Facts
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec
from cachewrap.format.envelope import read_declared, seal, unseal
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.testing.stores import key_of

REQUEST = b"\x81\xa6prompt\xa2hi"
FACTS = Facts(created=1.5, seconds=0.25, source="m:f", model="gpt", tokens_in=7)
DECLARED = Declared("0123456789abcdef" * 2, (('ignore("metadata")', b"8 bytes."),), element=True)
GOLDEN = Path(__file__).parents[2] / "golden"
CASSETTE = GOLDEN / "cassette-1-with-rules.jsonl"
ENTRY = GOLDEN / "declared.entry"
RAW = seal(*codec.encode("because"), REQUEST, replace(FACTS, declared=DECLARED))
EXACT = seal(*codec.encode("because"), REQUEST, FACTS)


def test_a_golden_entry_under_rules_is_read() -> None:
    raw = ENTRY.read_bytes()
    assert raw == RAW
    entry = unseal(raw)
    assert (entry.answer, entry.declared, read_declared(raw)) == (b"because", DECLARED, DECLARED)
    assert entry.read_record() == unseal(EXACT).read_record()


def test_a_golden_line_under_rules_is_read() -> None:
    (raw,) = (JsonlStore(CASSETTE).get(key_of("declared")),)
    assert raw is not None
    assert unseal(raw).declared == DECLARED


@pytest.mark.parametrize(
    "declared", [Declared(), Declared("r"), Declared("", (), True), Declared("r", (("ü", b""),))]
)
def test_it_comes_out_as_it_went_in(declared: Declared) -> None:
    raw = seal(*codec.encode("because"), REQUEST, replace(FACTS, declared=declared))
    assert unseal(raw).declared == read_declared(raw) == declared


def test_an_exact_entry_says_nothing_of_it() -> None:
    assert not EXACT[9] & 8
    assert (unseal(EXACT).declared, read_declared(EXACT)) == (None, None)
    assert RAW[10 : len(EXACT)] == EXACT[10:]


def test_every_truncation_and_every_flipped_bit_behind_the_record_is_noticed() -> None:
    for end in range(len(RAW)):
        with pytest.raises(CorruptEntryError):
            unseal(RAW[:end])
    for at in range(len(EXACT), len(RAW)):
        for bit in range(8):
            broken = bytearray(RAW)
            broken[at] ^= 1 << bit
            with pytest.raises(CorruptEntryError):
                unseal(bytes(broken))


def test_the_flag_alone_makes_no_entry_exact_or_declared() -> None:
    for raw in (RAW, EXACT):
        turned = bytearray(raw)
        turned[9] ^= 8
        turned[4:8] = struct.pack(
            "<I", crc32(turned[8 : 48 + struct.unpack_from("<I", raw, 40)[0]])
        )
        with pytest.raises(CorruptEntryError):
            unseal(bytes(turned))


def with_section(section: bytes) -> bytes:
    return RAW[: len(EXACT)] + section + struct.pack("<II", crc32(section), len(section))


def test_it_takes_no_more_memory_than_an_answer_may() -> None:
    section = msgspec.msgpack.encode(Declared("r", (("", b""),) * 300_000))
    with pytest.raises(CorruptEntryError, match="more than the 16,777,216 bytes"):
        unseal(with_section(section), 2**24)
    small = Declared("r", (("a", b"8 bytes."),) * 100)
    raw = seal(*codec.encode("x"), REQUEST, replace(FACTS, declared=small))
    assert unseal(raw, 100).declared == small


@pytest.mark.parametrize(
    "said",
    [3, None, {}, "text", [3], ["r", 3], ["r", [["a"]]], ["r", [[1, b""]]], ["r", [["a", "b"]]]],
)
def test_a_section_of_another_form_is_damage(said: Any) -> None:
    with pytest.raises(CorruptEntryError):
        unseal(with_section(msgspec.msgpack.encode(said)))


def test_a_hostile_section_is_damage() -> None:
    for section in (
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xa4\xff\xff\xff\xff",
    ):
        with pytest.raises(CorruptEntryError):
            unseal(with_section(section))
    huge = bytearray(RAW)
    huge[-4:] = struct.pack("<I", 2**32 - 1)
    with pytest.raises(CorruptEntryError):
        unseal(bytes(huge))
