"""The envelope: what was put in comes out, and whatever was done to it in between is noticed."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import zstandard
from kinds import VALUES, same

from cachewrap import codec, key
from cachewrap.entry import Entry, Facts, HttpAnswer, Items, Kind
from cachewrap.envelope import MAX_RATIO, seal, unseal
from cachewrap.errors import CorruptEntryError

GOLDEN = Path(__file__).parents[1] / "golden"
FACTS = Facts(1.5, 0.25, 100.0, "m:f", "gpt", 7, 9)
REQUEST = key.encode({"prompt": "why?" * 100})
LONG = " ".join(str(number) for number in range(2000))


def sealed(answer: str = "because") -> bytes:
    return seal(*codec.encode(answer), REQUEST, FACTS)


def test_the_head_comes_out() -> None:
    entry = unseal(sealed())
    assert (entry.kind, entry.answer) == (Kind.TEXT, b"because")
    assert (entry.created, entry.seconds, entry.expires) == (1.5, 0.25, 100.0)
    assert (entry.tokens_in, entry.tokens_out) == (7, 9)


def test_the_record_comes_out_when_it_is_asked_for() -> None:
    assert unseal(sealed()).read_record() == {"request": REQUEST, "source": "m:f", "model": "gpt"}


@pytest.mark.parametrize("answer", ["", "short", LONG], ids=["empty", "short", "long"])
def test_an_answer_comes_out_whatever_its_length(answer: str) -> None:
    assert unseal(sealed(answer)).answer == answer.encode()


def test_a_long_answer_is_compressed() -> None:
    assert len(sealed(LONG)) < len(LONG) / 2


def test_an_answer_that_would_shrink_too_much_is_left_as_it_is() -> None:
    answer = "a" * 20_000_000
    assert len(zstandard.compress(answer.encode())) * MAX_RATIO < len(answer)
    assert unseal(sealed(answer)).answer == answer.encode()


def test_expiry() -> None:
    entry = unseal(sealed())
    assert (entry.fresh(99.0), entry.fresh(100.0)) == (True, False)
    assert unseal(seal(Kind.TEXT, b"", b"", Facts(1.0, 1.0))).fresh(1e12)


def test_counts_beyond_32_bits_are_capped() -> None:
    facts = Facts(1.0, 1.0, tokens_in=2**40, tokens_out=2**40)
    assert unseal(seal(Kind.TEXT, b"", b"", facts)).tokens_in == 2**32 - 1


def opened(raw: bytes) -> tuple[Any, ...]:
    """Everything that an envelope gives."""
    entry = unseal(raw)
    facts = (entry.created, entry.seconds, entry.expires, entry.tokens_in, entry.tokens_out)
    return entry.kind, entry.answer, facts, entry.read_record()


@pytest.mark.parametrize("answer", ["because", LONG], ids=["plain", "compressed"])
def test_every_flipped_bit_is_noticed(answer: str) -> None:
    raw = bytearray(sealed(answer))
    for position in range(len(raw)):
        raw[position] ^= 1 << position % 8
        with pytest.raises(CorruptEntryError):
            opened(bytes(raw))
        raw[position] ^= 1 << position % 8
    assert opened(bytes(raw)) == opened(sealed(answer))


def test_every_truncation_is_noticed_at_once() -> None:
    raw = sealed()
    for length in range(len(raw)):
        with pytest.raises(CorruptEntryError):
            unseal(raw[:length])


def test_bytes_behind_the_end_are_noticed() -> None:
    with pytest.raises(CorruptEntryError):
        unseal(sealed() + b"x")


@pytest.mark.parametrize(
    "foreign", [b"", b"x", pickle.dumps({"a": 1}), json.dumps({"a": 1}).encode(), bytes(100)]
)
def test_foreign_bytes_are_no_entry(foreign: bytes) -> None:
    with pytest.raises(CorruptEntryError, match="not an entry"):
        unseal(foreign)


def test_a_newer_version_is_named() -> None:
    raw = bytearray(sealed())
    raw[3] = 2
    with pytest.raises(CorruptEntryError, match="format version 2; this cachewrap reads version 1"):
        unseal(bytes(raw))


def test_threads_do_not_share_a_decompressor() -> None:
    answers = [LONG + str(number) for number in range(8)]
    wrong: list[str] = []

    def work(answer: str) -> None:
        raw = sealed(answer)
        wrong.extend(answer for _ in range(200) if unseal(raw).answer != answer.encode())

    threads = [threading.Thread(target=work, args=(answer,)) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- entries that were stored once must be read for ever -------------------------------------------

HTTP = HttpAnswer(
    200, [("content-type", "text/event-stream")], [b"data: 1\n\n", b""], [0.1, 0.2], True
)
ITEMS = Items([codec.encode("a"), codec.encode((1, 2.5))], [0.0, 0.5], codec.encode(None))
STORED: dict[str, Any] = {**VALUES, "http answer": HTTP, "items": ITEMS, "long text": LONG}


def golden(name: str) -> Path:
    return GOLDEN / f"{name.replace(' ', '_')}.entry"


@pytest.mark.parametrize("name", STORED)
def test_a_golden_entry_is_read(name: str) -> None:
    entry: Entry = unseal(golden(name).read_bytes())
    assert same(codec.decode(entry.kind, entry.answer), STORED[name])
    assert entry.read_record() == {"request": REQUEST, "source": "m:f", "model": "gpt"}
