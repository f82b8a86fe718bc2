"""The stack of blocks, and what is counted in it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

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
