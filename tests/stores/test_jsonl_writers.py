"""Several who write one cassette: what each of them reads and writes, and what the file says."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import elsewhere
import pytest
from stores.test_jsonl import order_of, sealed

from cachewrap import StoreError, systems
from cachewrap.format import envelope as format_envelope
from cachewrap.stores.jsonl import JsonlStore, lines
from cachewrap.stores.jsonl.cassette import Cassette
from cachewrap.stores.jsonl.content import SMALL, Content
from cachewrap.systems import files
from cachewrap.testing.stores import key_of

pytestmark = [
    pytest.mark.stores("jsonl"),
    pytest.mark.skipif(not systems.REPLACES_OPEN, reason="files are written over there"),
]

LONG = "word " * 500
LARGE = 2 * SMALL // len(LONG)
"""Entries of a file that is not small."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time on the clock of waits: it stands still."""
    time = [1000.0]
    monkeypatch.setattr(systems.clock, "now", lambda: time[0])
    return time


def writer(path: Path) -> JsonlStore:
    """A store as another process has it, which knows nothing of what this one has read."""
    store = JsonlStore(path)
    store._cassette = Cassette(os.path.realpath(path))
    return store


def filled(path: Path, number: int = LARGE) -> JsonlStore:
    store = writer(path)
    for index in range(number):
        store.add(key_of(index), sealed(LONG + str(index)))
    return store


class Work:
    """What was done with files: bytes that were read and written, and how often."""

    def __init__(self) -> None:
        self.read = self.writes = self.opens = 0
        self.threads: set[int] = set()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work()
    read, write, opened = files.read, files.write, files.open

    def counted_read(*args: Any) -> bytes:
        data = read(*args)
        work.read += len(data)
        return data

    def counted_write(*args: Any) -> int:
        work.writes += 1
        work.threads.add(threading.get_ident())
        return write(*args)

    def counted_open(*args: Any) -> int:
        work.opens += 1
        return opened(*args)

    monkeypatch.setattr(files, "read", counted_read)
    monkeypatch.setattr(files, "write", counted_write)
    monkeypatch.setattr(files, "open", counted_open)
    return work


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 4])
def test_what_writers_read_grows_with_what_they_write_and_not_with_the_file(
    path: Path, work: Work, number: int
) -> None:
    filled(path)
    writers = [writer(path) for _ in range(number)]
    read = []
    for turn in range(4):
        for index, store in enumerate(writers):
            for n in range(10):
                key = key_of((turn, index, n))
                assert store.get(key) is None
                store.add(key, sealed(LONG))
        read.append(work.read)
        work.read = 0
    size = len(lines.write(key_of(1), "41", sealed(LONG)))
    assert max(read[1:]) < number * 10 * (number - 1) * size * 1.2 + number * 10 * 5000


def test_one_who_writes_alone_reads_nothing(path: Path, work: Work) -> None:
    store = filled(path)
    work.read = 0
    for n in range(20):
        assert store.get(key_of(("new", n))) is None
        store.add(key_of(("new", n)), sealed(LONG))
    assert work.read == 0


def test_hits_read_nothing(path: Path, work: Work) -> None:
    store = filled(path)
    work.read = work.opens = 0
    assert all(store.get(key_of(index)) for index in range(LARGE))
    assert (work.read, work.opens) == (0, 0)


def test_a_line_is_made_an_envelope_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 3)
    store = writer(path)
    made: list[bytes] = []
    read = lines.read

    def counted(line: bytes) -> bytes:
        made.append(line)
        return read(line)

    monkeypatch.setattr(lines, "read", counted)
    for _ in range(3):
        assert [store.get(key_of(index)) for index in range(3)] == [
            sealed(LONG + str(index)) for index in range(3)
        ]
        store.close()
    assert len(made) == 3


def test_one_that_was_written_here_is_made_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(path, 3)
    store.close()
    monkeypatch.setattr(lines, "read", lambda line: pytest.fail("read"))
    assert store.get(key_of(1)) == sealed(LONG + "1")


def test_those_of_many_lines_are_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MOST_KEPT", 10_000)
    store = filled(path, 30)
    assert store._cassette.envelopes._size <= 10_000
    assert len(store._cassette.envelopes._kept) < 10
    assert all(store.get(key_of(index)) == sealed(LONG + str(index)) for index in range(30))


@pytest.mark.parametrize("number", [3, LARGE], ids=["small", "large"])
class TestEdits:
    """An edit by hand, and a line that another process appends before anybody looks."""

    def test_one_that_moves_what_is_behind_it_is_seen_at_once(
        self, path: Path, number: int
    ) -> None:
        store = filled(path, number)
        text = path.read_text()
        path.write_text(text.replace(LONG + "1", "short", 1))
        writer(path).add(key_of("other"), sealed(LONG * 3))
        assert store.get(key_of(1)) == sealed("short")
        assert store.get(key_of("other")) == sealed(LONG * 3)

    def test_one_that_leaves_all_in_its_place_is_seen_a_moment_later(
        self, path: Path, number: int, now: list[float]
    ) -> None:
        store = filled(path, number)
        path.write_text(path.read_text().replace(LONG + "1", LONG.upper() + "1", 1))
        writer(path).add(key_of("other"), sealed("other"))
        assert store.get(key_of("other")) == sealed("other")
        now[0] += 0 if number == 3 else 2
        assert store.get(key_of(1)) == sealed(LONG.upper() + "1")
        store.set(key_of(2), sealed("new"))
        store.close()
        assert store.get(key_of(1)) == sealed(LONG.upper() + "1")

    def test_one_is_not_lost_where_the_file_is_put_in_order(self, path: Path, number: int) -> None:
        store = filled(path, number)
        store.set(key_of(2), sealed("new"))
        path.write_text(path.read_text().replace(LONG + "1", LONG.upper() + "1", 1))
        writer(path).add(key_of("other"), sealed("other"))
        assert store.get(key_of("other")) == sealed("other")
        store.close()
        assert store.get(key_of(1)) == sealed(LONG.upper() + "1")
        assert len(order_of(path)) == number + 1


def test_a_line_that_is_being_written_is_read_when_it_is_whole(path: Path) -> None:
    store, other = filled(path), writer(path)
    line = lines.write(key_of("late"), "41", sealed("late")) + b"\n"
    with other._cassette._writing() as file:
        files.lseek(file, 0, os.SEEK_END)
        whole = lines.write(key_of("early"), "41", sealed("early")) + b"\n"
        files.write(file, whole + line[:30])
        assert store.get(key_of("early")) == sealed("early")
        assert store.get(key_of("late")) is None
        files.write(file, line[30:])
        assert store.get(key_of("late")) == sealed("late")


def test_half_a_line_of_one_who_was_killed_is_named_and_kept(path: Path) -> None:
    store = filled(path)
    with path.open("ab") as file:
        file.write(b'{"key": "')
    with pytest.warns(match="not an entry of a cassette"):
        assert store.get(key_of(1)) == sealed(LONG + "1")
    store.add(key_of("new"), sealed("new"))
    assert path.read_bytes().splitlines()[-2] == b'{"key": "'


def test_half_a_line_takes_the_lock_from_nobody_who_writes(path: Path) -> None:
    cassette = filled(path)._cassette
    with cassette._writing() as file:
        with path.open("ab") as torn:
            torn.write(b'{"key": "')
        with pytest.warns(match="not an entry of a cassette"):
            cassette._content.load(file)
        with (
            path.open("rb") as other,
            pytest.raises(TimeoutError),
            systems.locked(other.fileno(), alone=False, seconds=-1.0),
        ):
            pass


def test_zeros_where_bytes_are_on_their_way_are_no_lines(path: Path) -> None:
    store = filled(path)
    with path.open("ab") as file:
        file.write(b"\0" * 50 + b"\n")
    with pytest.warns(match="not an entry of a cassette"):
        assert store.get(key_of(1)) == sealed(LONG + "1")


def test_readers_do_not_wait_for_one_who_has_the_file_locked(path: Path) -> None:
    store, other = filled(path), writer(path)
    other.add(key_of("other"), sealed("other"))
    with writer(path)._cassette._writing():
        assert store.get(key_of("other")) == sealed("other")
        assert writer(path).get(key_of("other")) == sealed("other")


# -- what is written -------------------------------------------------------------------------------


def added(store: JsonlStore, names: Any) -> Callable[[], Any]:
    async def add() -> Any:
        return await asyncio.gather(
            *(store.aadd(key_of(name), sealed(str(name))) for name in names), return_exceptions=True
        )

    return lambda: asyncio.run(add())


def test_tasks_write_together(path: Path, work: Work) -> None:
    store = filled(path, 3)
    work.writes = work.opens = 0
    added(store, range(10, 210))()
    assert (work.writes, work.opens) == (1, 1)
    assert order_of(path)[3:] == [str(number) for number in range(10, 210)]


def test_they_stand_in_the_order_of_their_requests(path: Path) -> None:
    store = filled(path, 3)
    names = list(range(10, 30))
    for name in names:
        assert store.get(key_of(name)) is None
    number = path.stat().st_ino
    added(store, reversed(names))()
    store.close()
    assert order_of(path)[3:] == [str(name) for name in names]
    assert path.stat().st_ino == number  # they did before it was closed


def test_the_first_of_one_key_wins(path: Path) -> None:
    store = filled(path, 3)

    async def add() -> list[bytes]:
        return await asyncio.gather(
            *(store.aadd(key_of("x"), sealed(str(number))) for number in range(5))
        )

    assert asyncio.run(add()) == [sealed("0")] * 5
    assert order_of(path)[3:] == ["0"]


def test_another_process_that_was_first_wins(path: Path) -> None:
    store = filled(path)
    assert store.get(key_of("x")) is None
    writer(path).add(key_of("x"), sealed("other"))
    assert store.add(key_of("x"), sealed("own")) == sealed("other")


def test_what_counts_as_absent_does_however_it_is_compressed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, 3)
    with monkeypatch.context() as patched:
        patched.setattr(format_envelope, "_SHORT", 10**6)
        patched.setattr(format_envelope, "_SHORT_TEXT", 10**6)
        larger = sealed(LONG + "1")
    assert larger != sealed(LONG + "1")
    store = writer(path)
    assert store.add(key_of(1), sealed("new"), over=larger) == sealed("new")
    assert store.get(key_of(1)) == sealed("new")


def test_large_ones_are_written_in_a_thread(path: Path, work: Work) -> None:
    store = filled(path, 3)
    noise = os.urandom(20_000).hex()
    work.threads.clear()

    async def add() -> None:
        await asyncio.gather(
            store.aadd(key_of("small"), sealed("small")), store.aadd(key_of("l"), sealed(noise))
        )

    asyncio.run(add())
    assert threading.get_ident() not in work.threads
    assert set(order_of(path)[3:]) == {"small", noise}


def test_a_file_that_is_slow_is_left_to_threads_for_a_while(
    path: Path, work: Work, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(path, 3)
    write = files.write

    def slow(*args: Any) -> int:
        now[0] += 0.1
        return write(*args)

    monkeypatch.setattr(files, "write", slow)
    here = []
    for number in range(6):
        work.threads.clear()
        added(store, [number + 10])()
        here.append(threading.get_ident() in work.threads)
    assert here == [True] * 3 + [False] * 3
    now[0] += 10
    work.threads.clear()
    added(store, [20])()
    assert threading.get_ident() in work.threads


def test_a_file_that_is_locked_for_a_moment_is_waited_for_on_the_loop(
    path: Path, work: Work
) -> None:
    store = filled(path, 3)

    async def main() -> None:
        with writer(path)._cassette._writing():
            adding = asyncio.ensure_future(store.aadd(key_of("x"), sealed("x")))
            await asyncio.sleep(0.003)
            assert not adding.done()
        work.threads.clear()
        await adding

    asyncio.run(main())
    assert work.threads == {threading.get_ident()}


@pytest.mark.parametrize("locked", [False, True])
def test_who_is_cancelled_takes_nobody_with_him(path: Path, locked: bool) -> None:
    store = filled(path, 3)

    @contextmanager
    def kept() -> Iterator[None]:
        if locked:
            with writer(path)._cassette._writing():
                yield
        else:
            yield

    async def main() -> None:
        with kept():
            tasks = [
                asyncio.ensure_future(store.aadd(key_of(name), sealed(name))) for name in "abc"
            ]
            for _ in range(2 if locked else 1):
                await asyncio.sleep(0)
            tasks[0].cancel()
            await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.gather(*tasks[1:]), 10) == [sealed("b"), sealed("c")]
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]

    asyncio.run(main())
    assert order_of(path)[3:] == ["a", "b", "c"]


def test_where_there_is_room_for_some_they_are_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(path, 3)
    write = files.write
    room = [2000]

    def full(file: int, data: bytes) -> int:
        if len(data) > room[0]:
            raise OSError(28, "No space left on device")
        room[0] -= len(data)
        return write(file, data)

    monkeypatch.setattr(files, "write", full)
    given = added(store, ["a", "b", LONG, "c"])()
    assert [one for one in given if isinstance(one, bytes)] == [sealed(name) for name in "abc"]
    (error,) = [one for one in given if not isinstance(one, bytes)]
    assert isinstance(error, StoreError)
    assert "No space left" in str(error)
    assert sorted(order_of(path)[3:]) == ["a", "b", "c"]
    assert store.get(key_of(LONG)) is None


def test_each_caller_has_an_error_of_his_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(path, 3)

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "write", fail)
    errors = added(store, "abc")()
    assert all(isinstance(error, StoreError) for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error.__cause__, OSError) for error in errors)


def test_what_others_append_while_the_file_is_put_in_order_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = filled(path), writer(path)
    store.set(key_of(1), sealed("new"))
    draft = Content.draft
    held: list[bool] = []

    def meanwhile(content: Content, some: Any) -> str:
        made = draft(content, some)
        other.add(key_of("meanwhile"), sealed("meanwhile"))  # nobody keeps it out
        held.append(True)
        return made

    monkeypatch.setattr(Content, "draft", meanwhile)
    store.close()
    assert held == [True]
    found = order_of(path)
    assert (found[1], found[-1], len(found)) == ("new", "meanwhile", LARGE + 1)
    assert os.listdir(path.parent) == [path.name]


def test_what_another_thread_reads_on_meanwhile_is_written_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = filled(path), writer(path)
    store.set(key_of(1), sealed("new"))
    in_order = Cassette._in_order

    def meanwhile(cassette: Cassette, some: Any) -> Any:
        monkeypatch.setattr(Cassette, "_in_order", in_order)
        other.add(key_of("meanwhile"), sealed("meanwhile"))
        reader = threading.Thread(target=store.get, args=(key_of("meanwhile"),))
        reader.start()
        reader.join(0.2)
        return in_order(cassette, some)

    monkeypatch.setattr(Cassette, "_in_order", meanwhile)
    store.close()
    assert len(path.read_bytes().splitlines()) == LARGE + 2  # and the head


def test_what_others_do_else_meanwhile_is_kept_as_well(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = filled(path), writer(path)
    store.set(key_of(1), sealed("new"))
    draft = Content.draft

    def meanwhile(content: Content, some: Any) -> str:
        made = draft(content, some)
        monkeypatch.setattr(Content, "draft", draft)
        other.delete(key_of(0))
        return made

    monkeypatch.setattr(Content, "draft", meanwhile)
    store.close()
    assert len(order_of(path)) == LARGE - 1
    assert order_of(path)[0] == "new"
    assert os.listdir(path.parent) == [path.name]


# -- processes -------------------------------------------------------------------------------------


def test_processes_with_many_tasks_lose_nothing_and_write_nothing_twice(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=elsewhere.record_at_once, args=(path, writer, 150))
        for writer in range(3)
    ]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
    assert [process.exitcode for process in writers] == [0, 0, 0]
    found = order_of(path)
    assert len(found) == len(set(found)) == 450
    for number in range(3):
        own = [one for one in found if one.startswith(f"{number}-")]
        assert own == [f"{number}-{index}" for index in range(150)]
    assert os.listdir(path.parent) == [path.name]
