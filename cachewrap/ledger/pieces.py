"""The pieces of a run's log, byte by byte.

A piece is a byte with the version, a byte with its kind, and what MessagePack makes of the rest:

- ``B``, a writer begins: a process that takes part in the run. `Begin`.
- ``C``, calls of a writer, in the order in which they ended: `_Calls`. Keys are 32 bytes each, NULs
  where there is none. Times are little-endian numbers: when calls began and answers were stored of
  8 bytes, in seconds since the epoch; how long they took of 4. Columns of whole numbers are
  compressed with zlib. What many calls have in common (source, model, and so on) is told once by
  each writer, and then by its number; so are lanes.
- ``E``, a writer ends. `End`.
- ``R``, an answer that was stored before, and was replaced in the run: `Replaced`.

A piece of a later version, or of an unknown kind, is left out. Times and counts that cannot be
are read as 0: whoever can write to the place can write anything.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from cachewrap.ledger.calls import OUTCOMES, Call
from cachewrap.telemetry.usage import Details

VERSION: Final = 1
_KEY: Final = 32
_NO_KEY: Final = bytes(_KEY)
_LEVEL: Final = 1
_MOST: Final = 2**25
"""Bytes of the columns of a piece, at most: a forged one does not fill the memory."""


_LAST: Final = 253_402_000_000.0
"""Seconds since the epoch at the end of the year 9999."""

_MOST_COUNT: Final = 2**53

N = TypeVar("N", int, float)


class Begin(msgspec.Struct, array_like=True):
    """The beginning of one process's part in a run.

    Attributes:
        writer: a number of its own.
        name: the name of the run; ``""`` of one without.
        started: when, in seconds since the epoch.
        process: the number of the process.
        host: the name of its host.
        program: the file name of its program.
        family: what all processes of one program have in common.
        place: the URL of the cache.
    """

    writer: int
    name: str
    started: float
    process: int
    host: str
    program: str
    family: str
    place: str


class End(msgspec.Struct, array_like=True):
    """The end of one process's part in a run, with what it could not write of it.

    Attributes:
        writer: as in `Begin`.
        ended: when, in seconds since the epoch.
        lost: calls that are missing, as the store could not be written for too long.
    """

    writer: int
    ended: float
    lost: int = 0


class Replaced(msgspec.Struct, array_like=True):
    """An entry as it was before another took its place.

    Attributes:
        key: its key.
        seed: its seed.
        created: when it was stored, in seconds since the epoch.
        value: the bytes that the store had.
    """

    key: str
    seed: str
    created: float
    value: bytes


class _Common(msgspec.Struct, array_like=True):
    outcome: int
    source: str
    model: str
    seed: str
    place: str
    path: str
    reason: str
    rules: tuple[str, ...] = ()


_Told: TypeAlias = tuple[int, str, str, str, str, str, str, tuple[str, ...]]


class _Calls(msgspec.Struct, array_like=True):
    writer: int
    process: int
    first_common: int
    common: list[_Common]
    first_lane: int
    lanes: list[str]
    keys: bytes
    started: bytes
    seconds: bytes
    upstream: bytes
    answered: bytes
    columns: bytes


class _Columns(msgspec.Struct, array_like=True):
    common: list[int]
    lanes: list[int]
    samples: Sequence[int]
    tokens_in: Sequence[int]
    tokens_out: Sequence[int]
    details: dict[int, Details]


class Manner:
    """The manner of calls that end alike. One for all of them: they are told by it.

    Attributes:
        parts: the number of the outcome, seed, place, path and reason; and, where it took some,
            the rules of equality without which the answer were not the call's.
    """

    __slots__ = ("parts",)

    def __init__(
        self,
        outcome: int,
        seed: str,
        place: str,
        path: str,
        reason: str = "",
        rules: tuple[str, ...] = (),
    ) -> None:
        self.parts = (outcome, seed, place, path, reason, *([rules] if rules else []))


class Ended(NamedTuple):
    """A call that has ended, as it waits to be written: such a tuple, or a plain one.

    ``what`` is source, model and manner; ``told`` has the tokens of the prompt and of the answer,
    the seconds of upstream, and the details. The others are as in `Call`.
    """

    what: tuple[str, str, Manner]
    key: str
    sample: int
    started: float
    seconds: float
    told: tuple[int, int, float, Details]
    answered: float
    lane: str


Part: TypeAlias = Begin | End | Replaced | list[Call]

_encode: Final = msgspec.msgpack.Encoder().encode
_decoders: Final = {
    ord(kind): msgspec.msgpack.Decoder(shape)
    for kind, shape in (("B", Begin), ("C", _Calls), ("E", End), ("R", Replaced))
}
_told: Final[Any] = msgspec.structs.astuple
_columns_of: Final = msgspec.msgpack.Decoder(_Columns).decode


def encode(part: Begin | End | Replaced) -> bytes:
    """A piece with one of these."""
    return b"%c%b%b" % (VERSION, type(part).__name__[0].encode(), _encode(part))


class Writer:
    """The maker of the pieces of one process, which remembers what it has told in them.

    Args:
        number: its own.
        process: the number of the process.
    """

    def __init__(self, number: int, process: int) -> None:
        self.number = number
        self._process = process
        self.forget()

    def forget(self) -> None:
        """Tell everything anew, as a piece was lost."""
        self._known: dict[tuple[str, str, Manner], int] = {}
        self._lanes: dict[str, int] = {}

    def calls(self, rows: Sequence[tuple[Any, ...]]) -> bytes:
        """A piece with some calls, at least one, each as `Ended` has it."""
        what, keys, samples, started, seconds, told, answered, lanes = zip(*rows, strict=True)
        asked, answers, upstream, details = zip(*told, strict=True)
        known, named = self._known, self._lanes
        first, first_lane = len(known), len(named)
        columns = _Columns(
            [known.setdefault(one, len(known)) for one in what],
            [named.setdefault(one, len(named)) for one in lanes],
            samples,
            asked,
            answers,
            {number: one for number, one in enumerate(details) if one} if any(details) else {},
        )
        found = "".join(keys)
        whole = len(found) == len(rows) * 2 * _KEY
        piece = _Calls(
            self.number,
            self._process,
            first,
            [_common(*one) for one in list(known)[first:]],
            first_lane,
            list(named)[first_lane:],
            bytes.fromhex(found if whole else "".join(key or _NO_KEY.hex() for key in keys)),
            _numbers("d", started),
            _numbers("f", seconds),
            _numbers("f", upstream),
            _numbers("d", answered),
            zlib.compress(_encode(columns), _LEVEL),
        )
        return b"%cC%b" % (VERSION, _encode(piece))


def _common(source: str, model: str, manner: Manner) -> Any:
    """What a piece tells of calls that have this in common: what `_Common` reads."""
    outcome, *others = manner.parts
    return outcome, source, model, *others


def _numbers(kind: str, numbers: Iterable[float]) -> bytes:
    packed = array(kind, numbers)  # without a step of Python's for each of them
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpacked(kind: str, packed: bytes) -> Sequence[float]:
    numbers: array[float] = array(kind)
    numbers.frombytes(packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return _within(numbers.tolist(), _LAST)


def _within(numbers: Sequence[N], most: float) -> Sequence[N]:
    """The numbers, with 0 for those that are negative, too large or none at all."""
    if not numbers or (0 <= min(numbers) <= max(numbers) <= most and sum(numbers) >= 0):
        return numbers
    return [number if 0 <= number <= most else type(number)() for number in numbers]


def _checked(part: Begin | End | Replaced) -> Begin | End | Replaced:
    if isinstance(part, Begin):
        (part.started,) = _within([part.started], _LAST)
    elif isinstance(part, End):
        (part.ended,) = _within([part.ended], _LAST)
        (part.lost,) = _within([part.lost], _MOST_COUNT)
    else:
        (part.created,) = _within([part.created], _LAST)
    return part


class Reader:
    """The reader of a log, of all its writers.

    A piece that is there twice was sent again, as its writer was not told that it was stored.

    Attributes:
        unknown: calls that were left out, as the piece is damaged that told what they were.
    """

    def __init__(self) -> None:
        self.unknown = 0
        self._seen: set[int] = set()
        self._common: dict[int, dict[int, _Told]] = {}
        self._lanes: dict[int, dict[int, str]] = {}

    def read(self, piece: bytes) -> Part | None:
        """What a piece holds; None for one that this version does not know, or that is damaged."""
        decoder = _decoders.get(piece[1]) if len(piece) > 2 and piece[0] == VERSION else None
        if decoder is None:
            return None
        try:
            if piece[1] == _CALLS:
                if (digest := hash(piece)) in self._seen:
                    return None
                self._seen.add(digest)
            part: Any = decoder.decode(piece[2:])
            return self._calls(part) if isinstance(part, _Calls) else _checked(part)
        except (msgspec.MsgspecError, zlib.error, ValueError, IndexError, OverflowError):
            return None

    def _calls(self, piece: _Calls) -> list[Call]:
        common = self._common.setdefault(piece.writer, {})
        common.update(enumerate(map(_told, piece.common), piece.first_common))
        lanes = self._lanes.setdefault(piece.writer, {})
        lanes.update(enumerate(piece.lanes, piece.first_lane))
        unpacked = zlib.decompressobj()
        columns = _columns_of(unpacked.decompress(piece.columns, _MOST))
        keys = [piece.keys[at : at + _KEY] for at in range(0, len(piece.keys), _KEY)]
        process, details = piece.process, columns.details
        if not all(count >= 0 for told in details.values() for count in told):
            details = {}
        calls = []
        for number, (what, lane, sample, began, took, up, asked, told, stored, key) in enumerate(
            zip(
                columns.common,
                columns.lanes,
                _within(columns.samples, _MOST_COUNT),
                _unpacked("d", piece.started),
                _unpacked("f", piece.seconds),
                _unpacked("f", piece.upstream),
                _within(columns.tokens_in, _MOST_COUNT),
                _within(columns.tokens_out, _MOST_COUNT),
                _unpacked("d", piece.answered),
                keys,
                strict=True,
            )
        ):
            known = common.get(what)
            if known is None:
                self.unknown += 1
                continue
            outcome, source, model, seed, place, path, reason, rules = known
            calls.append(
                Call(
                    0,
                    "" if key == _NO_KEY else key.hex(),
                    OUTCOMES[outcome],
                    source,
                    model,
                    seed,
                    sample,
                    began,
                    took,
                    up,
                    asked,
                    told,
                    details.get(number, ()),
                    stored,
                    lanes.get(lane, ""),
                    process,
                    path,
                    place,
                    reason,
                    rules,
                )
            )
        return calls


_CALLS: Final = ord("C")


def read(pieces: Iterable[bytes]) -> Iterator[Part]:
    """What the pieces of a log hold."""
    reader = Reader()
    for piece in pieces:
        if (part := reader.read(piece)) is not None:
            yield part
    if reader.unknown:
        yield End(0, 0.0, reader.unknown)
