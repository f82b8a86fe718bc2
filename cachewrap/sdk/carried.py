"""A call's own options (``cache=`` and its like), carried from its keywords to the request."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from cachewrap.options import NAMES, CallOptions, take_options

OPTIONS_HEADER: Final = "x-cachewrap-options"

# Options by their text, while the call that made them, or its lazy result, is alive.
_made: Final[dict[str, CarriedOptions]] = {}
_numbers: Final = itertools.count(1)


class CarriedOptions(str):
    """The options of a call for its caching, as the value of a header.

    Lazy results (`.stream()` managers) send their request long after the method returned, so the
    options travel with the request's headers, through every merge that an SDK makes of them. They
    are taken out again before the request is built. As text they are a number, by which they are
    found again where a merge keeps only the text of headers.
    """

    __slots__ = ("options",)

    options: CallOptions

    @classmethod
    def of(cls, options: CallOptions) -> CarriedOptions:
        """The options of one call."""
        carried = cls(next(_numbers))
        carried.options = options
        return carried


def named(text: str) -> CallOptions | None:
    """The options of this text, while the call that made them, or its lazy result, is alive."""
    carried = _made.get(text)
    return None if carried is None else carried.options


def take_carried(options: Any) -> CallOptions | None:
    """The options that a request's options carry, taken out of their headers."""
    headers = options.headers
    if not headers or OPTIONS_HEADER not in headers:
        return None
    kept = dict(headers)
    carried = kept.pop(OPTIONS_HEADER)
    options.headers = kept
    if not isinstance(carried, CarriedOptions):
        carried = _made.get(carried)
    return None if carried is None else carried.options


def carry_options(active: Callable[[], bool]) -> Callable[..., Any]:
    """A wrapper for resource methods that takes the options out of their keywords.

    Args:
        active: whether the seam that takes them out of the headers again is in place.
    """

    def wrapper(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not NAMES.isdisjoint(kwargs) and active():
            kwargs, chosen = take_options(kwargs)
            headers: Mapping[str, Any] = kwargs.get("extra_headers") or {}
            carried = CarriedOptions.of(chosen)
            kwargs["extra_headers"] = {**headers, OPTIONS_HEADER: carried}
            return _while_alive(carried, lambda: wrapped(*args, **kwargs))
        return wrapped(*args, **kwargs)

    return wrapper


def _while_alive(carried: CarriedOptions, call: Callable[[], Any]) -> Any:
    """Make a call whose options can be found by its text until its result is gone."""
    text = str(carried)
    _made[text] = carried
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
