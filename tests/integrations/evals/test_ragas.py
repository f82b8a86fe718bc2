"""ragas inside a block: its metrics over LangChain's models, and its own models over instructor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

os.environ["RAGAS_DO_NOT_TRACK"] = "true"
ragas = pytest.importorskip("ragas", reason="runs in `ragas`")

import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from ragas.llms import LangchainLLMWrapper, llm_factory
from ragas.metrics import AspectCritic
from standin import Upstream

from cachewrap import Cache, patch_all

VERDICT = {"role": "assistant", "content": '{"reason": "kind", "verdict": 1}'}
JUDGED = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": VERDICT, "finish_reason": "stop"}],
}


class Told(BaseModel):
    answer: str


def evaluate(up: Upstream) -> Any:
    """What a critic says of three answers."""
    up.behave(body=json.dumps(JUDGED).encode())
    model = LangchainLLMWrapper(ChatOpenAI(model="gpt-4o", base_url=up.base_url, api_key="none"))
    critic = AspectCritic(name="polite", definition="Is it polite?", llm=model)
    samples = [ragas.SingleTurnSample(user_input=f"q {n}", response="hi") for n in range(3)]
    data = ragas.EvaluationDataset(samples=samples)
    return ragas.evaluate(data, [critic], show_progress=False, raise_exceptions=True).scores


def generate(up: Upstream) -> Any:
    """An answer in a form, of a model of ragas' own."""
    client = openai.OpenAI(base_url=up.base_url, api_key="none")
    return llm_factory("gpt-4o", client=client).generate("hi", Told).answer


WAYS = pytest.mark.parametrize(("ask", "calls"), [(evaluate, 3), (generate, 1)])


@WAYS
def test_the_second_run_makes_no_upstream_call(
    upstream: Upstream, ask: Callable[[Upstream], Any], calls: int
) -> None:
    with patch_all(), Cache.memory() as cache:
        first = ask(upstream)
        assert ask(upstream) == first
    assert (upstream.calls, cache.stats.hits) == (calls, calls)


@WAYS
def test_in_replay_nothing_leaves(
    upstream: Upstream, ask: Callable[[Upstream], Any], calls: int
) -> None:
    # What came of it is for ragas to say: it tries again, and wraps what it gets.
    with patch_all(), Cache.memory(mode="replay"), pytest.raises(Exception, match=r"stored|replay"):
        ask(upstream)
    assert upstream.calls == 0
