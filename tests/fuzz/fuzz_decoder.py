"""The atheris harness: as many hostile entries as ``CACHEWRAP_FUZZ_RUNS`` says, led by coverage.

Run it with ``tox -e fuzz``. It ends with 0 where every promise was kept; else it prints the input
that broke one, and leaves it in the working directory. Arguments go to libFuzzer: ``-seed=0`` takes
another way than the one that is taken again each time, a file is an input to try again.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        *(f"cachewrap.format.{name}" for name in ("codec", "moulds", "untagging", "envelope")),
        "cachewrap.request.values",
    ]
):
    from fuzz import hostile

import msgspec

from cachewrap.entry import Facts, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format.envelope import seal
from cachewrap.format.sealing import AesGuard
from cachewrap.format.zstd import LIBRARY

RUNS = int(os.environ.get("CACHEWRAP_FUZZ_RUNS") or 100_000)  # some 15 seconds
RECORD = msgspec.msgpack.encode([b"request", "source", "model"])
KEY = "ab" * 32

guard = AesGuard((b"k" * 32,), "41")
pack = LIBRARY.compressor(3)
ends: Counter[str] = Counter()


def one(data: bytes) -> None:
    """One hostile entry. The first byte says where the rest of them goes."""
    way, rest = data[:1] or b"\0", data[1:]
    match way[0] % 12:
        case 0:
            end = hostile.read(rest)
        case 1:
            end = hostile.read(seal(Kind.TEXT, b"", b"", Facts(0.0, 0.0))[:4] + rest)
        case 2:
            # Everything behind the seal is hostile: numbers of the head, and both sections.
            take = hostile.Take(rest)
            numbers = (take.number(2**16), *(take.number(2**40) - 1.5 for _ in range(3)))
            counts = (take.number(2**32), take.number(2**32))
            flags, kind, length = take.number(4), take.number(6), take.number(256)
            answer, record = take.data(length), take.data(len(rest))
            end = hostile.read(
                hostile.enclose(answer, record, kind=kind, flags=flags, numbers=(*numbers, *counts))
            )
        case 3:
            end = hostile.read(hostile.enclose(pack(rest), pack(RECORD), kind=2, flags=3))
        case 4:
            end = hostile.read(hostile.enclose(b"\0\xc0", pack(rest), kind=2, flags=2))
        case 5:
            end = hostile.decode(Kind.VALUE, rest)
        case 6:
            end = hostile.decode(
                Kind.VALUE, b"\x01" + hostile.pack(hostile.tree(hostile.Take(rest)))
            )
        case 7:
            end = hostile.decode(Kind.HTTP, rest)
        case 8:
            end = hostile.decode(Kind.ITEMS, rest)
        case 9:
            end = hostile.decode(Kind.HTTP, hostile.pack(hostile.http(hostile.Take(rest))))
        case 10:
            answer = hostile.repeated(hostile.Take(rest))
            end = hostile.read(hostile.enclose(answer, RECORD))
        case _:
            try:
                guard.unseal(KEY, rest)
                end = "forged"
            except CorruptEntryError:
                end = "not opened"
    if end == "forged":
        raise hostile.Broken(f"an entry that nobody encrypted was opened: {rest!r}")
    ends[end] += 1
    if sum(ends.values()) == RUNS:
        # libFuzzer ends the process without a word of Python's.
        print(f"{RUNS} hostile entries, all kept to the rules: {dict(ends)}", flush=True)


def seed(folder: Path) -> None:
    """Write inputs to start from: entries as they are, and their sections."""
    chance = random.Random(0)
    os.urandom = chance.randbytes  # what is encrypted here is encrypted alike each time
    for number, (kind, data) in enumerate(hostile.samples()):
        way = {Kind.VALUE: 5, Kind.HTTP: 7, Kind.ITEMS: 8}.get(kind, 0)
        whole = seal(kind, data, b"request", Facts(created=1.0, seconds=2.0))
        starts = {0: whole, 1: whole[4:], 3: data, 4: RECORD, 11: guard.close(KEY, whole)[:-1]}
        for start, content in {**starts, way: data}.items():
            (folder / f"{number}-{start}").write_bytes(bytes([start]) + content)
    for number in range(64):
        for way in (6, 9, 10):
            (folder / f"tree-{way}-{number}").write_bytes(bytes([way]) + chance.randbytes(100))
    words = (*hostile.CLASSES, *(f"!{tag}" for tag in hostile.TAGS))
    lines = [f'"{chr(92)}x{0xA0 + len(word):02x}{word}"' for word in words if len(word) < 32]
    (folder.parent / "words").write_text("\n".join(lines))


def main() -> None:
    hostile.warm_up()
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs"
        inputs.mkdir()
        seed(inputs)
        options = [
            "-seed=1",
            "-max_len=4096",
            "-timeout=120",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        given = sys.argv[1:]
        again = any(Path(argument).is_file() for argument in given)
        if not again:
            options += [f"-runs={RUNS}", f"-dict={name}/words", str(inputs)]
        atheris.Setup([sys.argv[0], *options, *given], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
