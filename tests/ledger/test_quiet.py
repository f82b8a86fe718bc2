"""Answers that a refresh leaves as they are: the run that asked anew has them all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cachewrap import Cache, llm_cached


@llm_cached(version=1)
def say(prompt: str) -> str:
    return prompt.upper()


@llm_cached(version=1)
async def asay(prompt: str) -> str:
    return prompt.upper()


@pytest.mark.parametrize("kind", ["jsonl", "disk"])
def test_an_answer_that_says_the_same_is_found_in_both_runs(tmp_path: Path, kind: str) -> None:
    at = tmp_path / "answers"
    cache = Cache.jsonl(at) if kind == "jsonl" else Cache.disk(cache_path_root=at)
    for one in (cache, cache.mode("refresh")):
        with one.run("nightly"):
            assert say("sun") == "SUN"
            assert asyncio.run(asay("sun")) == "SUN"
    runs = cache.runs()
    for run in runs:
        assert [run.raw_answer(call) is not None for call in run.calls()] == [True, True]
    assert runs["nightly~1"].diff(runs["nightly"]).equal
