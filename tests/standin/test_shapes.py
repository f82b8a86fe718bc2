"""Every call shape of the SDK matrix works against the stand-in, and no two answers are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sdk.matrix import each
from sdk.openai.asking import Seen, anatomy, asking
from sdk.openai.shapes import SHAPES, TABLE, City
from standin import Request, Upstream


@dataclass
class Answered:
    """What three calls of one shape showed: two identical ones, and another variant."""

    first: Seen
    second: Seen
    requests: list[Request]


@pytest.fixture(scope="module")
def answered(request: pytest.FixtureRequest) -> Answered:
    shape, name = request.param
    with Upstream() as up, asking(shape, up, name) as ask:
        first, second = ask(1), ask(1)
        ask(2)
        return Answered(first, second, list(up.requests))


each_shape = each(SHAPES, "answered")


@each_shape
def test_each_call_reaches_the_upstream(answered: Answered) -> None:
    assert len(answered.requests) == 3


@each_shape
def test_two_identical_calls_are_answered_differently(answered: Answered) -> None:
    first, second = answered.first, answered.second
    payload = {"value", "events", "content", "chunks", "lines"} & first.keys()
    assert payload
    assert all(first[part] != second[part] for part in payload)


@each_shape
def test_two_variants_are_two_requests(answered: Answered) -> None:
    first, _, other = map(sent, answered.requests)
    assert first != other


def sent(request: Request) -> Any:
    """What a request asked, without the boundary that differs in every multipart body."""
    body = request.parts() if request.multipart else request.json()
    return request.path, request.query, request.headers.get("x-tier"), body


def test_the_table_has_each_name_once() -> None:
    assert len({shape.name for shape in TABLE}) == len(TABLE)


def test_anatomy_tells_a_field_that_was_set_from_one_that_was_not() -> None:
    values = {"name": "Ulm", "people": 1, "rivers": []}
    given = City.model_construct(_fields_set={"name", "people"}, **values)
    left_out = City.model_construct(_fields_set={"name"}, **values)
    assert anatomy(given) != anatomy(left_out)
