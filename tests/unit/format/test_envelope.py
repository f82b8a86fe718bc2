"""The envelope: what was put in comes out, and whatever was done to it in between is noticed."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from kinds import VALUES, same

from cachewrap.entry import Entry, Facts, HttpAnswer, Items, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec, envelope
from cachewrap.format.aliases import Alias, alias_in
from cachewrap.format.envelope import MAX_RATIO, seal, unseal
from cachewrap.format.zstd import LIBRARY
from cachewrap.request import key

GOLDEN = Path(__file__).parents[2] / "golden"
FACTS = Facts(1.5, 0.25, 100.0, "m:f", "gpt", 7, 9)
DETAILED = replace(FACTS, details=(5, 0, 0, 0, 0, 0, 2))
REQUEST = key.encode({"prompt": "why?" * 100})
DIGEST = "287e3530b15c8b636d69354e3aaec45789776b58d1ebb7f58c2059c53bb2c1d6"
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


def test_what_was_just_sealed_is_known_as_it_will_be_read() -> None:
    raw, entry = envelope.sealed(Kind.TEXT, b"because", REQUEST, FACTS)
    again = unseal(raw)
    assert raw == seal(Kind.TEXT, b"because", REQUEST, FACTS)
    assert entry.read_record() == again.read_record()
    assert msgspec.structs.replace(entry, _record_of=again._record_of) == again


@pytest.mark.parametrize("answer", ["because", LONG], ids=["plain", "compressed"])
def test_details_of_tokens_are_kept(answer: str) -> None:
    raw, entry = envelope.sealed(*codec.encode(answer), REQUEST, DETAILED)
    again = unseal(raw)
    told = {"request": REQUEST, "source": "m:f", "model": "gpt", "details": DETAILED.details}
    assert again.read_record() == entry.read_record() == told
    assert again.detailed and entry.detailed
    assert again.details == entry.details == DETAILED.details


def test_an_entry_without_details_is_as_it_was() -> None:
    raw = sealed()
    assert not raw[9] & 4
    assert raw == seal(*codec.encode("because"), REQUEST, replace(DETAILED, details=()))
    assert (unseal(raw).detailed, unseal(raw).details) == (False, ())


def test_a_hit_reads_no_record_to_know_of_details(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = seal(*codec.encode("because"), REQUEST, DETAILED)
    monkeypatch.setattr(envelope, "_read_record", lambda *args: pytest.fail("read"))
    assert unseal(raw).detailed


def test_a_value_of_some_kilobytes_is_compressed_as_quickly_as_a_text() -> None:
    answer = b"\x00" + " ".join(str(number) for number in range(1000)).encode()
    quick = envelope._zstd.compressor(envelope._QUICK)
    dense = envelope._zstd.compressor(envelope._DENSE)
    for kind, step in ((Kind.TEXT, quick), (Kind.VALUE, quick), (Kind.HTTP, dense)):
        assert step(answer)[4:] in seal(kind, answer, b"", FACTS)


@pytest.mark.parametrize("answer", ["", "short", LONG], ids=["empty", "short", "long"])
def test_an_answer_comes_out_whatever_its_length(answer: str) -> None:
    assert unseal(sealed(answer)).answer == answer.encode()


def test_a_long_answer_is_compressed() -> None:
    assert len(sealed(LONG)) < len(LONG) / 2


def test_an_answer_that_would_shrink_too_much_is_left_as_it_is() -> None:
    answer = "a" * 20_000_000
    assert len(LIBRARY.compressor(3)(answer.encode())) * MAX_RATIO < len(answer)
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
ALIAS = Alias("0123456789abcdef" * 4, seal(*codec.encode("because"), REQUEST, FACTS))
STORED: dict[str, Any] = {**VALUES, "http answer": HTTP, "items": ITEMS, "long text": LONG}

COMPLETION = HttpAnswer(
    200,
    [("content-type", "application/json")],
    [
        b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":'
        b'[{"index":0,"message":{"role":"assistant","content":"It is sunny, and it will be for the'
        b' rest of the week.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":'
        b'"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":12,"total_tokens":23}}'
    ],
    [],
)
WITH_DICTIONARY_1: dict[str, Any] = {
    "completion with dictionary 1": COMPLETION,
    "long list with dictionary 1": [
        {"role": "user", "content": f"question {n}"} for n in range(40)
    ],
}


def golden(name: str) -> Path:
    return GOLDEN / f"{name.replace(' ', '_')}.entry"


@pytest.mark.parametrize("name", STORED)
def test_a_golden_entry_is_read(name: str) -> None:
    entry: Entry = unseal(golden(name).read_bytes())
    assert same(codec.decode(entry.kind, entry.answer), STORED[name])
    assert entry.read_record() == {"request": REQUEST, "source": "m:f", "model": "gpt"}


def test_a_golden_entry_with_details_is_read() -> None:
    raw = golden("with details").read_bytes()
    assert raw == seal(*codec.encode("because"), REQUEST, DETAILED)
    assert opened(raw)[3]["details"] == DETAILED.details


def test_a_golden_alias_is_read() -> None:
    raw = golden("alias").read_bytes()
    assert raw == seal(Kind.ALIAS, ALIAS.packed(), REQUEST, FACTS)
    entry = unseal(raw)
    assert (entry.kind, alias_in(entry)) == (Kind.ALIAS, ALIAS)
    assert unseal(ALIAS.kept).answer == b"because"


@pytest.mark.parametrize("name", WITH_DICTIONARY_1)
def test_a_golden_entry_that_took_a_dictionary_is_read(name: str) -> None:
    raw = golden(name).read_bytes()
    entry = unseal(raw)
    assert raw[10:12] == b"\x01\x01"
    assert same(codec.decode(entry.kind, entry.answer), WITH_DICTIONARY_1[name])
    assert entry.read_record() == {"request": REQUEST, "source": "m:f", "model": "gpt"}


def test_a_dictionary_is_never_changed() -> None:
    found = Path(envelope.__file__).with_name("dictionary_1.zstd").read_bytes()
    assert hashlib.sha256(found).hexdigest() == DIGEST


def test_an_answer_with_structure_takes_a_third_with_the_dictionary() -> None:
    kind, answer = codec.encode(COMPLETION)
    assert len(seal(kind, answer, b"", FACTS)) - len(seal(kind, b"", b"", FACTS)) < len(answer) / 3


def test_an_unknown_dictionary_is_named() -> None:
    raw = bytearray(seal(*codec.encode(COMPLETION), REQUEST, FACTS))
    raw[10] = 9
    raw[4:8] = struct.pack("<I", crc32(raw[8 : 48 + struct.unpack_from("<I", raw, 40)[0]]))
    with pytest.raises(CorruptEntryError, match="dictionary 9, which this cachewrap does not have"):
        unseal(bytes(raw))
