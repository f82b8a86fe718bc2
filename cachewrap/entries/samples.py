"""Numbers of samples, which nothing but an entry's key tells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from cachewrap.entry import Kind
from cachewrap.request.key import key_of, salted

MOST: Final = 256
"""How many numbers of samples are tried."""

_LEAST: Final = 4


class Samples:
    """The numbers of the samples that entries are: each is tried until one fits.

    Of a source whose keys fit none, fewer and fewer numbers are tried.
    """

    def __init__(self) -> None:
        self._tried: dict[str, int] = {}

    def number_of(self, key: str, base: Sequence[str], source: str) -> int | None:
        """The number of the sample that is stored under a key; None where no number fits.

        Args:
            key: the key.
            base: the keys that the request itself may have.
            source: what was called.
        """
        if key in base or not base:
            return 0 if base else None
        most = self._tried.get(source, MOST)
        for number in range(1, most):
            if any(_sampled(one, number) == key for one in base):
                self._tried.pop(source, None)
                return number
        self._tried[source] = max(_LEAST, most // 2)
        return None


_OF_EXCHANGES: Final = [salted()]
_OF_KEYS: Final = [salted("key")]
_BEGUN: Final = [hashlib.sha256(salted("sample", str(number))) for number in range(MOST)]


def _sampled(key: str, number: int) -> str:
    hashed = _BEGUN[number].copy()
    hashed.update(key.encode())
    return hashed.hexdigest()


def request_keys(
    kind: Kind, source: str, seed: str, request: bytes, seeds: Iterable[str] = ()
) -> list[str]:
    """The keys that a stored request may have.

    Args:
        kind: what was answered.
        source: what was called.
        seed: the seed of the cache.
        request: the encoded request.
        seeds: the ``seed=`` of decorated functions, beside 41 and that of the cache.
    """
    if kind is Kind.HTTP:
        prefixes = _OF_EXCHANGES
    elif source == "cache.set":
        prefixes = _OF_KEYS
    else:
        prefixes = [salted(salt) for salt in {seed, "41", source, *seeds}]
    return [key_of(prefix, request) for prefix in prefixes]
