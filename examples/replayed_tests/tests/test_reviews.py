"""The reports of some reviews. The models' answers are on the cassettes beside this file."""

from __future__ import annotations

import pytest
from reviews import report

pytestmark = pytest.mark.llm_cache

REVIEWS = {
    "kettle": ("The kettle leaks. I wrote three times and nobody answers!", "angry"),
    "lamp": ("A beautiful lamp, and it came a day early. Thank you!", "happy"),
}


@pytest.mark.parametrize(("review", "feeling"), REVIEWS.values(), ids=REVIEWS)
def test_the_feeling_of_a_review(review: str, feeling: str) -> None:
    assert report(review).feeling == feeling


def test_a_summary_is_short() -> None:
    summary = report("The kettle leaks. I wrote three times and nobody answers!").summary
    assert 0 < len(summary.split()) <= 8
