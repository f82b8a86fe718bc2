"""The way of a request for a list: each element from the store, what is missing in one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Final, TypeAlias

from cachewrap.cache import Cache
from cachewrap.call.terms import Reply
from cachewrap.entry import Entry, HttpAnswer, Kind, Outcome
from cachewrap.errors import CorruptEntryError
from cachewrap.http.elements import (
    Element,
    Form,
    Listed,
    listed,
    put_together,
    read_element,
    taken_apart,
)
from cachewrap.http.exchange import Answered, SdkExchange
from cachewrap.http.response import Fresh
from cachewrap.options import CallOptions, is_sampling, take_sample
from cachewrap.request.key import element_key
from cachewrap.telemetry.reading import usage_of
from cachewrap.telemetry.usage import Usage

Ask: TypeAlias = Callable[[list[int] | None], Answered]
"""Asks upstream for some of the elements; for None the list as its caller has asked for it."""

AsyncAsk: TypeAlias = Callable[[list[int] | None], Awaitable[Answered]]

_OTHER_FORM: Final = "other elements"
_NOT_ASKED: Final = "not asked"

# Of the answer to the whole list, and not to one element.
_OF_THE_BODY: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def elements_of(whole: SdkExchange, given: Any) -> Listed | None:
    """The elements that a request is to be told apart into; None where it is left whole.

    Args:
        whole: the request.
        given: its input, as the caller has given it.
    """
    found = listed(whole.endpoint.path, whole.request)
    if found is None or found.alone:
        return found
    return found if isinstance(given, (list, tuple)) and len(given) == len(found.places) else None


class ElementExchange(SdkExchange):
    """The exchange of one element: of the request that asks for it alone.

    Args:
        whole: of the request for the list.
        form: of that request.
        element: the element.

    Attributes:
        unwanted: whether its answer is not to be stored.
    """

    __slots__ = ("_form", "unwanted")

    element = True

    def __init__(self, whole: SdkExchange, form: Form, element: Any) -> None:
        body = {**whole.request["body"], "input": element}
        super().__init__(
            whole.endpoint, {**whole.request, "body": body}, whole.policy, taken=whole.taken
        )
        self.key = element_key(self.key)
        self.timeout = whole.timeout
        self.unwanted = False
        self._form = form

    def load(self, entry: Entry) -> Answered:
        """See `Exchange`; the result is the `Element`."""
        answer = super().load(entry).answer
        assert answer is not None
        try:
            element = read_element(self._form, b"".join(answer.chunks))
        except ValueError as error:
            raise CorruptEntryError(f"it holds no answer to one element: {error}") from error
        return Answered(answer, result=element)

    def pack(self, result: Answered) -> tuple[Kind, bytes, Usage] | None:
        """See `Exchange`."""
        return None if self.unwanted else super().pack(result)


class ListCall:
    """A call for a list, of which each element is served by itself.

    Args:
        cache: serves it.
        whole: the exchange of the call.
        elements: what it asks for.
        own: the call's own options.

    Attributes:
        outcome: how it was answered: as the least lucky of its elements.
        reason: why something of it was not stored, where that is known.
    """

    def __init__(
        self, cache: Cache, whole: SdkExchange, elements: Listed, own: CallOptions
    ) -> None:
        self.cache = cache
        self.whole = whole
        self.elements = elements
        self._single = [ElementExchange(whole, elements.form, one) for one in elements.elements]
        sampled = own.sample is not None or is_sampling(cache)
        self._samples = [take_sample(cache, one, own) for one in self._single if sampled]
        self._listed = [self._single[place] for place in elements.places]
        self._came: Answered | None = None
        self._fault: Exception | None = None
        self.outcome = Outcome.MISS
        self.reason = ""

    def failed(self) -> None:
        """The call raised: the next one for these elements has their numbers."""
        for sampled in self._samples:
            if sampled is not None:
                sampled.failed()

    def serve(self, ask: Ask, build: Callable[[HttpAnswer], Any]) -> Any:
        """Answer the call.

        Args:
            ask: see `Ask`.
            build: makes what the caller gets of an answer.
        """

        def call(wanted: list[int]) -> list[Answered]:
            found: dict[int, Answered] = {}
            for group in self._groups(wanted):
                try:
                    answered = ask(self._part(group))
                except Exception as error:
                    self._stop(error, found)
                    break
                if not self._take(group, answered, found):
                    break
            return self._results(wanted, found)

        def attempt(last: bool) -> tuple[Any, bool]:
            replies = self.cache.serve_many(self._listed, call)
            answer = self._answer(replies)
            if answer is None:
                return (self._came or ask(None)).result, True
            try:
                return build(answer), True
            except Exception as error:
                if last or not self._refuse(replies, error):
                    raise
                return None, False

        try:
            result, is_made = attempt(False)
            return result if is_made else attempt(True)[0]
        except BaseException:
            self.failed()
            raise

    async def aserve(self, ask: AsyncAsk, build: Callable[[HttpAnswer], Awaitable[Any]]) -> Any:
        """`serve` for async callers."""

        async def call(wanted: list[int]) -> list[Answered]:
            found: dict[int, Answered] = {}
            for group in self._groups(wanted):
                try:
                    answered = await ask(self._part(group))
                except Exception as error:
                    self._stop(error, found)
                    break
                if not self._take(group, answered, found):
                    break
            return self._results(wanted, found)

        async def attempt(last: bool) -> tuple[Any, bool]:
            replies = await self.cache.aserve_many(self._listed, call)
            answer = self._answer(replies)
            if answer is None:
                return (self._came or await ask(None)).result, True
            try:
                return await build(answer), True
            except Exception as error:
                if last or not self._refuse(replies, error):
                    raise
                return None, False

        try:
            result, is_made = await attempt(False)
            return result if is_made else (await attempt(True))[0]
        except BaseException:
            self.failed()
            raise

    # Numbers of elements are theirs in `Listed`; a cache counts the places of the list.

    def _groups(self, wanted: list[int]) -> list[list[int]]:
        return self.elements.groups(self.elements.places[at] for at in wanted)

    def _part(self, group: list[int]) -> list[int] | None:
        return None if self.elements.is_all(group) else group

    def _stop(self, error: Exception, found: dict[int, Answered]) -> None:
        """A call failed: what came before it is stored, and then the failure is the caller's."""
        if not found:
            raise error
        self._fault = error

    def _take(self, group: list[int], answered: Answered, found: dict[int, Answered]) -> bool:
        """Take an answer apart; whether to ask on."""
        elements = self.elements
        refused = answered.reason.startswith("status")
        if refused or elements.is_all(group):
            self._came = answered
        told = None
        if answered.answer is not None:
            body = b"".join(answered.answer.chunks)
            told = taken_apart(elements.form, body, [elements.elements[one] for one in group])
        if told is None or answered.answer is None:
            nothing = Answered(None, reason=answered.reason or _OTHER_FORM)
            found.update(dict.fromkeys(group, nothing))
            return not refused
        unwanted = not self.whole.wants(answered)
        for one, element in zip(group, told, strict=True):
            self._single[one].unwanted = unwanted
            found[one] = self._answered(answered.answer, element)
        return True

    def _answered(self, answer: HttpAnswer, element: Element) -> Answered:
        headers = [pair for pair in answer.headers if pair[0].lower() not in _OF_THE_BODY]
        body = put_together(self.elements.form, [element], element.head)
        usage = usage_of(element.summary())
        return Answered(HttpAnswer(answer.status, headers, [body], []), usage, element)

    def _results(self, wanted: list[int], found: dict[int, Answered]) -> list[Answered]:
        places, nothing = self.elements.places, Answered(None, reason=_NOT_ASKED)
        return [found.get(places[at], nothing) for at in wanted]

    def _answer(self, replies: Sequence[Reply[Answered]]) -> HttpAnswer | None:
        """What the list is answered; None where an element has no answer of its own.

        Raises what a call raised behind others.
        """
        outcomes = [reply.outcome for reply in replies]
        missed = Outcome.MISS in outcomes
        joined = Outcome.JOINED if Outcome.JOINED in outcomes else Outcome.HIT
        self.outcome = Outcome.MISS if missed else joined
        self.reason = next((reply.reason for reply in replies if reply.reason), "")
        if self._fault is not None:
            raise self._fault
        if any(reply.value.answer is None for reply in replies):
            return None
        newest = max(range(len(replies)), key=lambda at: (_created(replies[at]), at))
        elements: list[Element] = [reply.value.result for reply in replies]
        body = put_together(self.elements.form, elements, elements[newest].head)
        told = replies[newest].value.answer
        assert told is not None
        return (Fresh if missed else HttpAnswer)(told.status, told.headers, [body], [])

    def _refuse(self, replies: Sequence[Reply[Answered]], error: Exception) -> bool:
        """Have no stored answer served again of which the SDK makes nothing but an error."""
        parser = self.whole.parser
        if parser is not None and parser.failed:
            return False
        found = [
            exchange.refuse(reply, error)
            for exchange, reply in zip(self._listed, replies, strict=True)
            if reply.outcome is not Outcome.MISS
        ]
        self._came = None
        return any(found)


def _created(reply: Reply[Answered]) -> float:
    entry = reply.entry or reply.unkept
    return inf if entry is None else entry.created
