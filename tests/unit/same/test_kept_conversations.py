"""Rules on a conversation that is asked over and over, which is searched once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from cachewrap.request.states import packed
from cachewrap.same import ignore, replace
from cachewrap.same.applied import check_rules

IN_SYSTEM = "messages[role=system].content"


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    packed.forget()
    yield
    packed.forget()


def said(day: str) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": f"Today is {day}."},
        {"role": "user", "content": f"Is it {day}?"},
    ]


def keep(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    packed.keep("open", repr(messages).encode(), messages)
    return messages


def asked(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "u", "body": {"model": "m", "messages": messages, **more}}


@pytest.mark.parametrize(
    "where", [IN_SYSTEM, "messages[*].content", "messages", [IN_SYSTEM, "messages[1].content"]]
)
def test_it_comes_to_the_same_as_one_that_is_not_kept(where: Any) -> None:
    rules = check_rules([ignore("metadata"), replace(r"\d+", "…", where=where)])
    assert rules is not None
    one, other = keep(said("1")), keep(said("2"))
    for messages in (one, one, other, one, other, other):
        for run in ("a", "b"):
            request = asked(messages, metadata={"run": run})
            before = copy.deepcopy(request)
            assert rules.apply(request) == rules.apply(copy.deepcopy(request))
            assert request == before


def test_two_rules_do_not_take_each_others_for_theirs() -> None:
    messages = keep(said("1"))
    shown = [
        check_rules(replace(r"\d", text, where=IN_SYSTEM)).apply(asked(messages)).request  # type: ignore[union-attr]
        for text in "ab" * 2
    ]
    assert [one["body"]["messages"][0]["content"] for one in shown] == [
        "Today is a.",
        "Today is b.",
    ] * 2


def test_one_in_which_nothing_is_found_is_left_as_it_is() -> None:
    rules = check_rules(replace(r"\d", "…", where=IN_SYSTEM))
    assert rules is not None
    request = asked(keep(said("Monday")))
    for _ in range(3):
        assert rules.apply(request) == (request, ())
        assert rules.apply(request).request is request


def test_a_list_that_its_program_changes_is_searched_each_time() -> None:
    rules = check_rules(replace(r"\d", "…", where=IN_SYSTEM))
    assert rules is not None
    messages = said("1")
    assert rules.apply(asked(messages)).request["body"]["messages"][0]["content"] == "Today is …."
    messages[0]["content"] = "Today is a feast."
    assert rules.apply(asked(messages)) == (asked(messages), ())
