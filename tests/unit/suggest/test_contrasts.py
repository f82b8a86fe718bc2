"""Words by which two texts that are alike may mean the opposite."""

from __future__ import annotations

import pytest

from cachewrap.suggest.contrasts import turns


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("Turn on the light", "Turn off the light", "on / off"),
        ("Who won in 2019?", "Who won in 2020?", "2019 / 2020"),
        ("What is 5 + 3?", "What is 5 - 3?", "+ / -"),
        ("Take two eggs", "Take three eggs", "two / three"),
        ("Convert 5 km", "Convert 5 miles", "km / miles"),
        ("Can I cancel it?", "Can I not cancel it?", "not"),
        ("I can log in", "I can't log in", "can't"),
        ("I can log in", "I can\u2019t log in", "can't"),
        ("Is it possible?", "Is it impossible?", "possible / impossible"),
        ("What about with sugar?", "What about without sugar?", "with / without"),
        ("The weather in Paris", "The weather in Rome", "paris / rome"),
        ("Sort a list in Java", "Sort a list in a language", "java"),
        ("Fly from Paris to Rome", "Fly from Rome to Paris", "the same words in another order"),
        ("What is the capital of France?", "Which city is the capital of France?", ""),
        ("How is the weather?", "What's the weather like?", ""),
        ("What is a cache?", "what is a cache", ""),
        ("Tell me about Berlin.", "Please tell me about Berlin", ""),
    ],
)
def test_what_turns_the_meaning_is_marked(one: str, other: str, told: str) -> None:
    assert turns(one, other) == told
    assert turns(other, one) == " / ".join(reversed(told.split(" / ")))
