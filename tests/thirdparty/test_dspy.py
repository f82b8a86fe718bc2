"""DSPy inside a block, its own cache off: what goes through the OpenAI SDK is cached."""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or LiteLLM asks the network at its import
dspy = pytest.importorskip("dspy", reason="runs in the tox environments `litellm` and `older`")

from thirdparty.ways import (
    Way,
    ask_twice,
    check_second_run_is_free,
    check_uncached_runs_differ,
    each,
)

from cachewrap.testing.upstream import Upstream

NATIVE = tuple(map(int, dspy.__version__.split(".")[:2])) >= (3, 4)
"""Whether the default engine is DSPy's own, and LiteLLM one that can be chosen."""


def model(up: Upstream, **options: Any) -> Any:
    engine = {"engine": "litellm"} if NATIVE else {}
    given = {"api_base": up.base_url, "api_key": "sk-test", "cache": False}
    return dspy.LM("openai/gpt-4o-mini", **{**given, **engine, **options})


class Program(dspy.Module):  # type: ignore[misc]
    """Answers with the text of the model, which the stand-in does not put into any format."""

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=dspy.settings.lm(question)[0])


def lm(up: Upstream) -> Any:
    return model(up)("hi")


async def alm(up: Upstream) -> Any:
    return await model(up).acall("hi")


def program(up: Upstream) -> Any:
    with dspy.context(lm=model(up)):
        return Program()(question="hi").answer


def parallel(up: Upstream) -> Any:
    pairs = [(Program(), {"question": word}) for word in "abcd"]
    with dspy.context(lm=model(up)):
        found = dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)
        return [prediction.answer for prediction in found]


def batch(up: Upstream) -> Any:
    examples = [dspy.Example(question=word).with_inputs("question") for word in "abcd"]
    with dspy.context(lm=model(up)):
        found = Program().batch(examples, num_threads=3, disable_progress_bar=True)
        return [prediction.answer for prediction in found]


def embedder(up: Upstream) -> Any:
    given = {"api_base": up.base_url, "api_key": "sk-test", "caching": False}
    return dspy.Embedder("openai/text-embedding-3-small", **given)(["a", "b"]).tolist()


CACHED: list[tuple[Way, int]] = [
    (lm, 1),
    (alm, 1),
    (program, 1),
    (parallel, 4),
    (batch, 4),
    (embedder, 1),
]


@each(CACHED)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, lm)


@pytest.mark.skipif(not NATIVE, reason="before DSPy 3.4 every call goes through LiteLLM")
def test_the_native_engine_speaks_http_by_itself(upstream: Upstream) -> None:
    _, made, _, after, cache = ask_twice(upstream, lambda up: model(up, engine="lm15")("hi"))
    assert (made, after) == (1, 2)
    assert cache.stats.misses == 0
