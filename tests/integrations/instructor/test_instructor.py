"""instructor inside a block: the second run makes no upstream call."""

from __future__ import annotations

from typing import Any

import pytest

instructor = pytest.importorskip("instructor", reason="runs in `holding`")

from integrations.ways import Way, check_second_run_is_free, check_uncached_runs_differ, each
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from standin import Upstream


class City(BaseModel):
    name: str
    population: int


ASKED: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hi"}],
    "response_model": City,
}


def client(up: Upstream, mode: Any = None) -> Any:
    inner = OpenAI(base_url=up.base_url, api_key="sk-test")
    return instructor.from_openai(inner, mode=mode or instructor.Mode.TOOLS)


def to_async(up: Upstream) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=up.base_url, api_key="sk-test")


# It makes classes of its own for every call: fields are compared, not types.


def tools(up: Upstream) -> Any:
    return client(up).create(**ASKED).model_dump()


def json_schema(up: Upstream) -> Any:
    return client(up, instructor.Mode.JSON_SCHEMA).create(**ASKED).model_dump()


def responses(up: Upstream) -> Any:
    return client(up, instructor.Mode.RESPONSES_TOOLS).create(**ASKED).model_dump()


def partial(up: Upstream) -> Any:
    return [city.model_dump() for city in client(up).create_partial(**ASKED)]


def with_completion(up: Upstream) -> Any:
    city, completion = client(up).create_with_completion(**ASKED)
    return city.model_dump(), completion.id


async def tools_async(up: Upstream) -> Any:
    async with to_async(up) as inner:
        return (await instructor.from_openai(inner).create(**ASKED)).model_dump()


async def partial_async(up: Upstream) -> Any:
    async with to_async(up) as inner:
        parts = instructor.from_openai(inner).create_partial(**ASKED)
        return [city.model_dump() async for city in parts]


WAYS: list[tuple[Way, int]] = [
    (tools, 1),
    (json_schema, 1),
    (responses, 1),
    (partial, 1),
    (with_completion, 1),
    (tools_async, 1),
    (partial_async, 1),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, tools)


def test_a_validation_that_failed_asks_again_from_the_cache(upstream: Upstream) -> None:
    """The retry holds the failed answer: it is another request, and cached like the first."""

    class Small(BaseModel):
        name: str
        population: int

        def model_post_init(self, context: object) -> None:
            if "found wanting" not in seen:
                seen.append("found wanting")
                raise ValueError("found wanting")

    seen: list[str] = []

    def ask(up: Upstream) -> Any:
        seen.clear()
        return client(up).create(**{**ASKED, "response_model": Small}, max_retries=2).model_dump()

    check_second_run_is_free(upstream, ask, 2)
