"""Entries that are small and would become large, or slow: each is read in a process with a limit.

``python -m fuzz.bombs`` reads all of them and prints, as JSON, how each ended, what it took of
memory and of the processor.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from cachewrap.entry import Kind
from cachewrap.errors import CodecError
from cachewrap.format import codec
from cachewrap.format.envelope import MAX_RATIO, unseal
from cachewrap.format.zstd import LIBRARY
from cachewrap.request.key import decode_request
from fuzz.hostile import Box, enclose, pack

LIMIT: Final = 1280 * 2**20
"""Bytes of address space that the process may have more than it has at the start."""

P: Final = 2**61 - 1
BOX: Final = Box[int]
_RECORD: Final = msgspec.msgpack.encode([b"", "", ""])


def squeezed(content: bytes, kind: Kind = Kind.VALUE) -> bytes:
    """An envelope with the content compressed, as far as an entry may be."""
    return enclose(_frame(content), _RECORD, kind=kind, flags=1)


def _frame(content: bytes) -> bytes:
    frame = LIBRARY.compressor(3)(content)
    # What stands behind a frame is left out.
    return frame.ljust(len(content) // MAX_RATIO + 1, b"\0")


def _many(item: bytes, size: int = 2**26, tagged: bool = False) -> bytes:
    count = size // len(item)
    return squeezed(bytes([tagged]) + b"\xdd" + count.to_bytes(4) + item * count)


def _tagged(plain: Any) -> bytes:
    return squeezed(b"\x01" + pack(plain))


def _record(request: bytes) -> bytes:
    return enclose(b"\0\xc0", _frame(msgspec.msgpack.encode([request, "", ""])), flags=2)


def _http(headers: bytes, lengths: bytes, delays: bytes) -> bytes:
    answer = b"\x96\xcc\xc8" + headers + b"\xc4\0" + lengths + delays + b"\xc2"
    return squeezed(answer, Kind.HTTP)


def _dense(item: bytes, size: int = 2**25) -> bytes:
    return b"\xdd" + (size // len(item)).to_bytes(4) + item * (size // len(item))


def _colliding_tuples() -> bytes:
    """A map whose keys are lists, which become tuples; of these many have one hash."""
    one, two, whole = 11400714785074694791, 14029467366897019727, 2**64

    def after(accumulated: int, lane: int) -> int:
        accumulated = (accumulated + lane * two) % whole
        return ((accumulated << 31 | accumulated >> 33) % whole) * one % whole

    start, target, undo = 2870177450012600261, 12345, pow(two, -1, whole)
    pairs: list[bytes] = []
    first = 0
    while len(pairs) < 40_000:
        first += 1
        second = (target - after(start, first)) * undo % whole
        if second < P:
            pairs.append(msgspec.msgpack.encode([first, second]) + b"\xc0")
    return squeezed(b"\0\xdf" + struct.pack(">I", len(pairs)) + b"".join(pairs))


def _wide(number: int) -> str:
    return "".join(f"[{chr(k + 256 + number)}-{chr(60_000 + k)}]" for k in range(100))


def _nested(depth: int) -> Any:
    spec: Any = "builtins:int"
    for _ in range(depth):
        spec = ["fuzz.hostile:Box", [spec]]
    return spec


def _model(spec: Any) -> Any:
    return {"!pydantic": [spec, {"content": 1}, None, ["content"], None]}


BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    "lists": lambda: _many(b"\x90"),
    "maps": lambda: _many(b"\x80"),
    "numbers": lambda: _many(b"\xcd\x7f\xff"),
    "small numbers": lambda: _many(b"\x01"),
    "short texts": lambda: _many(b"\xa2ab"),
    "lists of lists": lambda: _many(b"\x91\x90"),
    "maps of maps": lambda: _many(b"\x81\xa0\x80"),
    "floats": lambda: _many(b"\xcb" + bytes(8), 2**27),
    "one long text": lambda: squeezed(b"\0\xdb" + struct.pack(">I", 2**27) + b"a" * 2**27),
    "text": lambda: squeezed(b"a" * (2**28 - 1), Kind.TEXT),
    "wide text": lambda: squeezed("\U0001f600".encode() + b"a" * 2**27, Kind.TEXT),
    "sets": lambda: _many(pack({"!set": []}), tagged=True),
    "deques": lambda: _many(pack({"!deque": [[], None]}), tagged=True),
    "namespaces": lambda: _many(pack({"!namespace": {}}), tagged=True),
    "networks": lambda: _many(pack({"!ip": ["IPv6Network", "::"]}), tagged=True),
    "models": lambda: _many(pack(_model(["fuzz.hostile:Box", ["builtins:int"]])), tagged=True),
    "text as numbers": lambda: _tagged({"!array": ["<U1", [2**24], bytes(2**26)]}),
    "wide text as numbers": lambda: _tagged({"!array": ["<U1", [2**24], b"\0\x4e\0\0" * 2**24]}),
    "text of no size": lambda: _tagged({"!array": ["<U1", [2**40, 0], b""]}),
    "text of many sides": lambda: _tagged({"!array": ["<U1", [2**20] + [1] * 31, bytes(2**22)]}),
    "JSON": lambda: squeezed(
        pack([200, [], b'{"choices":[' + b"[]," * 2**24 + b"[]]}", [50_331_664], [], False]),
        Kind.HTTP,
    ),
    "headers": lambda: _http(_dense(b"\x92\xa1a\xa1b"), b"\x90", b"\x90"),
    "chunks": lambda: _http(b"\x90", _dense(b"\0"), b"\x90"),
    "delays": lambda: _http(b"\x90", b"\x90", _dense(b"\0")),
    "items": lambda: squeezed(
        b"\x93" + _dense(b"\x92\x02\xc4\x02\0\xc0") + b"\x90\x92\x02\xc4\x02\0\xc0", Kind.ITEMS
    ),
    "lists in items": lambda: squeezed(
        b"\x93\x92" + (b"\x92\x02\xc6" + struct.pack(">I", 2**25 + 6) + b"\0" + _dense(b"\x90")) * 2
        + b"\x90\x92\x02\xc4\x02\0\xc0",
        Kind.ITEMS,
    ),
    "a request of lists": lambda: _record(_dense(b"\x90", 2**26)),
    "a request in parts": lambda: _record(
        b"\xc1\x93\xa1a\xc0\x80\x80" + b"\x90" * 2**26 + struct.pack(">I", 2**26)
    ),
    "colliding numbers": lambda: _tagged({"!set": [{"!int": hex(k * P)} for k in range(40_000)]}),
    "colliding keys": lambda: _tagged(
        {"!dict": [[{"!int": hex(k * P)}, 0] for k in range(40_000)]}
    ),
    "colliding fractions": lambda: _tagged(
        {"!frozenset": [{"!fraction": [hex(k * P), "0x1"]} for k in range(40_000)]}
    ),
    "colliding decimals": lambda: _tagged(
        {"!set": [{"!decimal": str(k * P)} for k in range(40_000)]}
    ),
    "colliding spans": lambda: _tagged(
        {"!set": [{"!tuple": [{"!int": hex(k * P)}]} for k in range(40_000)]}
    ),
    "colliding objects": lambda: _tagged(
        {
            "!set": [
                {"!dataclass": ["fuzz.hostile:Slotted", {"one": {"!int": hex(k * P)}}]}
                for k in range(20_000)
            ]
        }
    ),
    "colliding keys of a map": _colliding_tuples,
    "a huge number": lambda: _tagged({"!int": "0x" + "f" * 2**25}),
    "a huge fraction": lambda: _tagged({"!fraction": [hex(3**1_000_000), hex(7**700_000)]}),
    "many fractions": lambda: _tagged([{"!fraction": [hex(3**2500), hex(7**1400)]}] * 20_000),
    "a decimal that is long": lambda: _tagged({"!decimal": "9" * 2**23}),
    "a decimal that is vast": lambda: _tagged({"!set": [{"!decimal": "1E999999999999999"}, 1]}),
    "a shape": lambda: _tagged({"!array": ["u1", [2**62] * 500_000, b""]}),
    "a deque's length": lambda: _tagged({"!deque": [[], 2**62]}),
    "wide patterns": lambda: _tagged([{"!pattern": [_wide(k), 32]} for k in range(500)]),
    "long patterns": lambda: _tagged([{"!pattern": [f"{k:0>9}?" * 900, 32]} for k in range(500)]),
    "nested generics": lambda: _tagged([_model(_nested(80))] * 2000),
    "many generics": lambda: _tagged([_model(["fuzz.hostile:Box", ["builtins:int"]])] * 40_000),
    "deep lists": lambda: squeezed(b"\0" + b"\x91" * 2**24),
    "deep tuples in a set": lambda: squeezed(b"\x01\x81\xa4!set\x91" + b"\x81\xa6!tuple\x91" * 999),
    "zones": lambda: _tagged([{"!zone": [k % 86_000, 0, 0]} for k in range(100_000)]),
    "long paths": lambda: _tagged({"!path": ["PurePosixPath", "a/" * 2**22]}),
}  # fmt: skip


def read(raw: bytes) -> str:
    """Read all of an envelope as a hit and the commands do; how that ended."""
    try:
        entry = unseal(raw)
        request = entry.read_record()["request"]
        if request:
            try:
                decode_request(request)
            except (msgspec.MsgspecError, RecursionError):
                return "no request"
        codec.decode(entry.kind, entry.answer)
    except CodecError as error:
        return "no memory" if isinstance(error.__cause__, MemoryError) else type(error).__name__
    return "read"


def main(names: list[str]) -> None:
    """Read the bombs of these names, or all, with a limit, and print how each ended."""
    read(squeezed(b"\0\xc0"))
    prepared = {name: BOMBS[name]() for name in names or BOMBS}
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    found: dict[str, Any] = {}
    for name, raw in prepared.items():
        started = time.process_time()
        end = read(raw)
        found[name] = [end, len(raw), round(time.process_time() - started, 3)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
