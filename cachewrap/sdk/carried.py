"""A call's own options (``cache=`` and its like), carried from its keywords to the request."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

from cachewrap import blocks
from cachewrap.cache import Cache
from cachewrap.call.terms import Seen
from cachewrap.http.exchange import SdkExchange
from cachewrap.options import NAMES, NONE, CallOptions, Default, choose_cache, take_options
from cachewrap.telemetry import events

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


def are_under_way() -> bool:
    """Whether a call is alive whose options may still be in the headers of its request."""
    return bool(_made)


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


class Expectation(Protocol):
    """A call on its way to ``request``, about which somebody wants to know what becomes of it.

    Attributes:
        arrived: whether it came there.
    """

    arrived: bool

    @property
    def client(self) -> Any:
        """The SDK's client that makes the call."""
        ...

    @property
    def cache(self) -> Cache | None:
        """The cache that serves it, as far as is known before it comes there."""
        ...

    @property
    def foreseen(self) -> SdkExchange | None:
        """The exchange that it should come to, if that is known."""
        ...

    def compare(
        self,
        options: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        cache: Cache,
        exchange: SdkExchange,
    ) -> tuple[Seen, ...]:
        """Told of the arguments of ``request``, and of the cache and exchange that they came to.

        Gives what that cache's store gave for that exchange, where it has been asked.
        """
        ...


expected: Final[ContextVar[Expectation | None]] = ContextVar("cachewrap_expected", default=None)
"""The call that the next ``request`` in this context belongs to, if it is of the same client."""


class Arrival:
    """An expectation of a call of which nothing is known but that it should come to ``request``.

    Args:
        client: the SDK's client that makes the call.
        own: the call's own options.
        default: gives the cache of calls outside any block.
    """

    __slots__ = ("_default", "_own", "arrived", "client", "foreseen")

    def __init__(self, client: Any, own: CallOptions, default: Default) -> None:
        self.client = client
        self._own = own
        self._default = default
        self.arrived = False
        self.foreseen: SdkExchange | None = None

    @property
    def cache(self) -> Cache | None:
        own = self._own
        return choose_cache(own.cache, own.cache_seed, self._default, own.mode, counted=False)

    def compare(
        self,
        options: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        cache: Cache,
        exchange: SdkExchange,
    ) -> tuple[Seen, ...]:
        """Learn nothing."""
        return ()


class Strays:
    """The latest requests that came in a context where no call was expected, as in a new thread.

    Attributes:
        last: the number of the latest one.
    """

    def __init__(self) -> None:
        self.last = 0
        self._numbers = itertools.count(1)
        self._latest: deque[tuple[int, int]] = deque(maxlen=100)

    def add(self, client: Any) -> None:
        """A client makes one more."""
        self.last = number = next(self._numbers)
        self._latest.append((number, id(client)))

    def may_be_of(self, client: Any, since: int) -> bool:
        """Whether a client may have made one after that of a number."""
        latest = list(self._latest)
        if latest and latest[0][0] > since + 1:
            return True  # some were forgotten
        return any(number > since and one == id(client) for number, one in latest)


STRAYS: Final = Strays()

_stack_here: Final = blocks.blocks.get


def carry_options(
    active: Callable[[], bool], default: Default | None = None, *, lazy: bool = False
) -> Callable[..., Any]:
    """A wrapper for resource methods that takes the options out of their keywords.

    Args:
        active: whether the seam that takes them out of the headers again is in place.
        default: gives the cache of calls outside any block.
        lazy: whether the methods return before they send their request. Of others it is told when
            that never came to the seam.
    """
    outside = Default() if default is None else default

    def wrapper(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        own = NONE
        if not NAMES.isdisjoint(kwargs):
            if not active():
                return wrapped(*args, **kwargs)
            kwargs, own = take_options(kwargs)
            headers: Mapping[str, Any] = kwargs.get("extra_headers") or {}
            carried = CarriedOptions.of(own)
            kwargs["extra_headers"] = {**headers, OPTIONS_HEADER: carried}
            if lazy:
                return _while_alive(carried, lambda: wrapped(*args, **kwargs), lazy=True)
        elif (
            lazy
            or not (_stack_here() or outside.cache is not None or blocks.program is not None)
            or not active()
        ):
            return wrapped(*args, **kwargs)
        else:
            carried = None
        client = getattr(instance, "_client", None)
        before = arrival = expected.get()
        if arrival is None or arrival.client is not client or arrival.arrived:
            arrival = Arrival(client, own, outside)
            expected.set(arrival)
        strays = STRAYS.last

        def missed() -> None:
            if active() and not STRAYS.may_be_of(client, strays):
                _missed(wrapped, client, own, outside)

        try:
            if carried is None:
                result = wrapped(*args, **kwargs)
            else:
                result = _while_alive(carried, lambda: wrapped(*args, **kwargs), lazy=False)
        finally:
            expected.set(before)
        if arrival.arrived:
            return result
        if isinstance(result, Coroutine):
            awaited: Any = _awaited(_Held(result), arrival, missed, carried)
            awaited.__qualname__ = getattr(result, "__qualname__", awaited.__qualname__)
            return awaited
        if not isinstance(result, Awaitable):  # a task sends its request when nobody looks
            missed()
        return result

    return wrapper


class _Held:
    """A coroutine that goes with what was to await it, so that nobody is warned of both."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        self.coroutine.close()


async def _awaited(
    call: _Held,
    arrival: Expectation,
    missed: Callable[[], None],
    carried: CarriedOptions | None,
) -> Any:
    before = expected.get()
    expected.set(arrival)
    try:
        result = await call.coroutine
    finally:
        expected.set(before)
        if carried is not None:  # an error may keep the coroutine
            _made.pop(carried, None)
    if not arrival.arrived:
        missed()
    return result


def _missed(method: Any, client: Any, own: CallOptions, default: Default) -> None:
    """Tell of a call that was answered, but never came to the SDK's own ``request``."""
    cache = choose_cache(own.cache, own.cache_seed, default, own.mode, counted=False)
    if cache is None or cache.policy.mode == "off":
        return
    kind = type(client)
    source = method.__qualname__
    # In mode replay nothing has left: what stands before the wire has seen to that.
    cache.bypass(source, "own request", asks_model=False)
    events.warn_once(
        ("own request", kind),
        f"{source}: the call is not cached, because {kind.__qualname__} answers it without the "
        "SDK's own `request`; let its `request` and `post` end in `super().request(...)`, or say "
        "`cache_seed=None` with such calls",
    )


def _while_alive(carried: CarriedOptions, call: Callable[[], Any], *, lazy: bool) -> Any:
    """Make a call whose options can be found by its text until its request has been sent.

    Of a coroutine, and of what is ``lazy``, that is until it is gone.
    """
    text = str(carried)
    _made[text] = carried
    try:
        result = call()
    except BaseException:
        del _made[text]
        raise
    if not lazy and not isinstance(result, Awaitable):
        del _made[text]
        return result
    try:
        weakref.finalize(result, _made.pop, text, None).atexit = False
    except TypeError:
        # What cannot be watched, such as a text, is an answer: its request has been sent.
        del _made[text]
    return result
