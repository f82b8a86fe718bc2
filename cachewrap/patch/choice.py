"""A call's own options (``cache=`` and its like), carried from its keywords to the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cachewrap.options import NAMES, CallOptions, take_options

CHOICE_HEADER: Final = "x-cachewrap-choice"


class Choice(str):
    """What a call chose, as the value of a header.

    Lazy results (`.stream()` managers) send their request long after the method returned, so the
    choice travels with the request's headers, through every merge that an SDK makes of them. It
    is taken out again before the request is built. As text it is empty.
    """

    __slots__ = ("options",)

    options: CallOptions

    @classmethod
    def of(cls, options: CallOptions) -> Choice:
        """The choice of one call."""
        choice = cls()
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
    return choice.options if isinstance(choice, Choice) else None


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
            kwargs["extra_headers"] = {**headers, CHOICE_HEADER: Choice.of(chosen)}
        return wrapped(*args, **kwargs)

    return wrapper
