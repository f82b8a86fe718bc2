"""deepeval inside a block: a metric asks several questions, of the last answer among them."""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ.update(DEEPEVAL_TELEMETRY_OPT_OUT="YES", DEEPEVAL_DISABLE_DOTENV="1")
deepeval = pytest.importorskip("deepeval", reason="runs in `evals`")

from deepeval.metrics import AnswerRelevancyMetric
from deepeval.models import OpenAIModel
from deepeval.test_case import LLMTestCase
from standin import Upstream

from cachewrap import Cache, ReplayMissError, patch_all

COLOURS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def measure(up: Upstream, is_async: bool) -> Any:
    model = OpenAIModel(model="gpt-4o", api_key="none", base_url=up.base_url)
    metric = AnswerRelevancyMetric(model=model, async_mode=is_async)
    case = LLMTestCase(input="How is the weather?", actual_output="Sunny.")
    metric.measure(case, _show_indicator=False)
    return metric.score, metric.reason


@COLOURS
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, is_async: bool) -> None:
    with patch_all(), Cache.memory() as cache:
        first = measure(upstream, is_async)
        assert measure(upstream, is_async) == first
    assert (upstream.calls, cache.stats.hits) == (3, 3)


@COLOURS
def test_in_replay_nothing_leaves(upstream: Upstream, is_async: bool) -> None:
    with patch_all(), Cache.memory(mode="replay"), pytest.raises(ReplayMissError):
        measure(upstream, is_async)
    assert upstream.calls == 0
