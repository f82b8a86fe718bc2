"""States of hashing: a long request that goes on from one before is hashed from where that ended.

An agent asks with all that was said so far, an evaluation with the same examples in front. SHA-256
takes 20 µs for 40 KB; to see that they begin as others did takes less than one. Kept are the bytes
of the last few long requests, and how the hash stood at their end and in front of their last
message. Beginnings are compared byte by byte, so that what is kept decides on no key.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

LEAST: Final = 4096
"""Bytes: fewer are hashed as fast as they are looked for."""
MOST: Final = 4
"""Requests that are kept,"""
ROOM: Final = 2 << 20
"""and bytes of all of them."""
PATIENCE: Final = 8
"""Where so many have nothing in common, one in so many is kept."""

_COUNT: Final = 4  # bytes behind the messages, which differ with every turn

_encode = msgspec.msgpack.encode


class _State:
    """The state of a hash that was given some bytes.

    Args:
        begun: the hash as it was before. No other hash is the same.
        text: the bytes.
        digest: the hash, which is copied.
    """

    __slots__ = ("begun", "digest", "size", "text")

    def __init__(self, begun: Any, text: memoryview, digest: Any) -> None:
        self.begun = begun
        self.text = text
        self.size = len(text)
        self.digest = digest.copy()


class Packed:
    """The last few long bodies that were asked again, with their conversations encoded.

    A program that asks the same over and over needs no walk through 40 messages to see that they
    are plain. Bodies are told by their bytes as `marshal` writes them, which are of no other value.
    They are looked for where the request before was one that is kept.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._kept: tuple[tuple[object, bytes, Any], ...] = ()

    def get(self, kind: object, told: bytes) -> Any:
        """What was kept for a body; None where there is nothing.

        Args:
            kind: how it was made.
            told: the body, as bytes.
        """
        for made, text, value in self._kept:
            if text == told and made == kind:
                return value
        return None

    def keep(self, kind: object, told: bytes, value: Any) -> None:
        """Keep what was made of a body. Nobody is to change it."""
        if len(told) * MOST <= ROOM // 2:
            self._kept = ((kind, told, value), *self._kept[: MOST - 1])

    def holds(self, value: object) -> bool:
        """Whether this very value is kept, so that nobody changes it."""
        return any(held is value for _, _, held in self._kept)

    def forget(self) -> None:
        """Let go of them."""
        self.wanted, self._kept = False, ()


packed: Final = Packed()

# The states of each request, the newest first. It is replaced as a whole and needs no lock: of what
# two threads keep at once, one may get lost.
_kept: tuple[tuple[_State, ...], ...] = ()

# How many requests there were since one went on from another.
_strangers = 0


def hexdigest(begun: Any, text: bytes | bytearray, last: object = None) -> str:
    """The digest of a hash that is given some bytes more.

    Args:
        begun: the hash, which stays as it is.
        text: an encoded request, or other bytes. They are not to be changed any more.
        last: the last message of the request, in canonical form; None where it has none.
    """
    global _strangers
    found, start = begun, 0
    for states in _kept:
        for state in states:
            if state.size > start and state.begun is begun and text.startswith(state.text):
                found, start = state.digest, state.size
    digest = found.copy()
    packed.wanted = len(text) - start == _COUNT
    _strangers = 0 if start else _strangers + 1
    if len(text) - start < LEAST or (_strangers > PATIENCE and _strangers % PATIENCE):
        digest.update(memoryview(text)[start:])
        return digest.hexdigest()  # type: ignore[no-any-return]
    return _hexdigest(begun, digest, text, start, last)


def _hexdigest(begun: Any, digest: Any, text: bytes | bytearray, start: int, last: object) -> str:
    """The digest of a hash that was given the bytes up to ``start``; it is kept how it stood."""
    view = memoryview(text)
    end = len(text) - _COUNT
    middle = end if last is None else end - len(_encode(last))
    states: tuple[_State, ...] = ()
    if LEAST <= middle < end and start < middle:
        digest.update(view[start:middle])
        states = (_State(begun, view[:middle], digest),)
        start = middle
    digest.update(view[start:end])
    _keep((_State(begun, view[:end], digest), *states))
    digest.update(view[end:])
    return digest.hexdigest()  # type: ignore[no-any-return]


def _keep(states: tuple[_State, ...]) -> None:
    global _kept
    kept, room = [states], ROOM - states[0].size
    for older in _kept[: MOST - 1]:
        room -= older[0].size
        if room < 0:
            break
        kept.append(older)
    if states[0].size <= ROOM:
        _kept = tuple(kept)


def forget() -> None:
    """Let go of all that is kept."""
    global _kept, _strangers
    _kept, _strangers = (), 0
    packed.forget()
