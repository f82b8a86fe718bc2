"""Encryption keys: making them, and reading them from options and from the environment."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from cachewrap.errors import ConfigurationError

EncryptionKey: TypeAlias = bytes | str | Sequence[bytes | str]
"""A key, or several: the first one writes, all of them read. A text may hold several, separated by
commas."""

VARIABLE: Final = "CACHEWRAP_ENCRYPTION_KEY"
"""The environment variable that holds the key, or the keys, of caches that are given none."""

_SIZES: Final = (16, 24, 32)
_HEX: Final = re.compile("(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{48}|[0-9a-fA-F]{64})")
_STANDARD: Final = str.maketrans("-_", "+/")


def generate_key() -> str:
    """A new random key of 256 bits, as urlsafe Base64 text.

    >>> len(read_keys(generate_key())[0])
    32
    """
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def read_keys(given: EncryptionKey | None) -> tuple[bytes, ...]:
    """The keys as bytes; none for None.

    Args:
        given: each key as 16, 24 or 32 bytes, or as text that stands for that many: hexadecimal
            digits, or Base64 (urlsafe or not, padded or not).

    Raises `ConfigurationError`, which never repeats the key.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",")]
    elif isinstance(given, (bytes, bytearray)):
        given = [bytes(given)]
    elif not isinstance(given, Sequence):
        raise ConfigurationError(
            f"encryption_key must be bytes, a str or a list of these, got {type(given).__name__}"
        )
    if not given:
        raise ConfigurationError("encryption_key is an empty list: give a key, or None for none")
    return tuple(_read_key(key) for key in given)


def keys_from_environment() -> tuple[bytes, ...]:
    """The keys in ``CACHEWRAP_ENCRYPTION_KEY``; none where it is empty or not set.

    Raises `ConfigurationError`.
    """
    try:
        return read_keys(os.environ.get(VARIABLE) or None)
    except ConfigurationError as error:
        raise ConfigurationError(f"{VARIABLE}: {error}") from None


def _read_key(given: object) -> bytes:
    if isinstance(given, str):
        key = _decode(given)
        what = f"a text of {len(given)} characters"
    elif isinstance(given, bytes):
        key = given
        what = f"{len(given)} bytes"
    else:
        raise ConfigurationError(f"an encryption key is bytes or a str, not {type(given).__name__}")
    if key is None or len(key) not in _SIZES:
        raise ConfigurationError(
            f"an encryption key is 16, 24 or 32 bytes, or those in hexadecimal or Base64; "
            f"got {what}: make one with cachewrap.encryption.generate_key()"
        )
    return key


def _decode(text: str) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    bare = text.translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
