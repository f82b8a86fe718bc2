"""`scrub=` and the SDK: what is stored of a call, and what its callers get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, ConfigurationError
from sdk.openai.asking import Colour

SECRET = "customer-42"
MESSAGES = [{"role": "user", "content": f"What does {SECRET} want?"}]


def scrub(text: str) -> str:
    return text.replace(SECRET, "(customer)")


def asked(colour: Colour, client: Any) -> str:
    create = client.chat.completions.create
    done = colour.wait(create(model="gpt-4o-mini", messages=MESSAGES))
    return str(done.choices[0].message.content)


def test_a_miss_returns_what_a_hit_returns(colour: Colour, client: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Cache.jsonl(path, scrub=scrub) as cache:
        first, second = asked(colour, client), asked(colour, client)
        assert cache.stats.hits == 1
    assert first == second
    assert "(customer)" in first
    assert SECRET not in path.read_text()


async def all_of(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


def test_a_stream_is_scrubbed_where_it_is_stored(
    colour: Colour, client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"

    def told() -> str:
        create = client.chat.completions.create
        stream = colour.wait(create(model="gpt-4o-mini", messages=MESSAGES, stream=True))
        chunks = [*stream] if colour.name == "sync" else colour.wait(all_of(stream))
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    with Cache.jsonl(path, scrub=scrub) as cache:
        first, second = told(), told()
        assert cache.stats.hits == 1
    assert first.replace(SECRET, "(customer)") == second
    assert SECRET not in path.read_text()


def boom(text: str) -> str:
    raise LookupError


def test_nothing_is_stored_where_the_function_raises(colour: Colour, client: Any) -> None:
    with Cache.memory(scrub=boom) as cache:
        with pytest.raises(ConfigurationError, match="scrub= of the cache raised"):
            asked(colour, client)
        assert list(cache.keys()) == []
