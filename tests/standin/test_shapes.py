"""Every call shape of the SDK matrix works against the stand-in, and no two answers are equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from sdk.openai.asking import Colour, Seen, anatomy
from sdk.openai.shapes import SHAPES, TABLE, City, Shape
from standin import Upstream

CASES = [
    pytest.param(shape, name, id=f"{shape.name}-{name}")
    for shape in SHAPES
    for name in shape.colours
]


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream
    openai.api_key = openai.base_url = None
    openai._reset_client()


def ask_twice(up: Upstream, shape: Shape, name: str) -> tuple[Seen, Seen]:
    colour = Colour(name)
    client = colour.client(up, shape.client, max_retries=0)
    seen = colour.ask(client, shape), colour.ask(client, shape)
    colour.close()
    return seen


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_each_of_two_identical_calls_reaches_the_upstream(
    up: Upstream, shape: Shape, name: str
) -> None:
    ask_twice(up, shape, name)
    assert up.calls == 2


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_two_identical_calls_are_answered_differently(
    up: Upstream, shape: Shape, name: str
) -> None:
    first, second = ask_twice(up, shape, name)
    payload = {"value", "events", "content", "chunks", "lines"} & first.keys()
    assert payload
    assert all(first[part] != second[part] for part in payload)


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_two_variants_are_two_requests(up: Upstream, shape: Shape, name: str) -> None:
    colour = Colour(name)
    client = colour.client(up, shape.client, max_retries=0)
    colour.ask(client, shape, 1)
    colour.ask(client, shape, 2)
    colour.close()
    assert sent_by(up, 0) != sent_by(up, 1)


def sent_by(up: Upstream, index: int) -> Any:
    """What a request asked, without the boundary that differs in every multipart body."""
    request = up.requests[index]
    body = request.parts() if request.multipart else request.json()
    return request.path, request.query, request.headers.get("x-tier"), body


def test_the_table_has_each_name_once() -> None:
    assert len({shape.name for shape in TABLE}) == len(TABLE)


def test_anatomy_tells_a_field_that_was_set_from_one_that_was_not() -> None:
    values = {"name": "Ulm", "people": 1, "rivers": []}
    given = City.model_construct(_fields_set={"name", "people"}, **values)
    left_out = City.model_construct(_fields_set={"name"}, **values)
    assert anatomy(given) != anatomy(left_out)
