"""Tenacity around the upstream call: a miss may be tried again, a hit never needs to be."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from cachewrap.errors import ConfigurationError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, BaseRetrying, Retrying

T = TypeVar("T")

Retry: TypeAlias = "int | BaseRetrying"
"""How often to try again after a failure, or a tenacity retrying object that decides."""


def check_retry(retry: object, *, colour: str) -> None:
    """Raise `ConfigurationError` unless ``retry`` suits a function of this colour.

    Args:
        retry: None, a count of at least 0, a ``tenacity.Retrying`` or a ``tenacity.AsyncRetrying``.
        colour: ``"sync"`` or ``"async"``.
    """
    is_count = isinstance(retry, int) and not isinstance(retry, bool)
    if retry is None or (is_count and retry == 0):
        return
    # Imported now, not at the first call: that may come when no file can be opened.
    from tenacity import AsyncRetrying, BaseRetrying

    if isinstance(retry, int) and is_count and retry > 0:
        return
    if not isinstance(retry, BaseRetrying):
        raise ConfigurationError(
            f"retry must be a count of at least 0 or a tenacity retrying object, got {retry!r}"
        )
    if colour == "sync" and isinstance(retry, AsyncRetrying):
        raise ConfigurationError(
            "retry is a tenacity.AsyncRetrying but the function is sync: give a tenacity.Retrying"
        )


def portable(retry: Retry | None) -> Any:
    """The retry as it can be pickled, which tenacity's objects could not always be."""
    if retry is None or isinstance(retry, int):
        return retry
    names = inspect.signature(type(retry).__init__).parameters
    return partial(type(retry), **{n: getattr(retry, n) for n in names if hasattr(retry, n)})


def unported(retry: Any) -> Retry | None:
    """The retry that `portable` was given."""
    made: Retry | None = retry() if isinstance(retry, partial) else retry
    return made


def with_retry(retry: Retry | None, call: Callable[[], T]) -> Callable[[], T]:
    """The call, tried again as ``retry`` says; the last error is raised as it is for a count."""
    if retry is None or retry == 0:
        return call
    retrying: Any = _counted(retry) if isinstance(retry, int) else retry.copy()
    return lambda: retrying(call)


def with_async_retry(
    retry: Retry | None, call: Callable[[], Awaitable[T]]
) -> Callable[[], Awaitable[T]]:
    """`with_retry` for async calls; a ``tenacity.Retrying`` waits without blocking the loop."""
    if retry is None or retry == 0:
        return call
    retrying = _asynchronous(_counted(retry) if isinstance(retry, int) else retry)

    async def attempt() -> T:
        return await call()

    return lambda: retrying(attempt)


_SETTINGS: Final = (
    *("stop", "wait", "retry", "before", "after", "before_sleep", "reraise"),
    *("retry_error_cls", "retry_error_callback"),
)


def _counted(count: int) -> Retrying:
    from tenacity import Retrying, stop_after_attempt, wait_random_exponential

    # Full jitter, so that many callers who failed together do not come back together.
    return Retrying(
        stop=stop_after_attempt(count + 1),
        wait=wait_random_exponential(multiplier=0.5, max=30),
        reraise=True,
    )


def _asynchronous(retrying: Any) -> AsyncRetrying:
    from tenacity import AsyncRetrying

    if isinstance(retrying, AsyncRetrying):
        return retrying.copy()
    return AsyncRetrying(**{name: getattr(retrying, name) for name in _SETTINGS})
