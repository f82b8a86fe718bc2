"""The stack of blocks, and what is counted in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

import pytest
from hypothesis import given, strategies as st

from cachewrap import blocks
from cachewrap.blocks import OUTSIDE, Numbering

A, B = object(), object()


class TestNumbering:
    def test_counts_each_request_from_0(self) -> None:
        numbering = Numbering()
        assert [numbering.take(name) for name in "aabab"] == [0, 1, 0, 2, 1]

    def test_what_is_given_back_is_taken_first_and_lowest_first(self) -> None:
        numbering = Numbering()
        for _ in range(4):
            numbering.take("a")
        numbering.give_back("a", 2)
        numbering.give_back("a", 0)
        assert [numbering.take("a") for _ in range(3)] == [0, 2, 4]

    def test_threads_never_get_one_number_twice(self) -> None:
        numbering = Numbering()
        barrier = threading.Barrier(8)

        def take() -> list[int]:
            barrier.wait(10)
            return [numbering.take("a") for _ in range(500)]

        with ThreadPoolExecutor(8) as pool:
            taken = [n for future in [pool.submit(take) for _ in range(8)] for n in future.result()]
        assert sorted(taken) == list(range(4000))


class TestStack:
    def test_each_entering_has_a_numbering_of_its_own(self) -> None:
        stack = OUTSIDE.entered(A).entered(A)
        assert len(set(map(id, stack.numberings))) == 2

    def test_leaving_a_block_keeps_the_numberings_of_the_others(self) -> None:
        outer = OUTSIDE.entered(A)
        assert outer.entered(B).left(B).numberings == outer.numberings

    def test_the_innermost_occurrence_is_left(self) -> None:
        stack = OUTSIDE.entered(A).entered(B).entered(A)
        assert (tuple(stack.left(A)), stack.left(A).numberings) == ((A, B), stack.numberings[:2])

    def test_leaving_a_block_that_was_not_entered_changes_nothing(self) -> None:
        stack = OUTSIDE.entered(A)
        assert stack.left(B) is stack

    def test_the_numbering_of_a_block_is_that_of_its_innermost_entering(self) -> None:
        stack = OUTSIDE.entered(A).entered(B).entered(A)
        assert stack.numbering(A) is stack.numberings[2]
        assert stack.numbering(object()) is None

    def test_inside_a_sample_everything_counts_together_and_anew(self) -> None:
        stack = OUTSIDE.entered(A).entered(B)
        inside = stack.within("key")
        assert (tuple(inside), inside.salt) == ((A, B), "key")
        assert set(inside.numberings) == {inside.inside}
        assert inside.inside not in stack.numberings

    def test_a_block_entered_inside_a_sample_belongs_to_it_and_counts_for_itself(self) -> None:
        inside = OUTSIDE.within("key").entered(A)
        assert inside.salt == "key"
        assert inside.numberings != (inside.inside,)

    def test_emptied_outside_of_any_block_it_is_outside(self) -> None:
        assert OUTSIDE.emptied() is OUTSIDE

    def test_filled_it_has_again_what_was_emptied_and_not_left(self) -> None:
        stack = OUTSIDE.entered(A).entered(B)
        emptied = stack.emptied()
        assert tuple(emptied) == ()
        assert (tuple(emptied.filled()), emptied.filled().numberings) == ((A, B), stack.numberings)
        inside = emptied.entered(A).left(B)
        assert tuple(inside.filled()) == (A, A)
        assert tuple(inside.emptied().filled()) == (A, A)
        assert inside.filled().before is None

    def test_emptied_inside_a_sample_it_still_counts_there(self) -> None:
        inside = OUTSIDE.entered(A).within("key")
        emptied = inside.entered(B).emptied()
        assert (tuple(emptied), emptied.salt, emptied.inside) == ((), "key", inside.inside)
        assert emptied.inside_of(OUTSIDE.entered(A)).numberings == (inside.inside,)


@pytest.fixture
def no_program() -> Iterator[None]:
    blocks.serve_program(None)
    yield
    blocks.serve_program(None)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from("push pop activate deactivate".split()),
        st.sampled_from("ABC"),
    ),
    max_size=30,
)


@pytest.mark.usefixtures("no_program")
class TestWholeProcess:
    @given(steps=STEPS, around=st.booleans())
    def test_the_innermost_of_a_context_else_the_newest_of_the_process(
        self, steps: list[tuple[int, str, str]], around: bool
    ) -> None:
        outermost = OUTSIDE.entered("P")
        blocks.serve_program((lambda: outermost) if around else None)
        process = ["P"] if around else []
        contexts = [(Context(), list[str](), list[str]()) for _ in range(3)]
        for number, step, block in steps:
            context, own, aside = contexts[number]
            context.run(getattr(blocks, step), *([] if step == "deactivate" else [block]))
            if step == "push":
                own.append(block)
            elif step == "activate":
                aside += own
                own.clear()
                process[int(around) :] = [block]
            elif step == "deactivate":
                del process[int(around) :]
                own[:0] = aside
                aside.clear()
            else:
                left = own if block in own else aside
                if block in left:
                    del left[len(left) - 1 - left[::-1].index(block)]
            for each, entered, _ in contexts:
                stack = each.run(blocks.active)
                assert list(stack) == (entered or process)
                assert len(stack.numberings) == len(stack)
                assert len(set(map(id, stack.numberings))) == len(stack)

    def test_every_context_counts_in_the_one_numbering(self) -> None:
        blocks.activate(A)
        numberings = [Context().run(lambda: blocks.active().numbering(A)) for _ in range(2)]
        assert numberings[0] is numberings[1] is not None

    def test_each_activation_counts_anew(self) -> None:
        blocks.activate(A)
        first = blocks.active().numbering(A)
        blocks.activate(A)
        assert blocks.active().numbering(A) is not first
