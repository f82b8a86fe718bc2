"""A call's own options (``cache=`` and its like), carried from its keywords to the request."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from cachewrap.options import NAMES, CallOptions, take_options

CHOICE_HEADER: Final = "x-cachewrap-choice"

# Choices by their text, while the call that made them, or its lazy result, is alive.
_made: Final[dict[str, Choice]] = {}
_numbers: Final = itertools.count(1)


class Choice(str):
    """What a call chose, as the value of a header.

    Lazy results (`.stream()` managers) send their request long after the method returned, so the
    choice travels with the request's headers, through every merge that an SDK makes of them. It
    is taken out again before the request is built. As text it is a number, by which it is found
    again where a merge keeps only the text of headers.
    """

    __slots__ = ("options",)

    options: CallOptions

    @classmethod
    def of(cls, options: CallOptions) -> Choice:
        """The choice of one call."""
        choice = cls(next(_numbers))
        choice.options = options
        return choice


def take_choice(options: Any) -> CallOptions | None:
    """The choice that a request's options carry, taken out of their headers."""
    headers = options.headers
    if not headers or CHOICE_HEADER not in headers:
        return None
    kept = dict(headers)
    choice = kept.pop(CHOICE_HEADER)
    options.headers = kept
    if not isinstance(choice, Choice):
        choice = _made.get(choice)
    return None if choice is None else choice.options


def choosing(active: Callable[[], bool]) -> Callable[..., Any]:
    """A wrapper for resource methods that takes the choice out of their keywords.

    Args:
        active: whether the seam that takes it out of the headers again is in place.
    """

    def wrapper(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not NAMES.isdisjoint(kwargs) and active():
            kwargs, chosen = take_options(kwargs)
            headers: Mapping[str, Any] = kwargs.get("extra_headers") or {}
            choice = Choice.of(chosen)
            kwargs["extra_headers"] = {**headers, CHOICE_HEADER: choice}
            return _while_alive(choice, lambda: wrapped(*args, **kwargs))
        return wrapped(*args, **kwargs)

    return wrapper


def _while_alive(choice: Choice, call: Callable[[], Any]) -> Any:
    """Make a call whose choice can be found by its text until its result is gone."""
    text = str(choice)
    _made[text] = choice
    try:
        result = call()
    except BaseException:
        del _made[text]
        raise
    try:
        # Coroutines and `.stream()` managers have yet to send their request.
        weakref.finalize(result, _made.pop, text, None).atexit = False
    except TypeError:
        # What cannot be watched, such as a text, is an answer: its request has been sent.
        del _made[text]
    return result
