"""What holds for every call shape of an SDK: each shape is asked once, all facts read off that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from standin import Request, Upstream

from cachewrap import Cache
from sdk.openai.asking import Ask, Seen, unmarked

OTHER = {"sync": "async", "async": "sync"}


@dataclass
class Outcome:
    """What the calls of one shape in one colour showed.

    Args:
        take: how their results were consumed.
        miss: the first call in a block.
        hit: an identical one.
        stats: the counts of the block after these two.
        calls: how many calls reached upstream at each step.
        own: two identical calls with a cache of their own, outside the block.
        plain: a call without the patch.
        steered: the request of a call with a cache and a seed of its own.
        patched: the request of the miss.
        unpatched: the request of the call without the patch.
    """

    take: str
    miss: Seen
    hit: Seen
    stats: tuple[int, int, int]
    own: tuple[Seen, Seen]
    plain: Seen
    steered: Request
    patched: Request
    unpatched: Request
    calls: dict[str, int] = field(default_factory=dict)


def ask_all(
    take: str,
    colours: tuple[str, ...],
    asking: Callable[[Upstream, str], AbstractContextManager[Ask]],
    patch: Callable[[], AbstractContextManager[object]],
) -> Outcome:
    """Make all calls of a shape in the first of these colours, and one in the other.

    Args:
        take: how results are consumed.
        colours: the colours that the shape has, the one to ask in first.
        asking: opens a client of a colour, and asks with it.
        patch: patches the SDK.
    """
    calls: dict[str, int] = {}
    with Upstream() as up, asking(up, colours[0]) as ask:
        before = 0

        def count(step: str) -> None:
            nonlocal before
            calls[step], before = up.calls - before, up.calls

        with patch():
            with Cache.memory() as cache:
                miss, hit = ask(), ask()
                stats = cache.stats.misses, cache.stats.stored, cache.stats.hits
                count("twice")
                for name in colours[1:]:
                    with asking(up, name) as other:
                        other()
                count("in the other colour")
                ask(2)
                count("another variant")
                ask(cache_seed=None)
                ask(cache_seed=None)
                count("left out twice")
            alone = Cache.memory()
            own = ask(cache=alone), ask(cache=alone)
            count("twice with its own cache")
            ask(cache=alone, cache_seed=7)
            steered = up.last
        plain = ask()
        patched, unpatched = up.requests[0], up.last
    return Outcome(take, miss, hit, stats, own, plain, steered, patched, unpatched, calls)


class Matrix:
    """The facts, over a fixture ``outcome`` for each shape in each colour.

    Attributes:
        marked: the ways of consuming a result that show the headers of its response.
        varying: headers that differ from one call to the next, with and without a cache.
    """

    marked: ClassVar[frozenset[str]]
    varying: ClassVar[frozenset[str]] = frozenset()

    def test_two_identical_calls_make_one_upstream_call(self, outcome: Outcome) -> None:
        assert outcome.calls["twice"] == 1

    def test_a_hit_equals_its_miss(self, outcome: Outcome) -> None:
        assert unmarked(outcome.hit) == unmarked(outcome.miss)

    def test_one_header_tells_the_hit(self, outcome: Outcome) -> None:
        marks = [seen.get("mark") for seen in (outcome.miss, outcome.hit)]
        assert marks == ([None, "hit"] if outcome.take in self.marked else [None, None])

    def test_hit_and_miss_are_counted(self, outcome: Outcome) -> None:
        misses, stored, hits = outcome.stats
        assert (misses, stored, hits) == (1, 1, 1)

    def test_two_different_calls_make_two_upstream_calls(self, outcome: Outcome) -> None:
        assert (outcome.calls["twice"], outcome.calls["another variant"]) == (1, 1)

    def test_callers_of_the_other_colour_share_its_answer(self, outcome: Outcome) -> None:
        assert outcome.calls["in the other colour"] == 0

    def test_an_answer_is_shaped_as_without_the_patch(self, outcome: Outcome) -> None:
        assert outline(unmarked(outcome.miss)) == outline(unmarked(outcome.plain))

    def test_a_call_can_bring_its_own_cache(self, outcome: Outcome) -> None:
        first, second = map(unmarked, outcome.own)
        assert (outcome.calls["twice with its own cache"], second) == (1, first)

    def test_a_call_can_be_left_out_of_the_cache(self, outcome: Outcome) -> None:
        assert outcome.calls["left out twice"] == 2

    def test_what_steers_the_cache_never_reaches_the_upstream(self, outcome: Outcome) -> None:
        request = outcome.steered
        sent = [request.path, request.query, request.body.decode(errors="replace")]
        sent += [f"{name}: {value}" for name, value in request.headers.items()]
        assert not any("cache_seed" in text or "cachewrap" in text for text in sent)

    def test_the_request_is_sent_as_without_the_patch(self, outcome: Outcome) -> None:
        assert self._sent(outcome.patched) == self._sent(outcome.unpatched)

    def _sent(self, request: Request) -> Any:
        """A request without what varies; the boundary of a multipart body is another each time."""
        varying = {*self.varying, *(("content-type",) if request.multipart else ())}
        headers: Mapping[str, str] = request.headers
        kept = {name: value for name, value in headers.items() if name not in varying}
        body = request.parts() if request.multipart else request.body
        return request.method, request.path, request.query, kept, body


def outline(value: Any) -> Any:
    """The same with every leaf replaced by its type, since two answers differ in their values."""
    if isinstance(value, dict):
        return {name: outline(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [outline(item) for item in value]
    return value if isinstance(value, type) else type(value)


def each(shapes: Iterable[Any], fixture: str = "outcome") -> pytest.MarkDecorator:
    """A test over what a fixture makes of every shape in every colour, once for a module."""
    return pytest.mark.parametrize(
        fixture,
        [
            pytest.param((shape, name), id=f"{shape.name}-{name}")
            for shape in shapes
            for name in shape.colours
        ],
        indirect=True,
        scope="module",
    )
