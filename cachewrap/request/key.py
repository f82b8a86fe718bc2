"""The key of a request, and its encoded form: the same in every process, on every Python."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.errors import UnkeyableError
from cachewrap.request.values import is_tag, mend_float, mend_int, mend_str

_FORMAT: Final = b"cachewrap:1:"
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def salted(*salt: str) -> bytes:
    """What stands in front of a request when it is hashed: the format's version and the salt."""
    return _FORMAT + _encoder.encode(list(salt))


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


def inside_key(key: str, salt: str) -> str:
    """The key of a request that is made inside a sampled call, whose own key is ``salt``."""
    return key_of(salted("inside", salt), key.encode())


def refresh_name(key: str) -> str:
    """Under what name the calls that refresh a key find each other, apart from all others."""
    return key_of(salted("refresh"), key.encode())


def encode(request: Any) -> bytes:
    """A canonical request as bytes: MessagePack with sorted keys and smallest forms.

    Raises `UnkeyableError` where it is nested too deeply.
    """
    try:
        try:
            return _encoder.encode(request)
        except (OverflowError, UnicodeEncodeError):
            return _encoder.encode(_mend(request))
    except RecursionError:
        raise endless("") from None


def hashed(prefix: bytes, request: Any) -> tuple[str, bytearray]:
    """The key of a canonical request, and what was hashed: the prefix and the encoded request.

    It is `key_of` of what `encode` gives, without a copy. Raises `UnkeyableError` as that does.
    """
    whole = bytearray(prefix)
    try:
        _encoder.encode_into(request, whole, len(prefix))
    except (OverflowError, UnicodeEncodeError, RecursionError):
        whole = bytearray(prefix + encode(request))
    return hashlib.sha256(whole).hexdigest(), whole


Keyer: TypeAlias = Callable[[Any], tuple[str, bytearray] | None]
"""Takes a plain value; gives the key of the request that holds it, and the bytes that were hashed.

They are the request, encoded, behind the prefix. None for a value that only `encode` can tell is
not plain.
"""


def make_keyer(prefix: bytes, shared: dict[str, Any], name: str) -> Keyer:
    """What gives the keys of requests that differ in one member: those of `key_of` and `encode`.

    What the requests have in common is encoded once, and nothing is copied to be hashed.

    Args:
        prefix: what `salted` gave.
        shared: the other members, in canonical form.
        name: the name of the member that differs.
    """
    mark = os.urandom(16)
    start, found, end = encode({**shared, name: mark}).partition(_encoder.encode(mark))
    assert found
    start = prefix + start
    begins = len(start)
    encode_into, sha256 = _encoder.encode_into, hashlib.sha256

    def keyer(value: Any) -> tuple[str, bytearray] | None:
        hashed = bytearray(start)
        try:
            encode_into(value, hashed, begins)
        except (OverflowError, UnicodeEncodeError, RecursionError):
            return None
        hashed += end
        return sha256(hashed).hexdigest(), hashed

    return keyer


def decode_request(request: bytes) -> Any:
    """The canonical request that `encode` gave as bytes. Raises `msgspec.DecodeError`."""
    return msgspec.msgpack.decode(request)


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
    if (len(members) == 1 and is_tag(members)) or any(
        type(mend_str(key)) is not str for key in members
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
