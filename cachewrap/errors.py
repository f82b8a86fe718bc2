"""The errors and warnings that cachewrap raises."""

from __future__ import annotations

from typing import Any, Final

SPELT_OUT: Final = {
    code: f"\\x{code:02x}"
    if code < 256
    else f"\\u{code:04x}"
    if code < 65_536
    else f"\\U{code:08x}"
    for code in (
        *(*range(32), *range(127, 160), 0xAD, 0x61C, *range(0x200B, 0x2010)),
        *(*range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF, *range(0xE0000, 0xE0080)),
        *range(0xD800, 0xE000),
    )
}
"""Characters that move, hide or turn round what is printed, as they are spelt out."""

_LONGEST: Final = 600

_NAMED: Final = 20
"""Elements of a list that are named by their numbers."""


def printable(text: str, most: int = 200) -> str:
    """Text that somebody else has written, for one line of a message: spelt out, and cut.

    What is longer than ``most`` characters loses its middle.
    """
    if len(text) > most:
        text = f"{text[: most * 2 // 3]} … {text[-(most // 3) :]}"
    return text if text.isascii() and text.isprintable() else text.translate(SPELT_OUT)


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
    """The parent of what can go wrong between a value and its stored bytes.

    Its message names what was stored, by whomever: it is printable, and no longer than a few lines.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message), _LONGEST))


class UnsupportedTypeError(CodecError, TypeError):
    """A value holds a type that no codec takes, so it is not stored."""


class CorruptEntryError(CodecError, ValueError):
    """Stored bytes are not a cachewrap entry: truncated, damaged, foreign, or of a newer format."""


class MissingTypeError(CodecError, LookupError):
    """A stored value is of a type that this process has not imported. The message names it."""


class StoreError(CachewrapError):
    """The store could not do its work; ``__cause__`` is the error of its client library."""


class ResultsError(CachewrapError, ValueError):
    """A call for several elements did not give one result for each, so nobody knows whose they are.

    Nothing of them is stored.

    Attributes:
        results: what it gave.
        whole: whether it was asked for all that the caller asks for, in his order.
    """

    def __init__(self, message: str, results: Any, *, whole: bool = False) -> None:
        super().__init__(message)
        self.results = results
        self.whole = whole


class ReplayMissError(CachewrapError, LookupError):
    """A request that is not stored was made in mode ``"replay"``, which never asks upstream.

    The message names the nearest stored request of the same function or endpoint, and what
    differs. ``__cause__`` is the fault of the store or of the entry, where that is why.

    Attributes:
        key: the key of the request.
        source: the function (``module:qualname``) or the endpoint (``POST /chat/completions``).
        nearest: the nearest stored canonical request, without secrets; None if there is none.
        diff: how the request differs from it, one line for each field.
        rules: the rules of a ready set (`cachewrap.same`), which the cache has not, that would have
            made it equal to one that is stored; none where they would not.
        explanation: all of that, as `Cache.explain` gives it.
        remedy: the mode in which the same call stores its answer; "" where none does.
        elements: of a list that is asked element by element, the numbers of those that are not
            stored, from 0; the rest is told of the first of them.
    """

    explanation: Any = None
    remedy: str = ""
    elements: tuple[int, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        key: str = "",
        source: str = "",
        nearest: dict[str, Any] | None = None,
        diff: tuple[str, ...] = (),
        rules: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.key = key
        self.source = source
        self.nearest = nearest
        self.diff = diff
        self.rules = rules

    def tell_missing(self, elements: list[int], among: int) -> None:
        """Say which elements of a list are not stored, of how many."""
        self.elements = tuple(elements)
        named = ", ".join(map(str, elements[:_NAMED]))
        more = ", …" if len(elements) > _NAMED else ""
        told = f"{self}\n(not stored: {len(elements)} of {among} elements, at {named}{more})"
        self.args = (told, *self.args[1:])

    def advise(self, command: str) -> None:
        """Name a command that stores the answer in place of the usual advice."""
        told = str(self).replace(REMEDIES.get(self.remedy, "\0"), f"this records it: {command}")
        self.args = (told, *self.args[1:])


REMEDIES: Final = {
    "normal": (
        "to store it, run this once in mode normal:"
        ' mode="normal", CACHEWRAP_MODE=normal or cachewrap run --mode normal'
    ),
    "refresh": (
        "to store it anew, run this once in mode refresh:"
        ' mode="refresh", CACHEWRAP_MODE=refresh or cachewrap run --mode refresh'
    ),
}
"""What to do about a request that is not stored, by the mode that stores it."""


_NEVER: Final = {
    "background": "a response in the background is never stored: it is no answer yet",
    "container": "what is in a container decides the answer, so it is never stored",
    "conversation": "what a conversation holds upstream decides the answer, so it is never stored",
    "endpoint": "an answer of this endpoint is never stored, and a model may be asked for it",
    "host not known": "its host is not known (hosts=, --host), so nothing of it is stored",
    "middleware": "the client's middleware decides the answer, so it is never stored",
    "own request": "its client sends it by a way of its own, past the cache",
    "raw body": "its body is no JSON object, so there is no key to look it up by",
    "websocket": "a session over a WebSocket is never stored",
}
"""Why a request of this kind is on no cassette, by the reason for which it goes past the cache."""


def refusal(
    source: str,
    reason: str,
    fault: Exception | None = None,
    *,
    asks_model: bool = True,
    host: str = "",
) -> ReplayMissError:
    """The error of mode ``"replay"`` for a call that goes past the cache.

    Args:
        source: what is called.
        reason: why it goes past, in a word or two.
        fault: what is wrong with the call, where that is why.
        asks_model: whether it makes a model work.
        host: where it goes, if that is why.
    """
    if not asks_model:
        why = 'replay="strict" stops what asks no model as well; replay="models" lets it through'
    elif fault is not None:
        why = f"it has no key to look it up by: {fault}"
    else:
        why = _NEVER.get(reason, reason)
    to = f" to {host}" if host else ""
    return ReplayMissError(
        f"{source}{to} ({reason}) is not sent in mode replay: {why}\n(put a stand-in in its place, "
        "or say that this one call may go upstream: cache_seed=None, or a block of no_cache())",
        source=source,
    )


class CacheWarning(UserWarning):
    """A fault that kept an answer from being looked up or stored. The call itself went on."""
