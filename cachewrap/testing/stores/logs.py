"""The promises of `cachewrap.stores.base.Logs`, as tests."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

import pytest

from cachewrap.stores.base import Logs, Seeds, Store
from cachewrap.testing.stores.calls import Calls, at_once, key_of
from cachewrap.testing.stores.segments import having

_AT_ONCE: Final = 5
"""Pieces that are added at once by several at a time."""


class LogsSuite:
    """The promises of `cachewrap.stores.base.Logs`."""

    kept = having(Logs)

    @pytest.fixture
    def logs(self, kept: Logs) -> Iterator[Logs]:
        """The store, as one with logs, which are removed behind the test."""
        yield kept
        for facts in kept.logs():
            kept.remove_log(facts.name)

    def test_a_place_has_no_log_at_first(self, logs: Logs) -> None:
        assert (logs.logs(), list(logs.read_log("a"))) == ([], [])

    def test_pieces_are_read_in_their_order(self, logs: Logs) -> None:
        logs.append_to_log("a", [b"first", b"second"])
        logs.append_to_log("a", [b"third"])
        assert list(logs.read_log("a")) == [b"first", b"second", b"third"]

    @pytest.mark.parametrize(
        "piece",
        [
            pytest.param(b"\0", id="one byte"),
            pytest.param(bytes(range(256)) * 9, id="any bytes"),
            pytest.param(os.urandom(2**24), id="as large as one may be"),
        ],
    )
    def test_a_piece_is_read_as_it_was_added(self, logs: Logs, piece: bytes) -> None:
        logs.append_to_log("a", [b"before", piece, b"after"])
        assert list(logs.read_log("a")) == [b"before", piece, b"after"]

    def test_the_same_piece_may_be_added_again(self, logs: Logs) -> None:
        for _ in range(2):
            logs.append_to_log("a", [b"piece", b"piece"])
        assert list(logs.read_log("a")) == [b"piece"] * 4

    def test_many_pieces(self, logs: Logs) -> None:
        pieces = [b"piece %d" % number for number in range(20_000)]
        logs.append_to_log("a", pieces)
        assert list(logs.read_log("a")) == pieces

    def test_logs_are_apart(self, logs: Logs) -> None:
        names = ["a", "a.", "a-1", "b_2", "n-%25.%2f-1", "nul", "a" * 200]
        for name in names:
            logs.append_to_log(name, [name.encode()])
        assert [list(logs.read_log(name)) for name in names] == [[name.encode()] for name in names]
        assert sorted(facts.name for facts in logs.logs()) == sorted(names)

    def test_what_is_known_of_a_log(self, logs: Logs) -> None:
        logs.append_to_log("a", [b"x" * 1000])
        (before,) = logs.logs()
        logs.append_to_log("a", [b"x" * 9000])
        (after,) = logs.logs()
        assert 1000 <= before.size < 5000 < 10_000 <= after.size < 15_000
        assert after.changed == 0.0 or abs(after.changed - time.time()) < 60

    def test_a_log_that_is_removed_is_gone(self, logs: Logs) -> None:
        logs.append_to_log("a", [b"piece"])
        logs.append_to_log("b", [b"other"])
        assert [logs.remove_log("a"), logs.remove_log("a")] == [True, False]
        assert (list(logs.read_log("a")), [facts.name for facts in logs.logs()]) == ([], ["b"])

    def test_a_log_that_was_removed_can_be_made_again(self, logs: Logs) -> None:
        logs.append_to_log("a", [b"old"])
        logs.remove_log("a")
        logs.append_to_log("a", [b"new"])
        assert list(logs.read_log("a")) == [b"new"]
        assert [facts.size < 100 for facts in logs.logs()] == [True]

    def test_all_partitions_have_the_same_logs(self, store: Store, logs: Logs) -> None:
        other = store.reseed("42")
        assert isinstance(other, Logs)
        logs.append_to_log("a", [b"first"])
        other.append_to_log("a", [b"second"])
        assert list(logs.read_log("a")) == list(other.read_log("a")) == [b"first", b"second"]
        assert other.logs_url == logs.logs_url
        other.remove_log("a")
        assert logs.logs() == []

    def test_a_log_is_no_entry(self, calls: Calls, logs: Logs) -> None:
        logs.append_to_log("a" * 64, [b"piece"])
        logs.append_to_log("a", [b"piece"])
        assert (calls.keys(), calls.clear()) == ([], 0)
        calls.set(key_of(1), b"value")
        if isinstance(calls.store, Seeds):
            assert calls.store.seeds() == ["41"]
        assert (calls.keys(), calls.clear()) == ([key_of(1)], 1)
        assert list(logs.read_log("a")) == [b"piece"]

    def test_a_log_stays_when_the_store_is_closed(self, store: Store, logs: Logs) -> None:
        logs.append_to_log("a", [b"piece"])
        store.close()
        assert list(logs.read_log("a")) == [b"piece"]

    def test_what_is_added_while_a_log_is_read_does_no_harm(self, logs: Logs) -> None:
        logs.append_to_log("a", [b"first", b"second"])
        reading = logs.read_log("a")
        assert next(reading) == b"first"
        logs.append_to_log("a", [b"third"])
        assert list(reading) in ([b"second"], [b"second", b"third"])

    def test_threads_that_add_at_once_lose_nothing(self, logs: Logs) -> None:
        at_once(8, partial(_add_pieces, logs, 25))
        _check_pieces(logs, 25, range(8))

    def test_processes_that_add_at_once_lose_nothing(self, logs: Logs) -> None:
        if not logs.logs_last:
            pytest.skip("these logs stay in one process")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            adding = [pool.apply_async(_add_pieces, (logs, 2000, number)) for number in range(2)]
            for one in adding:
                one.get(60)
        _check_pieces(logs, 2000, range(2))

    def test_whoever_is_killed_loses_the_pieces_that_he_was_adding(self, logs: Logs) -> None:
        if not logs.logs_last:
            pytest.skip("these logs stay in one process")
        context = multiprocessing.get_context("spawn")
        added, told = context.Pipe(duplex=False)
        writer = context.Process(target=_add_until_killed, args=(logs, told))
        writer.start()
        _add_pieces(logs, 100, 0)
        last = 0
        while last < 100:
            assert added.poll(60)
            last = added.recv()
        writer.kill()
        writer.join()
        while added.poll():
            with suppress(EOFError):
                last = added.recv()
                continue
            break
        logs.append_to_log("a", [b"behind"])
        found = [piece.partition(b" ") for piece in logs.read_log("a")]
        assert found[-1] == (b"behind", b"", b"")
        numbers = [int(number) for who, _, number in found if who == b"1"]
        assert numbers[: last + 1] == list(range(last + 1))
        assert len(numbers) <= last + 2
        _check_pieces(logs, 100, [0])


def _add_pieces(logs: Logs, count: int, who: int) -> None:
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        logs.append_to_log("a", [b"%d %d" % (who, number) for number in numbers])


def _check_pieces(logs: Logs, count: int, writers: Iterable[int]) -> None:
    found = [piece.split(b" ") for piece in logs.read_log("a")]
    for who in writers:
        numbers = [int(parts[1]) for parts in found if parts[0] == b"%d" % who]
        assert numbers == list(range(count))


def _add_until_killed(logs: Logs, told: Connection) -> None:
    number = 0
    while True:
        logs.append_to_log("a", [b"1 %d" % number])
        told.send(number)
        number += 1
