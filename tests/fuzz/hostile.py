"""What every reading of hostile bytes must keep to, and envelopes that are hostile behind the seal.

Used by the hypothesis tests beside it, and by the atheris harness, which has no pytest.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import re
import struct
import sys
import threading
import time
import tracemalloc
import zoneinfo
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, Generic, NamedTuple, TypeVar
from zlib import crc32

import attrs
import msgspec
import numpy
import pydantic

from cachewrap.entry import MAX_ENTRY_BYTES, Entry, Facts, HttpAnswer, Items, Kind
from cachewrap.errors import CodecError, CorruptEntryError, MissingTypeError
from cachewrap.format import codec
from cachewrap.format.aliases import Alias, unpacked
from cachewrap.format.envelope import MAX_RATIO, seal, unseal

T = TypeVar("T")


class Colour(enum.Flag):
    """A class that hostile bytes may name."""

    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    """A class that hostile bytes may name."""

    one: int
    two: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    """A class that hostile bytes may name."""

    one: int = 0


@dataclasses.dataclass
class Open:
    """A class that hostile bytes may name."""

    one: int = 0


@dataclasses.dataclass
class Unsure:
    """A class that hostile bytes may name, and put into a set."""

    one: int = 0

    def __hash__(self) -> int:
        raise RuntimeError("not of this state")


class Model(pydantic.BaseModel):
    """A class that hostile bytes may name. Neither its validator nor its property may run."""

    one: int = 0

    @pydantic.field_validator("one")
    @classmethod
    def check(cls, value: int) -> int:
        ran.append("a validator")
        return value


class Box(pydantic.BaseModel, Generic[T]):
    """A class that hostile bytes may name."""

    content: T


@attrs.define
class Defined:
    """A class that hostile bytes may name. Its validator may not run."""

    one: int = attrs.field(default=0, validator=lambda *_: ran.append("a validator"))


class Struct(msgspec.Struct):
    """A class that hostile bytes may name."""

    one: int = 0


class Post(msgspec.Struct):
    """A class that hostile bytes may name, and that is not to be made."""

    one: int = 0

    def __post_init__(self) -> None:
        ran.append("a struct's code")


class Words(list[str]):
    """A class that hostile bytes may name. Its constructor may not run."""

    def __init__(self, *args: object) -> None:
        ran.append("a constructor")


class Final_:
    """A class of no stored sort, whose instances would run code of theirs when they go."""

    def __del__(self) -> None:
        ran.append("a finalizer")


@dataclasses.dataclass
class Mourned(Final_):
    """A dataclass whose instances would run code of theirs when they go."""

    one: int = 0


CLASSES: Final = (
    *(
        f"{__name__}:{name}"
        for name in (
            "Colour Pair Slotted Open Unsure Model Box Final_ Mourned Defined Struct Post Words"
        ).split()
    ),
    *"builtins:object builtins:type builtins:tuple builtins:bytearray builtins:Exception".split(),
    *"enum:Enum re:RegexFlag http:HTTPStatus uuid:SafeUUID sys:version_info os:stat_result".split(),
    *"urllib.parse:SplitResult inspect:Signature dataclasses:Field typing:NamedTuple".split(),
    *"pydantic.main:BaseModel pydantic.root_model:RootModel subprocess:Popen os:system".split(),
    *"pydantic.networks:HttpUrl pydantic.networks:PostgresDsn collections:Counter".split(),
    *"not.imported:Thing nothing : :: a:b.c __main__:x decimal:DecimalTuple".split(),
)
TAGS: Final = (
    *"int float str bytes bytearray complex date datetime time timedelta uuid decimal".split(),
    *"fraction path tuple set frozenset dict ordered namespace enum namedtuple dataclass".split(),
    *"pydantic array number range pattern ip url deque defaultdict mappingproxy attrs".split(),
    *"struct subclass unset zone unknown".split(),
)
WORDS: Final = (
    *"2020-01-01 2020-01-01T00:00:00 00:00 Europe/Berlin UTC ../etc/passwd posixrules nan".split(),
    *"1e999999999 sNaN123 0x1p-1 -0x8 ff aGk= PosixPath WindowsPath u1 <U1 <M8[ns] S3 c16".split(),
    *(hex(k * (2**61 - 1)) for k in (0, 1, 2, 3**30, 3**400)),  # of one hash
    *("location", "set-cookie", "caf\u00e9", "a\r\nb", "[\u0100-\uffff]" * 9, "9" * 400),
    *"one two RED BLUE IGNORECASE OK __class__ __dict__ __init__ __del__ content \ud800".split(),
    *"IPv4Address IPv6Network 1.2.3.4 ::/8 http://a.b/ (a|b)*[c-e]{2,3} (?i)[".split(),
    *"00000000000000000000000000000000 !tuple !dict !!".split(),
    "\0",
    "",
)

ran: Final[list[str]] = []
"""Code that ran and was not to."""

PER_BYTE: Final = 256
"""Bytes that `codec.decode` may take for each byte that it is given ..."""

BESIDE: Final = 2**20
"""... beside this many."""


MOST_SECONDS: Final = 10.0
"""Of the processor, for one entry, whatever its size; counting memory makes it ten times slower."""


SMALL: Final = 2**16
"""Bytes of an answer whose decoding is measured by them, and not by the ceiling."""


class Broken(AssertionError):
    """A promise that was not kept."""


# -- watching -------------------------------------------------------------------------------------

# What tells of code being loaded or run, or of the world being touched. Files are only read for
# time zones, and time zones that the system does not have are looked for in the package tzdata.
_TELLING: Final = ("import", "compile", "exec", "marshal", "pickle", "os.", "subprocess", "socket")
_LOOKS: Final = ("os.listdir", "os.scandir")
_ZONES: Final = ("tzdata", "importlib", "zoneinfo")
_watching = 0  # the thread whose doings are watched


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _watching != threading.get_ident() or not event.startswith(_TELLING):
        return
    if event == "import" and str(args[0]).partition(".")[0] in _ZONES:
        return
    if event in _LOOKS:
        return
    ran.append(f"{event} {args!r:.200}")


sys.addaudithook(_hear)


@contextmanager
def watched(data: bytes, allowance: int) -> Iterator[None]:
    """Raise `Broken` where code runs, a module is imported, or too much memory is taken."""
    global _watching
    ran.clear()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    _watching = threading.get_ident()
    started = time.process_time()
    try:
        yield
    finally:
        _watching = 0
        seconds = time.process_time() - started
        taken = tracemalloc.get_traced_memory()[1] - before
    if ran:
        raise Broken(f"{ran}: {data!r}")
    if seconds > MOST_SECONDS:
        raise Broken(f"{seconds} seconds for {len(data)} bytes: {data[:200]!r}")
    if taken > allowance:
        raise Broken(f"{taken} bytes for {len(data)}, not {allowance}: {data[:200]!r}")


# -- reading --------------------------------------------------------------------------------------


def decoded(kind: Kind, data: bytes) -> object:
    """What is read of an answer, or of what stands in its place."""
    return unpacked(data) if kind is Kind.ALIAS else codec.decode(kind, data)


def decode(kind: Kind, data: bytes) -> str:
    """Decode an answer; how that went."""
    with watched(data, PER_BYTE * len(data) + BESIDE):
        try:
            decoded(kind, data)
        except CorruptEntryError:
            return "corrupt"
        except MissingTypeError:
            return "missing"
    return "read"


def read(raw: bytes) -> str:
    """Open an envelope, read its record and decode its answer; how that went."""
    entry: Entry | None = None
    with watched(raw, MAX_RATIO * len(raw) + BESIDE):
        try:
            entry = unseal(raw)
        except CorruptEntryError:
            return "not opened"
    with watched(raw, 2 * MAX_RATIO * len(raw) + BESIDE):
        try:
            entry.read_record()
        except CorruptEntryError:
            return "no record"
    if len(entry.answer) <= SMALL:
        return decode(entry.kind, entry.answer)
    with watched(raw, MAX_ENTRY_BYTES + BESIDE):
        try:
            decoded(entry.kind, entry.answer)
        except CodecError:
            return "corrupt"
    return "read"


# -- making ---------------------------------------------------------------------------------------

_HEAD: Final = struct.Struct("<BBHddfIII")


def enclose(
    answer: bytes,
    record: bytes,
    *,
    kind: int = 2,
    flags: int = 0,
    numbers: tuple[int, float, float, float, int, int] = (0, 0.0, 0.0, 0.0, 0, 0),
) -> bytes:
    """An envelope whose checksums and lengths fit, whatever its sections hold."""
    zero, expires, created, seconds, asked, told = numbers
    like = seal(Kind.TEXT, b"", b"", Facts(created=0.0, seconds=0.0))
    rest = _HEAD.pack(kind, flags, zero, expires, created, seconds, asked, told, len(answer))
    # Later versions of the head go on with the length of the record.
    empty = len(like) - len(_EMPTY_RECORD) - 4
    if empty > 8 + _HEAD.size:
        rest += struct.pack("<I", len(record))
    checksum = struct.pack("<I", crc32(answer, crc32(rest)))
    return b"".join((like[:4], checksum, rest, answer, struct.pack("<I", crc32(record)), record))


_EMPTY_RECORD: Final = msgspec.msgpack.encode([b"", "", ""])


def tree(take: Take, depth: int = 0) -> Any:
    """A value as the codec stores them, hostile in its tags, names and shapes."""
    choice = take.number(16 if depth < 6 else 9)
    if choice < 3:
        return take.pick(WORDS)
    if choice == 3:
        return take.pick(CLASSES)
    if choice == 4:
        return take.number(2**64) - 2**63
    if choice == 5:
        return take.data(take.number(12))
    if choice == 6:
        return struct.unpack("<d", take.data(8).ljust(8, b"\0"))[0]
    if choice == 7:
        return take.pick((None, True, False, 0, 1, -1, 2**63, 1e308))
    if choice == 8:
        return take.data(take.number(8)).decode("latin-1")
    if choice == 9:
        return {take.pick(WORDS): tree(take, depth + 1) for _ in range(take.number(4))}
    if choice == 10:
        return [tree(take, depth + 1) for _ in range(take.number(6))]
    return {f"!{take.pick(TAGS)}": _inner(take, depth + 1)}


def _inner(take: Take, depth: int) -> Any:
    choice = take.number(13)
    if choice < 2:
        return tree(take, depth)
    if choice == 10:
        # Members that collide, and fractions.
        return [_colliding(take) for _ in range(take.number(80))]
    if choice == 11:
        # A model of a model of a model, with fields left out.
        return [_spec(take), {}, None, [], None]
    if choice == 12:
        return [take.pick(CLASSES), {}]
    if choice < 5:
        # Of the shape that most tags have: a name, and then what belongs to it.
        return [take.pick(CLASSES), tree(take, depth), *_some(take, depth)]
    if choice == 5:
        spec = [take.pick(CLASSES), [take.pick(CLASSES)]]
        return [spec, tree(take, depth), None, [], None]
    if choice == 6:
        return [take.pick(WORDS), [take.number(4)], take.data(take.number(16))]
    if choice == 7:
        return [take.pick(CLASSES), {"one": tree(take, depth)}, None, ["one"], None]
    return [[tree(take, depth), tree(take, depth)] for _ in range(take.number(3))]


def _colliding(take: Take) -> Any:
    number = {"!int": hex(take.number(2**16) * (2**61 - 1))}
    choice = take.number(5)
    if choice == 0:
        return {"!fraction": [number["!int"], "0x1"]}
    if choice == 1:
        return {"!tuple": [number]}
    if choice == 2:
        return {"!decimal": str(int(number["!int"], 16))}
    return [number, 0] if choice == 3 else number


def _spec(take: Take) -> Any:
    spec: Any = take.pick(CLASSES)
    for _ in range(take.number(50)):
        spec = [f"{__name__}:Box", [spec]]
    return spec


def http(take: Take) -> Any:
    """An HTTP answer as it is stored, hostile in its numbers, headers and times."""
    headers = [[take.pick(WORDS), take.pick(WORDS)] for _ in range(take.number(5))]
    body = take.data(take.number(40))
    lengths = [len(body), *(take.number(8) - 2 for _ in range(take.number(3)))]
    delays = [take.pick((0.0, -1.0, float("nan"), float("inf"))) for _ in range(take.number(3))]
    status = take.pick((200, 307, 0, -1, 99, 1000, 2**40))
    return [status, headers, body, lengths[take.number(2) :], delays, take.number(2) == 1]


def repeated(take: Take) -> bytes:
    """An answer that says one thing many times, as a bomb does."""
    item = pack(tree(take, 5))
    size = take.number(2**6) << (12 if take.number(256) == 0 else 6)  # mostly small, to be quick
    count = size // max(1, len(item))
    return bytes([take.number(2)]) + b"\xdd" + count.to_bytes(4) + item * count


def _some(take: Take, depth: int) -> list[Any]:
    return [tree(take, depth) for _ in range(take.number(4))]


def pack(value: Any) -> bytes:
    """A tree as MessagePack; lone surrogates, which cannot be packed, as bytes that are no text."""
    try:
        return msgspec.msgpack.encode(value)
    except UnicodeEncodeError:
        return msgspec.msgpack.encode(None)


class Take:
    """Takes numbers and bytes from a string of bytes, and zeros when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def data(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, below: int) -> int:
        """A number from the next bytes, as few as are needed."""
        size = max(1, (below - 1).bit_length() + 7 >> 3)
        return int.from_bytes(self.data(size)) % below

    def pick(self, choices: tuple[Any, ...]) -> Any:
        """One of some."""
        return choices[self.number(len(choices))]


def samples() -> list[tuple[Kind, bytes]]:
    """Answers of every kind, as the codec writes them."""
    values: list[object] = [
        "text",
        None,
        [1, -1, 2.5, True, "a", b"b"],
        {"a": {"b": [{}]}},
        (1, {2, 3}, frozenset("a"), {1: 2}, SimpleNamespace(a=1)),
        Colour.RED | Colour.BLUE,
        Pair(1),
        Open(2),
        Slotted(3),
        Model(one=4),
        numpy.array([1, 2]),
        numpy.float32(0.5),
        numpy.array(["text"]),
        Box[int](content=5),
        Defined(6),
        Struct(7),
        deque([1], 2),
        defaultdict(list, a=[1]),
        Counter("aab"),
        range(1, 3),
        re.compile("a+"),
        ipaddress.ip_address("1.2.3.4"),
        pydantic.HttpUrl("http://a.b/"),
        float("nan"),
        2**70,
        HttpAnswer(200, [("content-type", "text/plain")], [b"ab", b"c"], [0.1, 0.2], True),
        Items([codec.encode("a"), codec.encode((1,))], [0.0, 0.1], codec.encode(None)),
    ]
    alias = Alias("a" * 64, seal(Kind.TEXT, b"kept", b"", Facts(created=1.0, seconds=2.0)))
    return [*(codec.encode(value) for value in values), (Kind.ALIAS, alias.packed())]


def warm_up() -> None:
    """Have everything imported that the codec itself imports, and start to count memory."""
    for name in [*sorted(zoneinfo.available_timezones()), "No/Where"]:
        try:
            zoneinfo.ZoneInfo(name)  # and with it its package of tzdata
        except zoneinfo.ZoneInfoNotFoundError:
            continue
    tracemalloc.start(1)
    for kind, data in samples():
        decoded(kind, data)
