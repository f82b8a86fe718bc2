"""The size that a section of an envelope becomes in memory, estimated before it is decoded."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from cachewrap.entry import Kind
from cachewrap.errors import CorruptEntryError

SURE: Final = 2**24
"""Bytes of memory that no small answer becomes."""
SMALL: Final = SURE >> 8
"""Bytes that are decoded without a look where that much memory may be taken."""


def too_large(most: int) -> CorruptEntryError:
    what = f"more than the {most:,} bytes of memory that the cache's max_entry_bytes allows"
    return CorruptEntryError(f"an entry would take {what}")


class _HttpParts(msgspec.Struct, array_like=True):
    status: msgspec.Raw
    headers: msgspec.Raw
    body: msgspec.Raw


class _ItemsParts(msgspec.Struct, array_like=True):
    values: list[tuple[int, bytes]]
    delays: msgspec.Raw
    returned: tuple[int, bytes]


_http_parts: Final = msgspec.msgpack.Decoder(_HttpParts)
_items_parts: Final = msgspec.msgpack.Decoder(_ItemsParts)


def check_size(kind: Kind, answer: bytes, most: int) -> None:
    """Estimate what an answer takes in memory when it is decoded, before it is.

    Of text and aliases that is what they are as bytes and as text; of an HTTP answer twice its
    body, what JSON in it is parsed to, and 48 bytes for each byte of the rest; of values what
    Python takes for their numbers, texts and containers, and of those in tagged form twice as much,
    and 1,200 bytes for each tag.

    Raises `CorruptEntryError` where that is more than ``most``, and for a key that is no text. What
    is no answer at all is left to the codec.
    """
    if len(answer) <= SMALL and most >= SURE:
        return
    if kind in (Kind.TEXT, Kind.ALIAS):
        if len(answer) * (2 if answer.isascii() else 5) > most:
            raise too_large(most)
        return
    try:
        if kind != Kind.HTTP and is_sure(answer, most, 96 if answer[:1] == b"\0" else 256):
            return
        if kind == Kind.VALUE:
            weigh(answer, most, 1)
        elif kind == Kind.HTTP:
            body = bytes(_http_parts.decode(answer).body)
            left = most - 2 * len(body) - 48 * (len(answer) - len(body))
            if _JSON * len(body) > left:
                left -= sum(each * body.count(sign) for sign, each in _SIGNS.items())
            if left < 0:
                raise too_large(most)
        else:
            left = most - weigh(answer, most)
            items = _items_parts.decode(answer)
            for inner, item in (*items.values, items.returned):
                left -= 5 * len(item) if inner == Kind.TEXT else weigh(item, left, 1)
    except MemoryError as error:
        raise CorruptEntryError(f"an entry cannot be decoded: {error!r}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return


# Bytes of memory for what stands behind a sign of JSON, where it is parsed.
_SIGNS: Final = {b",": 48, b"[": 72, b"{": 200}
_JSON: Final = max(_SIGNS.values())

# How many bytes a number takes behind the byte that tells it, and the size of a length.
_NUMBERS: Final = dict(zip(range(0xCA, 0xD4), (4, 8, 1, 2, 4, 8, 1, 2, 4, 8), strict=True))
_LENGTHS: Final = dict(zip(b"\xc4\xc5\xc6\xd9\xda\xdb", (1, 2, 4, 1, 2, 4), strict=True))
_LENGTHS.update({0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4})
_BARE: Final = frozenset({*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3})
_RUNS: Final = {
    **dict.fromkeys(_BARE, (rb"[\0-\x7f\xe0-\xff\xc0\xc2\xc3]", 1, 32)),
    0xCB: (rb"\xcb.{8}", 9, 32),
    0xCC: (rb"\xcc.", 2, 40),
    0xCD: (rb"\xcd..", 3, 40),
    0x80: (rb"\x80", 1, 72),
    0x90: (rb"\x90", 1, 72),
}
_RUN_OF: Final = {
    head: (re.compile(rb"(?:%b)++" % pattern, re.DOTALL).match, size, each)
    for head, (pattern, size, each) in _RUNS.items()
}
_NEVER: Final = frozenset({0xC1, *range(0xC7, 0xCA), *range(0xD4, 0xD9)})  # extensions
_TAG: Final = 1200

# Bytes that may begin a list. A key that is one can be chosen so that many have one hash.
_LISTS: Final = bytes((*range(0x90, 0xA0), 0xDC, 0xDD))
_MOST_LISTS: Final = 4096
_AT_ONCE: Final = 16384  # items of a run, before the sum is looked at


def is_sure(data: bytes, most: int, each: int) -> bool:
    """Whether data are small enough where a byte becomes so many, and not slow either."""
    lists = len(data) - len(data.translate(None, _LISTS))
    return len(data) * each <= most and lists < _MOST_LISTS


def weigh(data: bytes, most: int, start: int = 0) -> int:
    """The memory that Python takes for MessagePack, as an estimate; runs of items go by in C.

    Data are one value after another, from ``start`` on, behind a byte that says whether they are
    tagged. Raises `CorruptEntryError` for more than ``most``, and for a key that is no text. Ends
    where the data do, or are none.
    """
    tagged = start and data[:1] != b"\0"
    at, end, spent = start, len(data), 0
    if tagged:
        most //= 2
    above: list[int] = []
    # What is left to read in the innermost container: items, or of a map, as a negative number,
    # keys and values.
    left = end
    while at < end and spent <= most:
        while not left and above:
            left = above.pop()
        head = data[at]
        if head in _NEVER:
            break
        if left < 0:
            left += 1
            if left & 1 and not (0xA0 <= head < 0xC0 or 0xD9 <= head <= 0xDB):
                raise CorruptEntryError("a key that is no text")
        elif head in _RUN_OF:
            match, size, each = _RUN_OF[head]
            found = match(data, at, min(end, at + size * min(left, _AT_ONCE)))
            if found is None:
                break
            at = found.end()
            count = (at - found.start()) // size
            left -= count
            spent += each * count
            continue
        else:
            left -= 1
        at += 1
        if head in _BARE:
            spent += 32
        elif head in _NUMBERS:
            spent += 40
            at += _NUMBERS[head]
        else:
            size = _LENGTHS.get(head, 0)
            length = int.from_bytes(data[at : at + size]) if size else head & 0x0F
            at += size
            if head < 0x90 or head in (0xDE, 0xDF):
                spent += 232 + 64 * length
                if tagged and length == 1 and data[at + 1 : at + 2] == b"!":
                    spent += _TAG // 2
                above.append(left)
                left = -2 * length
            elif head < 0xA0 or head in (0xDC, 0xDD):
                spent += 72
                above.append(left)
                left = length
            elif 0xC4 <= head <= 0xC6:
                spent += 48 + length
                at += length
            else:
                length = length if size else head & 0x1F
                spent += 64 + length
                if length > 64 and not data[at : at + length].isascii():
                    spent += 3 * length
                at += length
    if spent > most:
        raise too_large(most)
    return 2 * spent if tagged else spent
