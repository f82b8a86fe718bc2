"""The calls of a function that is cached element by element, each element of a list by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

from cachewrap.blocks import blocks
from cachewrap.cache import Cache
from cachewrap.call.terms import Reply
from cachewrap.entry import By, Entry, Kind
from cachewrap.errors import (
    CorruptEntryError,
    ResultsError,
    UnkeyableError,
    UnsupportedTypeError,
)
from cachewrap.format import codec
from cachewrap.function.calls import SCOPED, Decorated, FunctionExchange, aserve, inside
from cachewrap.function.signature import parameters_of
from cachewrap.options import NONE, CallOptions, Sampled
from cachewrap.request.canonical import canonical
from cachewrap.request.key import element_key, encode, key_of, make_keyer, salted
from cachewrap.retry import with_async_retry, with_retry
from cachewrap.telemetry.events import wanted
from cachewrap.telemetry.reading import usage_of
from cachewrap.telemetry.usage import Usage

List: TypeAlias = list[Any] | tuple[Any, ...]

LISTS: Final = (list, tuple)
"""What is taken apart, and what a function gives its results in."""


class ElementExchange(FunctionExchange):
    """One element of a list. Its answer is what the function gives for a list of it alone."""

    __slots__ = ()

    element = True

    def load(self, entry: Entry) -> List:
        found = super().load(entry)
        if type(found) not in LISTS or len(found) != 1:
            raise CorruptEntryError("it holds no list of one result")
        return found  # type: ignore[no-any-return]

    def pack(self, result: List) -> tuple[Kind, bytes, Usage] | None:
        decorated = self.decorated
        if decorated.when is not None and not wanted(decorated.when, result[0], decorated.source):
            return None
        return (*codec.encode(result), usage_of(result[0]))


class Elements:
    """The elements of one call's list.

    Args:
        decorated: of the function.
        values: the list.
        exchanges: of its elements.
    """

    def __init__(
        self, decorated: Decorated, values: List, exchanges: list[ElementExchange]
    ) -> None:
        self._decorated = decorated
        self._values = values
        self.exchanges = exchanges
        self._sampled: list[Sampled] = []
        self._options = NONE

    def serve(self, cache: Cache, options: CallOptions, ask: Callable[[List], Any]) -> Any:
        """What the call gives; of a coroutine function, what is awaited for it.

        Args:
            cache: serves it.
            options: the call's own.
            ask: calls the function with some of the elements.
        """
        decorated = self._decorated
        if options is not NONE or decorated.samples or cache.policy.samples or blocks.get().salt:
            self._sample(cache, options)
        if decorated.serve is aserve:
            return self._aserve(cache, ask)
        try:
            replies = cache.serve_many(self.exchanges, partial(self._ask, ask))
        except ResultsError as error:
            return self._as_it_came(cache, error)
        except BaseException:
            self._fail()
            raise
        return _joined(replies)

    async def _aserve(self, cache: Cache, ask: Callable[[List], Any]) -> Any:
        try:
            replies = await cache.aserve_many(self.exchanges, partial(self._aask, ask))
        except ResultsError as error:
            return self._as_it_came(cache, error)
        except BaseException:
            self._fail()
            raise
        return _joined(replies)

    def _ask(self, ask: Callable[[List], Any], numbers: list[int]) -> list[List]:
        call = with_retry(self._decorated.retry, self._call(ask, numbers))
        return self._divided(numbers, call())

    async def _aask(self, ask: Callable[[List], Any], numbers: list[int]) -> list[List]:
        call = with_async_retry(self._decorated.retry, self._call(ask, numbers))
        return self._divided(numbers, await call())

    def _call(self, ask: Callable[[List], Any], numbers: list[int]) -> Any:
        """The call of the function for some of the elements."""
        some = type(self._values)([self._values[number] for number in numbers])
        call = partial(ask, some)
        options, counted = self._options, any(one.counted for one in self._sampled)
        if counted or options.mode is not None:
            # What it asks inside belongs to these samples.
            keys = "".join([self.exchanges[number].key for number in numbers])
            number = SimpleNamespace(key=key_of(salted("elements"), keys.encode()), counted=counted)
            return SCOPED[self._decorated.serve](partial(inside, number, options), call)
        return call

    def _divided(self, numbers: list[int], results: Any) -> list[List]:
        """What the function gave, as it would have for each element alone."""
        kind = type(results)
        if kind in LISTS and len(results) == len(numbers):
            return [kind((result,)) for result in results]
        came = f"{kind.__qualname__}" + (f" of {len(results)}" if kind in LISTS else "")
        raise ResultsError(
            f"{self._decorated.each}= had {len(numbers)} elements, for which a list or tuple of as"
            f" many results is to be returned, and not a {came}",
            results,
            whole=numbers == list(range(len(self._values))),
        )

    def _as_it_came(self, cache: Cache, error: ResultsError) -> Any:
        """What the function gave where nobody knows what is whose, if it was asked for all."""
        if not error.whole:
            self._fail()
            error.args = (f"{self._decorated.source}: {error}",)
            raise error
        cache.survive(UnsupportedTypeError(str(error)), self._decorated.source)
        return error.results

    def _sample(self, cache: Cache, options: CallOptions) -> None:
        decorated, self._options = self._decorated, options
        for one in self.exchanges:
            sampled = Sampled(cache, one.key, options, decorated.samples, decorated.numbering)
            one.key, one.sample, one.options = sampled.key, sampled.number, options
            self._sampled.append(sampled)

    def _fail(self) -> None:
        for sampled in reversed(self._sampled):
            sampled.failed()


def _joined(replies: list[Reply[List]]) -> List:
    """The results of all elements, in what the function gives them in."""
    values = [reply.value[0] for reply in replies]
    in_tuples = values and all(type(reply.value) is tuple for reply in replies)
    return tuple(values) if in_tuples else values


def elements_of(
    decorated: Decorated, cache: Cache, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Elements | None:
    """The elements of a call that a cache serves; None where it has no list to take apart.

    Raises `TypeError` for arguments that do not fit, and `UnkeyableError`.
    """
    name: Any = decorated.each
    arguments = decorated.bind(*args, **kwargs)
    values = arguments.pop(name, None)
    kind = type(values)
    if kind not in LISTS:
        return None
    try:
        head = {**decorated.head(), "each": name}
        rest = canonical(arguments)
        forms = [
            canonical({name: kind((value,))}, where=f"element {at}")[name]
            for at, value in enumerate(values)
        ]
    except UnkeyableError as error:
        raise UnkeyableError(f"{decorated.source}: {error}") from None
    rules = cache.policy.same
    keyer = make_keyer(decorated.prefix, head, "arguments", parameters_of(decorated.plain))
    exchanges = []
    for form in forms:
        part = {**rest, name: form}
        request = {**head, "arguments": part}
        asked: bytes | dict[str, Any] = request
        by: By = ()
        if rules is not None:
            key, by = decorated.keyed_under(rules, request)
        elif (keyed := keyer(part.copy())) is not None:
            key, pieces = keyed
            asked = b"".join(pieces)
        else:
            asked = encode(request)
            key = key_of(decorated.prefix, asked)
        exchanges.append(ElementExchange(decorated, cache, asked, element_key(key), by))
    return Elements(decorated, values, exchanges)


def exchanges_of(
    decorated: Decorated, cache: Cache, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[FunctionExchange]:
    """The exchanges of a call: of each element, where it is taken apart, else the one."""
    if decorated.each is not None:
        elements = elements_of(decorated, cache, args, kwargs)
        if elements is not None:
            return list(elements.exchanges)
    return [decorated.exchange(cache, args, kwargs)]


def asking(
    decorated: Decorated,
    wrapped: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    skipped: int,
) -> Callable[[List], Any]:
    """A call of the function, with other elements in it.

    Args:
        decorated: of the function.
        wrapped: what is called.
        args: the call's arguments.
        kwargs: the call's keywords.
        skipped: how many arguments the function is given before them.
    """
    name: Any = decorated.each
    at = decorated.at - skipped

    def ask(values: List) -> Any:
        if at < len(args) and name not in kwargs:
            return wrapped(*args[:at], values, *args[at + 1 :], **kwargs)
        return wrapped(*args, **{**kwargs, name: values})

    return ask
