"""Every error and warning that cachewrap raises."""

from __future__ import annotations


class CachewrapError(Exception):
    """The parent of every error of cachewrap's own."""


class ConfigurationError(CachewrapError, ValueError):
    """A URL, a seed or an option that cannot work, found before any call is made."""


class UnkeyableError(CachewrapError, TypeError):
    """An argument has no canonical form, so no key can be computed from it.

    Raised before the wrapped function is called. The message says which argument, and what to do:
    leave it out with ``ignore=``, compute the key yourself with ``key=``, or give its class a
    ``__cache_key__`` method.
    """


class CodecError(CachewrapError):
    """The parent of what can go wrong between a value and its stored bytes."""


class UnsupportedTypeError(CodecError, TypeError):
    """A value holds a type that no codec takes, so it is not stored."""


class CorruptEntryError(CodecError, ValueError):
    """Stored bytes are not a cachewrap entry: truncated, damaged, foreign, or of a newer format."""


class MissingTypeError(CodecError, LookupError):
    """A stored value is of a type that this process has not imported. The message names it."""


class StoreError(CachewrapError):
    """The store could not do its work; ``__cause__`` is the error of its client library."""


class CacheWarning(UserWarning):
    """Something kept an answer from being looked up or stored. The call itself went on."""
