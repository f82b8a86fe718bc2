"""A recorder takes the place of a response's stream without being noticed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from cachewrap.streams.recording import Recorder, Recording

PIECES = [b"a", b"", b"bc"]


class Source:
    """A stream of both colours that can be asked for more than its pieces."""

    elapsed = 7

    def __init__(self, broken: bool = False) -> None:
        self.closed = 0
        self._broken = broken
        self._rest = iter(PIECES)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._rest
        if self._broken:
            raise ConnectionError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Note:
    """What the recorder handed over, and whether the stream was closed by then."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen: list[tuple[Recording[bytes], int]] = []

    def done(self, recording: Recording[bytes]) -> None:
        self.seen.append((recording, self.source.closed))

    async def adone(self, recording: Recording[bytes]) -> None:
        self.done(recording)


def test_a_stream_read_to_its_end() -> None:
    note = Note(Source())
    recorder = Recorder(note.source, Recording(0.0), note.done)
    assert list(recorder) == PIECES
    assert note.seen == []
    recorder.close()
    ((recording, closed),) = note.seen
    assert (recording.items, recording.ended, closed) == (PIECES, True, 1)
    assert len(recording.delays) == len(PIECES)


def test_an_async_stream_read_to_its_end() -> None:
    note = Note(Source())
    recorder = Recorder(note.source, Recording(0.0), note.adone)

    async def read() -> list[bytes]:
        pieces = [piece async for piece in recorder]
        await recorder.aclose()
        return pieces

    assert asyncio.run(read()) == PIECES
    ((recording, closed),) = note.seen
    assert (recording.items, recording.ended, closed) == (PIECES, True, 1)


def test_a_stream_closed_early() -> None:
    note = Note(Source())
    recorder = Recorder(note.source, Recording(0.0), note.done)
    next(iter(recorder))
    recorder.close()
    assert [(r.items, r.ended) for r, _ in note.seen] == [([b"a"], False)]


def test_a_stream_that_broke() -> None:
    note = Note(Source(broken=True))
    recorder = Recorder(note.source, Recording(0.0), note.done)
    with pytest.raises(ConnectionError):
        list(recorder)
    recorder.close()
    assert [r.ended for r, _ in note.seen] == [False]


def test_it_is_handed_over_once() -> None:
    note = Note(Source())
    recorder = Recorder(note.source, Recording(0.0), note.done)
    recorder.close()
    recorder.close()
    assert len(note.seen) == 1
    assert note.source.closed == 2


def test_a_second_reader_is_recorded_behind_the_first() -> None:
    note = Note(Source())
    recorder = Recorder(note.source, Recording(0.0), note.done)
    first = iter(recorder)
    assert next(first) == b"a"
    list(recorder)
    recorder.close()
    assert [r.items for r, _ in note.seen] == [PIECES]


def test_attributes_and_type_are_the_streams() -> None:
    source = Source()
    recorder = Recorder(source, Recording(0.0), Note(source).done)
    assert recorder.elapsed == 7
    assert isinstance(recorder, Source)


def test_a_stream_closed_by_the_end_of_its_generator_is_dropped() -> None:
    note = Note(Source())
    recorder = Recorder(note.source, Recording(0.0), note.done)

    def reader() -> Iterator[bytes]:
        try:
            yield from recorder
        finally:
            recorder.close()

    reading = reader()
    next(reading)
    del reading
    gc.collect()
    assert note.source.closed == 1
    assert note.seen == []
