"""The log of a run that was written once, and must be understood for ever."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from cachewrap.ledger.calls import OUTCOMES, Call
from cachewrap.ledger.pieces import Begin, End, Part, Replaced, Writer, encode, read
from cachewrap.stores.log_files import pieces_of, record
from cachewrap.testing.stores import key_of
from ledger.making import ended

FILE: Final = Path(__file__).parents[1] / "golden" / "log-1.bin"

_START: Final = 1_800_000_000.25
_PLACE: Final = "disk:///srv/answers?cache_seed=41"

BEGIN: Final = Begin(7, "Vergleich é", _START, 4242, "host", "eval.py", "0a1b2c", _PLACE)
END: Final = End(7, _START + 9.5, 3)
REPLACED: Final = Replaced(key_of(1), "41", _START - 60.0, b"\x00any bytes\xff")
CALLS: Final = [
    Call(
        0,
        key_of(number) if outcome != "bypassed" else "",
        outcome,
        "shop.texts:summarize" if number % 2 else "POST /chat/completions",
        "gpt-4o" if number % 3 else "",
        "41",
        number,
        _START + number,
        number / 8,
        upstream_seconds=1.5,
        tokens_in=1000 * number,
        tokens_out=number,
        details=(500, 0, 0, 0, 0, 0, 12) if number == 1 else (),
        answered=_START - 60.0 if number < 2 else 0.0,
        lane=f"task-{number % 2}",
        process=4242,
        path="retrieval/rerank" if number > 2 else "",
        place="" if number else "disk:///srv/others?cache_seed=41",
        reason="RateLimitError" if outcome == "failed" else "",
    )
    for number, outcome in enumerate(OUTCOMES)
]


def stored() -> bytes:
    """The file as it is written now, but for what zlib compresses differently elsewhere."""
    rows = [
        ended(
            call.key,
            call.outcome,
            upstream=call.upstream_seconds,
            **{
                name: getattr(call, name)
                for name in (
                    *("source", "model", "seed", "place", "path", "reason", "sample", "started"),
                    *("seconds", "tokens_in", "tokens_out", "details", "answered", "lane"),
                )
            },
        )
        for call in CALLS
    ]
    writer = Writer(BEGIN.writer, BEGIN.process)
    calls = [writer.calls(rows[:3]), writer.calls(rows[3:])]
    pieces = [encode(BEGIN), *calls, encode(REPLACED), b"\xffof a later version", encode(END)]
    torn = record(b"of a writer who was killed")[:-3]
    return b"".join([*map(record, pieces[:2]), torn, *map(record, pieces[2:])])


def pieces() -> list[bytes]:
    return list(pieces_of(io.BytesIO(FILE.read_bytes()).read))


def test_it_is_understood() -> None:
    parts: list[Part] = [BEGIN, CALLS[:3], CALLS[3:], REPLACED, END]
    assert list(read(pieces())) == parts


def test_its_records_are_written_as_they_were() -> None:
    torn = FILE.read_bytes()
    for piece in pieces():
        assert record(piece) in torn
        torn = torn.replace(record(piece), b"", 1)
    assert torn == record(b"of a writer who was killed")[:-3]


def test_what_is_written_now_is_read_as_the_same() -> None:
    assert list(read(pieces_of(io.BytesIO(stored()).read))) == list(read(pieces()))
