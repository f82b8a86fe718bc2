"""The key of a request, and its encoded form: the same in every process, on every Python.

A request is a dictionary of what is always said of it (a function's name and code, an endpoint's
URL and headers) and of one part that differs from call to call: ``arguments`` or ``body``. It is
encoded in this order, so that what comes first can be hashed once and gone on from:

====================== ============================================================================
``C1``                 a byte that begins no MessagePack
the head               the part's name, the name of the conversation in it or nil, all else
the part               without its conversation
each message           of the conversation, one behind the other
how many there are     four bytes, the highest first
====================== ============================================================================

The conversation is the first of ``messages``, ``input``, ``contents``, ``history`` and
``conversation`` that is a list. One that grew by a turn is hashed from where the shorter one ended.
Other requests are MessagePack as a whole. Names are sorted, numbers are in their smallest form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.errors import UnkeyableError
from cachewrap.request.screening import has_name, has_shape
from cachewrap.request.states import LEAST, hexdigest
from cachewrap.request.values import is_tag, mend_float, mend_int, mend_str
from cachewrap.secrets import hidden

_FORMAT: Final = b"cachewrap:2:"
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_encode_into = _encoder.encode_into

_PARTED: Final = b"\xc1"
_PARTS: Final = ("arguments", "body")
_CONVERSATIONS: Final = ("messages", "input", "contents", "history", "conversation")
_NO_MESSAGES: Final = bytes(4)

_silent: Final = frozenset(_CONVERSATIONS).isdisjoint


def salted(*salt: str, rules: str = "") -> bytes:
    """What stands in front of a request when it is hashed: the format's version and the salt.

    Args:
        salt: what tells equal requests apart, such as a function's seed.
        rules: the digest of the rules by which requests were made equal; "" for none.
    """
    return _FORMAT + _encoder.encode([list(salt), rules] if rules else list(salt))


def key_of(prefix: bytes, request: bytes) -> str:
    """The key of an encoded request: SHA-256 in 64 hexadecimal characters.

    Args:
        prefix: what `salted` gave.
        request: what `encode` gave.
    """
    return hashlib.sha256(prefix + request).hexdigest()


def sample_key(key: str, sample: int) -> str:
    """The key of one sample of a request; sample 0 is the request itself."""
    return key_of(salted("sample", str(sample)), key.encode()) if sample else key


def element_key(key: str) -> str:
    """The key of one element of a list, given that of the request with this element alone.

    A list's bytes are then no longer one upstream answer: what is kept of an element never answers
    a request that was asked whole.
    """
    return key_of(_ELEMENT, key.encode())


_ELEMENT: Final = salted("element")


def inside_key(key: str, salt: str) -> str:
    """The key of a request that is made inside a sampled call, whose own key is ``salt``."""
    return key_of(salted("inside", salt), key.encode())


def refresh_name(key: str) -> str:
    """Under what name the calls that refresh a key find each other, apart from all others."""
    return key_of(salted("refresh"), key.encode())


def encode(request: Any) -> bytes:
    """A canonical request as bytes.

    Raises `UnkeyableError` where it is nested too deeply.
    """
    return bytes(_encoded(b"", request)[0])


def hashed(prefix: bytes, request: Any) -> tuple[str, bytearray]:
    """The key of a canonical request, and what was hashed: the prefix and the encoded request.

    It is `key_of` of what `encode` gives, without a copy. Raises `UnkeyableError` as that does.
    """
    whole, last = _encoded(prefix, request)
    if len(whole) < LEAST:
        return hashlib.sha256(whole).hexdigest(), whole
    return hexdigest(_BEGUN, whole, last), whole


_BEGUN: Final = hashlib.sha256()


def _encoded(prefix: bytes, request: Any) -> tuple[bytearray, Any]:
    whole = bytearray(prefix)
    try:
        try:
            last = _add(whole, request)
        except (OverflowError, UnicodeEncodeError):
            del whole[len(prefix) :]
            last = _add(whole, _mend(request))
    except RecursionError:
        raise endless("") from None
    return whole, last


def _add(whole: bytearray, request: Any) -> Any:
    """Write a request behind what is there; gives the last message of its conversation."""
    for name in _PARTS if type(request) is dict else ():
        part = request.get(name)
        if type(part) is dict:
            break
    else:
        _encode_into(request, whole, len(whole))
        return None
    spoken = None if _silent(part) else _conversation(part)
    head = request.copy()
    del head[name]
    whole += _PARTED
    _encode_into([name, spoken, head], whole, len(whole))
    if spoken is None:
        _encode_into(part, whole, len(whole))
        whole += _NO_MESSAGES
        return None
    part = part.copy()
    messages = part.pop(spoken)
    _encode_into(part, whole, len(whole))
    _add_messages(whole, messages)
    return messages[-1] if type(messages) is list and messages else None


def _conversation(part: dict[str, Any]) -> str | None:
    for name in _CONVERSATIONS:
        value = part.get(name)
        if type(value) is list or (type(value) is msgspec.Raw and _array(value) is not None):
            return name
    return None


def _array(packed: msgspec.Raw) -> tuple[int, int] | None:
    """Where the items of an encoded list begin, and how many they are; None for no list."""
    head = bytes(memoryview(packed)[:5])
    if head[0] & 0xF0 == 0x90:
        return 1, head[0] & 0x0F
    end = _LONG_ARRAYS.get(head[0])
    return None if end is None else (end, int.from_bytes(head[1:end]))


_LONG_ARRAYS: Final = {0xDC: 3, 0xDD: 5}


def _add_messages(whole: bytearray, messages: list[Any] | msgspec.Raw) -> None:
    if type(messages) is msgspec.Raw:
        begin, count = _array(messages) or (0, 0)
        whole += memoryview(messages)[begin:]
        whole += count.to_bytes(4)
        return
    # How many there are comes first in MessagePack, and is what changes with every turn: it is
    # written over what stands before, and that again over it.
    start, count = len(whole), len(messages)
    at = start - (1 if count < 16 else 3 if count < 65536 else 5)
    if at < 0:
        _encode_into(messages, whole, start)
        del whole[start : 2 * start - at]
    else:
        before = whole[at:]
        _encode_into(messages, whole, at)
        whole[at:start] = before
    whole += count.to_bytes(4)


Pieces: TypeAlias = tuple[bytes, bytearray]
"""An encoded request: all that comes before its part, and the rest."""

Keyer: TypeAlias = Callable[[dict[str, Any]], tuple[str, Pieces] | None]
"""Takes a plain part, which is used up; gives the key of the request that has it, and the request.

None for a part that only `encode` can tell is not plain.
"""


def make_keyer(
    prefix: bytes,
    head: dict[str, Any],
    name: str,
    members: Collection[str] = _CONVERSATIONS,
) -> Keyer:
    """What gives the keys of requests that differ in one part: those of `key_of` and `encode`.

    What the requests have in common is encoded and hashed once.

    Args:
        prefix: what `salted` gave.
        head: the other members, in canonical form.
        name: ``arguments`` or ``body``.
        members: those that a part may have, as far as they may hold a conversation.
    """
    begun: dict[str | None, tuple[bytes, Any]] = {}

    def begin(spoken: str | None) -> tuple[bytes, Any]:
        start = _PARTED + encode([name, spoken, head])
        begun[spoken] = start, hashlib.sha256(prefix + start)
        return begun[spoken]

    start, alone = begin(None)
    encode_into = _encode_into
    spoken_in = tuple(name for name in _CONVERSATIONS if name in members)

    def keyer(part: dict[str, Any]) -> tuple[str, Pieces] | None:
        rest = bytearray()
        last = None
        try:
            for spoken in spoken_in:
                if type(messages := part.get(spoken)) is list:
                    started, hashing = begun.get(spoken) or begin(spoken)
                    del part[spoken]
                    encode_into(part, rest, 0)
                    _add_messages(rest, messages)
                    if messages:
                        last = messages[-1]
                    break
            else:
                encode_into(part, rest, 0)
                rest += _NO_MESSAGES
                hashing, started = alone, start
        except (OverflowError, UnicodeEncodeError, RecursionError):
            return None
        if len(rest) < LEAST:
            whole = hashing.copy()
            whole.update(rest)
            return whole.hexdigest(), (started, rest)
        return hexdigest(hashing, rest, last), (started, rest)

    return keyer


SCRUBBED: Final = "scrubbed"
"""What a stored request has beside its parts where `scrub=` changed it: its key is another's."""


def is_scrubbed(request: Any) -> bool:
    """Whether a canonical request was changed by `scrub=` before it was stored."""
    return isinstance(request, dict) and request.get(SCRUBBED) is True


def decode_request(request: bytes) -> Any:
    """The canonical request that `encode` gave as bytes. Raises `msgspec.DecodeError`."""
    if request[:1] != _PARTED:
        return msgspec.msgpack.decode(request)
    try:
        return _joined(request)
    except (AttributeError, TypeError, ValueError) as error:
        raise msgspec.DecodeError(f"a request without its parts: {error}") from None


def is_streamed(request: bytes) -> bool:
    """Whether an encoded canonical request asks for a stream; False for one that is none."""
    try:
        tree = decode_request(request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(tree, dict) and "stream" in tree


def _joined(request: bytes) -> dict[str, Any]:
    count = int.from_bytes(request[-4:])
    if count > len(request):
        raise ValueError("more messages than bytes")
    begin = b"\xdd" + (count + 2).to_bytes(4)
    (name, spoken, head), part, *messages = msgspec.msgpack.decode(begin + request[1:-4])
    if spoken is not None:
        part[spoken] = messages
    # As if it had been encoded in one piece.
    head[name] = dict(sorted(part.items()))
    return dict(sorted(head.items()))


def readable(value: Any, room: int = 100) -> Any:
    """A canonical value for people: an object whose order counts as one that is in this order.

    What lies deeper in it than ``room`` levels is ``…``.
    """
    kind = type(value)
    if kind is not dict and kind is not list:
        return value
    room -= 1
    if room < 0:
        return "…"
    if kind is list:
        return [readable(inner, room) for inner in value]
    if len(value) == 1 and type(pairs := value.get("!members")) is list:
        return {str(name): readable(inner, room) for name, inner in pairs}
    return {name: readable(inner, room) for name, inner in value.items()}


def stored(request: bytes) -> bytes:
    """An encoded request as it is stored and shown, with ``(hidden)`` for every credential.

    The very bytes of one that has none; empty for one that cannot be looked through.
    """
    try:
        if not may_tell_secrets(request):
            return request
        plain = decode_request(request)
        clean = hidden(plain)
        return request if clean is plain else encode(clean)
    except (msgspec.MsgspecError, ValueError, RecursionError, UnkeyableError):
        return b""


def may_tell_secrets(request: bytes) -> bool:
    """Whether an encoded request is to be looked through for credentials: a quick look at it.

    It has the shape of one, or a name that may be of one or of what holds some.
    """
    if request[:1] != _PARTED:
        return has_shape(request) or has_name(request)
    begin = b"\xdd" + (int.from_bytes(request[-4:]) + 2).to_bytes(4)
    head = bytes(_parts.decode(begin + request[1:-4])[0])
    rest = request[1 + len(head) :]
    return has_shape(rest) or has_name(rest) or _has_some(head)


_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


@lru_cache(maxsize=256)
def _has_some(head: bytes) -> bool:
    """Whether there is a credential in what every request of a function begins with."""
    if not (has_shape(head) or has_name(head)):
        return False
    said = msgspec.msgpack.decode(head)[2]
    return hidden(said) is not said


def endless(where: str) -> UnkeyableError:
    """The error for a request that has no end."""
    return UnkeyableError(f"{where or 'the request'} refers to itself or is nested too deeply")


def mend_scalar(value: Any) -> Any:
    """A number, text, bool or None; tagged where MessagePack cannot have it."""
    if type(value) is str:
        return mend_str(value)
    if type(value) is int:
        return mend_int(value)
    return mend_float(value) if type(value) is float else value


def mend_dict(members: dict[str, Any]) -> Any:
    """A dictionary of canonical values; tagged where it could be taken for a tag."""
    if (len(members) == 1 and is_tag(members)) or not (
        "".join(members).isascii() or all(type(mend_str(key)) is str for key in members)
    ):
        pairs = [[mend_str(key), value] for key, value in members.items()]
        return {"!dict": sorted(pairs, key=encode)}
    return members


def _mend(value: Any) -> Any:
    if type(value) is dict:
        if len(value) == 1 and is_tag(value):
            return {tag: _mend(inner) for tag, inner in value.items()}
        return mend_dict({key: _mend(inner) for key, inner in value.items()})
    if type(value) is list:
        return [_mend(inner) for inner in value]
    return mend_scalar(value)
