"""The type of a decorated function for a type checker: as the wrapped one, with four names more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from cachewrap.explain import Explanation

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C")


class _Names(Protocol[P, R_co]):
    __name__: str
    __qualname__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of a call with these arguments."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the stored answer of a call with these arguments; whether there was one."""
        ...

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
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
