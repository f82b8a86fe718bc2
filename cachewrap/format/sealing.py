"""The seal between an envelope and the store: none, or AES-GCM under a key.

An encrypted entry:

====== ===== ==============================================================
offset bytes
====== ===== ==============================================================
0      3     ``cwe``
3      1     version
4      4     the first bytes of the encryption key's SHA-256: which key it was
8      12    nonce, random
20           the envelope, encrypted, and the tag of 16 bytes
====== ===== ==============================================================

The first eight bytes, the seed and the key under which the entry is stored are authenticated with
it: an entry that was changed, or put in the place of another, cannot be opened.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from cachewrap.entry import MAX_ENTRY_BYTES, Entry, Kind
from cachewrap.errors import ConfigurationError, CorruptEntryError
from cachewrap.format.aliases import alias_in
from cachewrap.format.codec import check_types
from cachewrap.format.envelope import ENCRYPTED, unseal
from cachewrap.format.sizes import check_size

_START: Final = ENCRYPTED + b"\x01"
_NONCE_FROM: Final = 8
_TEXT_FROM: Final = 20
_NONCE: Final = _TEXT_FROM - _NONCE_FROM


def admit(kind: Kind, answer: bytes, most: int, types: frozenset[str] | None) -> None:
    """Raise `CorruptEntryError` for an answer that a cache would not open; see `Guard`."""
    check_size(kind, answer, most)
    if types is not None:
        check_types(kind, answer, types)


class Guard:
    """A guard that keeps envelopes as they are: for a cache without an encryption key.

    Args:
        most: bytes of memory that an entry may take when it is opened.
        types: the classes that its objects may be of, as `policy.check_types` names them; None for
            every class.
    """

    def __init__(self, most: int = MAX_ENTRY_BYTES, types: frozenset[str] | None = None) -> None:
        self._most = most
        self._types = types

    def close(self, key: str, sealed: bytes) -> bytes:
        """What is to be stored for an envelope.

        Args:
            key: the key under which it will be stored.
            sealed: the envelope.
        """
        return sealed

    def unseal(self, key: str, raw: bytes) -> Entry:
        """Open what is stored under a key. Raises `CorruptEntryError`."""
        entry = unseal(raw, self._most)
        if self._types is not None:
            check_types(entry.kind, entry.answer, self._types)
        return entry

    def open(self, key: str, raw: bytes) -> bytes:
        """The envelope of what is stored under a key. Raises `CorruptEntryError`."""
        return raw

    def lacks_key(self, raw: bytes) -> bool:
        """Whether stored bytes are encrypted with a key that is not here."""
        return raw.startswith(ENCRYPTED)


UNSEALED: Final = Guard()


def answer_under(key: str, raw: bytes, guard: Guard) -> tuple[bytes, Entry]:
    """A key's own answer in what is stored there: of an alias, what it keeps of before it.

    Raises `CorruptEntryError`, also where an alias keeps nothing.
    """
    entry = guard.unseal(key, raw)
    if (alias := alias_in(entry)) is not None:
        if not alias.kept:
            raise CorruptEntryError(f"{key[:12]}… is an alias itself, and keeps no answer")
        raw = guard.close(key, alias.kept)
        entry = guard.unseal(key, raw)
    return raw, entry


class AesGuard(Guard):
    """A guard that encrypts envelopes with AES-GCM.

    Args:
        keys: the first one encrypts, all of them decrypt.
        seed: the seed of the entries.
        most: as for `Guard`.
        types: as for `Guard`.

    Raises `ConfigurationError` where ``cryptography`` is not installed.
    """

    def __init__(
        self,
        keys: tuple[bytes, ...],
        seed: str,
        most: int = MAX_ENTRY_BYTES,
        types: frozenset[str] | None = None,
    ) -> None:
        super().__init__(most, types)
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ConfigurationError(
                "encryption_key needs the package cryptography: "
                "install it with pip install 'cachewrap[encryption]'"
            ) from error
        self._invalid = InvalidTag
        self._place = f"{seed}\0".encode("utf-8", "surrogatepass")
        self._ciphers = {_START + hashlib.sha256(key).digest()[:4]: AESGCM(key) for key in keys}
        self._start = next(iter(self._ciphers))

    def close(self, key: str, sealed: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        text = self._ciphers[self._start].encrypt(nonce, sealed, self._bound(self._start, key))
        return b"".join((self._start, nonce, text))

    def unseal(self, key: str, raw: bytes) -> Entry:
        return super().unseal(key, self.open(key, raw))

    def open(self, key: str, raw: bytes) -> bytes:
        start = raw[:_NONCE_FROM]
        if not start.startswith(ENCRYPTED):
            raise CorruptEntryError("an entry is not encrypted, and this cache has a key")
        cipher = self._ciphers.get(start)
        if cipher is None:
            raise CorruptEntryError(
                "an entry is encrypted with a key that this cache does not have"
                if start.startswith(_START)
                else "an entry is encrypted in a way that this cachewrap does not know"
            )
        try:
            # One slice each: a view would save a copy, and fails where an extension wants bytes.
            return cipher.decrypt(
                raw[_NONCE_FROM:_TEXT_FROM], raw[_TEXT_FROM:], self._bound(start, key)
            )
        except (self._invalid, ValueError) as error:
            raise CorruptEntryError(
                "an encrypted entry was changed, or put in the place of another"
            ) from error

    def lacks_key(self, raw: bytes) -> bool:
        return raw.startswith(ENCRYPTED) and raw[:_NONCE_FROM] not in self._ciphers

    def _bound(self, start: bytes, key: str) -> bytes:
        return start + self._place + key.encode()


def make_guard(
    keys: tuple[bytes, ...],
    seed: str | None,
    most: int = MAX_ENTRY_BYTES,
    types: frozenset[str] | None = None,
) -> Guard:
    """The guard of a cache.

    Args:
        keys: its encryption keys; none for a cache that keeps plain text.
        seed: its seed; None for a cache that caches nothing.
        most: as for `Guard`.
        types: as for `Guard`.

    Raises `ConfigurationError` where ``cryptography`` is needed and not installed.
    """
    if keys:
        return AesGuard(keys, seed or "", most, types)
    return UNSEALED if most == MAX_ENTRY_BYTES and types is None else Guard(most, types)
