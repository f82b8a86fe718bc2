"""Hits and misses on JSONL, in cassettes of some lines and of many, beside the line itself."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.decorated import Completion
from benchmarks.harness import Row
from benchmarks.requests import SMALL
from cachewrap import Cache, llm_cached

LINES: Final = 2_000, 20_000
"""Lines of a cassette that are some, and that are many."""


def _filled(folder: str, number: int) -> tuple[Path, bytes]:
    """A cassette of so many lines, and the one in the middle."""
    path = Path(folder, f"{number}.jsonl")
    completion = Completion(SMALL, Cache.jsonl(path))
    head, line = path.read_bytes().splitlines()
    key = completion.key.encode()
    others = (line.replace(key, b"%064x" % index) for index in range(number // 2))
    rest = (line.replace(key, b"%064x" % (number + index)) for index in range(number // 2 - 1))
    path.write_bytes(b"\n".join((head, *others, line, *rest, b"")))
    return path, line


@contextmanager
def hits() -> Iterator[list[Row]]:
    """A hit, beside a read of its line from the open file, which is then parsed."""
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Row] = []
        for number in LINES:
            path, line = _filled(folder, number)
            if not rows:
                file = os.open(path, os.O_RDONLY)
                read = partial(os.pread, file, len(line), path.read_bytes().index(line))
                rows.append(Row("read of the line", read))
                rows.append(Row("and its JSON", lambda read=read: json.loads(read())))  # type: ignore[misc]
            cache = Cache.jsonl(path)
            hit = Completion(SMALL, cache).hit
            rows.append(Row(f"hit among {number:,}", hit, lambda cache=cache: cache))  # type: ignore[misc]
        yield rows
        os.close(file)


@contextmanager
def misses() -> Iterator[list[Row]]:
    """What a miss adds to a call that costs nothing, beside appending its line under a lock."""
    with tempfile.TemporaryDirectory() as folder:
        answers = itertools.repeat(SMALL.answer())
        numbers = itertools.count()
        messages = SMALL.conversation()
        rows: list[Row] = []

        def complete(messages: Any, *, model: str, n: int) -> str:
            return next(answers)

        for number in LINES:
            path, line = _filled(folder, number)
            alone = Path(folder, "alone.jsonl")

            def append(line: bytes = line, alone: Path = alone) -> int:
                file = os.open(alone, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                fcntl.flock(file, fcntl.LOCK_EX)
                written = os.write(file, line)
                os.close(file)
                return written

            if not rows:
                rows.append(Row("append of the line", append))
            # It stays open: else it would be read anew in each slice.
            decorated = llm_cached(cache=Cache.jsonl(path))(complete)
            decorated(messages, model="gpt-4o-mini", n=next(numbers))
            rows.append(
                Row(
                    f"miss among {number:,}",
                    lambda decorated=decorated: decorated(  # type: ignore[misc]
                        messages, model="gpt-4o-mini", n=next(numbers)
                    ),
                )
            )
        yield rows


@contextmanager
def openings() -> Iterator[list[Row]]:
    """The first hit after a cassette was opened, beside reading the file and its JSON."""
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Row] = []
        for number in LINES:
            path, _ = _filled(folder, number)
            cache = Cache.jsonl(path)
            completion = Completion(SMALL, cache)

            def parse(path: Path = path) -> int:
                return len([json.loads(line) for line in path.read_bytes().splitlines()])

            def call(cache: Cache = cache, completion: Completion = completion) -> str:
                with cache:  # leaving the block closes the store
                    return completion.hit()

            rows += [
                Row(f"JSON of {number:,} lines", parse),
                Row(f"open and hit among {number:,}", call),
            ]
        yield rows
