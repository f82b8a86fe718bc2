"""The types of a decorated function, for type checkers: nobody asks for them at run time.

A `ParamSpec` takes no further keywords. So a call with options of its own is one of the overloads
in which an option has to be there, and nothing but that is checked: other options may be parameters
of the function's own. Without an option all arguments are checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from cachewrap.cache import Cache
    from cachewrap.explain import Explanation
    from cachewrap.policy import Mode, Seed, Ttl

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C")


class Calls(Protocol[P, R_co]):
    """Calls with a function's arguments, and with options for their caching beside them."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, *args: Any, cache: Cache | None, **kwargs: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, cache_seed: Seed | None, **kwargs: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, mode: Mode | None, **kwargs: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, ttl: Ttl | None, **kwargs: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, sample: int | None, **kwargs: Any) -> R_co: ...


class _Names(Calls[P, R_co], Protocol[P, R_co]):
    __name__: str
    __qualname__: str

    @property
    def cache_key(self) -> Calls[P, str]:
        """The key of a call with these arguments."""
        ...

    @property
    def invalidate(self) -> Calls[P, bool]:
        """Remove the stored answer of a call with these arguments; whether there was one."""
        ...

    @property
    def explain(self) -> Calls[P, Explanation]:
        """Why a call with these arguments is a hit or a miss."""
        ...

    @property
    def uncached(self) -> Callable[P, R_co]:
        """The function itself, past every cache."""
        ...

    @property
    def __wrapped__(self) -> Callable[P, R_co]: ...


class Cached(_Names[P, R_co], Protocol[P, R_co]):
    """A decorated function or method; what binds is told by its first parameter."""

    @overload
    def __get__(
        self: Cached[Concatenate[T, Q], R], instance: None, owner: type[T], /
    ) -> Cached[P, R_co]: ...

    @overload
    def __get__(
        self: Cached[Concatenate[T, Q], R], instance: T, owner: Any = None, /
    ) -> Cached[Q, R]: ...

    @overload
    def __get__(
        self: Cached[Concatenate[type[T], Q], R], instance: object, owner: type[T], /
    ) -> Cached[Q, R]: ...

    @overload
    def __get__(self, instance: object, owner: Any = None, /) -> Cached[P, R_co]: ...


class CachedStaticMethod(_Names[P, R_co], Protocol[P, R_co]):
    """A decorated staticmethod."""

    def __get__(self, instance: Any, owner: Any = None, /) -> Cached[P, R_co]: ...


class CachedClassMethod(Protocol[P, R_co]):
    """A decorated classmethod."""

    def __get__(self, instance: Any, owner: Any = None, /) -> Cached[P, R_co]: ...


class Decorator(Protocol):
    """`llm_cached` with arguments, about to be given a function."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: staticmethod[P, R], /
    ) -> CachedStaticMethod[P, R]: ...

    @overload
    def __call__(self, function: classmethod[C, P, R], /) -> CachedClassMethod[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...
