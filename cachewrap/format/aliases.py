"""Aliases as they are stored: entries that hold no answer, but the key of the entry that has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from cachewrap.entry import Entry, Kind
from cachewrap.errors import CorruptEntryError

_KEY: Final = re.compile("[0-9a-f]{64}")


class _Packed(msgspec.Struct, array_like=True):
    target: str
    kept: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Packed)


class AliasedError(CorruptEntryError):
    """An alias stands where an answer is read.

    It is raised on the way of every hit by an alias: nothing is read or written for it.

    Attributes:
        answer: the packed alias.
    """

    def __init__(self, answer: bytes) -> None:
        Exception.__init__(self)
        self.answer = answer

    def __str__(self) -> str:
        try:
            return f"it is an alias of {unpacked(self.answer).target[:12]}…"
        except CorruptEntryError as error:
            return str(error)


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias as it is held.

    Args:
        target: the key of the entry whose answer it stands for.
        kept: the envelope of what was stored under its own key before; empty for nothing.
    """

    target: str
    kept: bytes = b""

    def packed(self) -> bytes:
        """The alias as the answer of an entry."""
        return _encoder.encode((self.target, self.kept))


def unpacked(answer: bytes) -> Alias:
    """What `Alias.packed` was called on. Raises `CorruptEntryError`."""
    try:
        packed = _decoder.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise CorruptEntryError(f"an alias cannot be read: {error}") from error
    if _KEY.fullmatch(packed.target) is None:
        raise CorruptEntryError("an alias of what is no key")
    return Alias(packed.target, packed.kept)


def alias_in(entry: Entry) -> Alias | None:
    """The alias that an entry is; None for an answer. Raises `CorruptEntryError`."""
    return unpacked(entry.answer) if entry.kind is Kind.ALIAS else None
