"""inspect_ai inside a block, its own cache off: it numbers each request for itself."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

inspect_ai = pytest.importorskip("inspect_ai", reason="runs in `evals`")

from inspect_ai.dataset import Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
from standin import Upstream

from cachewrap import Cache, ReplayMissError, patch_all

PROVIDERS = {
    "openai/gpt-4o": {"x-irid"},
    "openai-api/mine/llama": {"x-irid"},
    "openrouter/openai/gpt-4o": {"x-irid", "x-session-id"},
    "fireworks/accounts/fireworks/models/llama": {"x-irid", "x-session-affinity"},
    "anthropic/claude-sonnet-4-0": {"x-irid"},
}
Answers = list[tuple[Any, int, str]]


def evaluate(
    up: Upstream, folder: Path, provider: str = "openai/gpt-4o", epochs: int = 1
) -> Answers:
    """Ask three questions so many times; each answer with the question and the epoch."""
    url = up.root_url if provider.startswith("anthropic") else up.base_url
    task = inspect_ai.Task(
        dataset=[Sample(input=f"question {n}", target="a") for n in range(3)],
        solver=[generate()],
        scorer=includes(),
    )
    model = get_model(provider, base_url=url, api_key="none", memoize=False)
    (log,) = inspect_ai.eval(task, model, log_dir=str(folder), display="none", epochs=epochs)
    assert log.status == "success", log.error
    return sorted((one.id, one.epoch, one.output.completion) for one in log.samples)


@pytest.mark.parametrize(("provider", "names"), PROVIDERS.items(), ids=list(PROVIDERS))
def test_the_second_run_makes_no_upstream_call(
    upstream: Upstream, tmp_path: Path, provider: str, names: set[str]
) -> None:
    with patch_all(), Cache.memory() as cache:
        first = evaluate(upstream, tmp_path, provider)
        sent = [{name: one.headers.get(name) for name in names} for one in upstream.requests]
        assert evaluate(upstream, tmp_path, provider) == first
    assert upstream.calls == 3
    assert cache.stats.hits == 3
    assert all(None not in one.values() for one in sent)
    assert all(one != other for one, other in itertools.combinations(sent, 2))


@pytest.mark.parametrize("provider", ["openai/gpt-4o", "openrouter/openai/gpt-4o"])
def test_every_epoch_is_a_sample_of_its_own(
    upstream: Upstream, tmp_path: Path, provider: str
) -> None:
    with patch_all():
        cache = Cache.memory()
        with cache.samples():
            first = evaluate(upstream, tmp_path, provider, epochs=3)
        with cache.samples():
            second = evaluate(upstream, tmp_path, provider, epochs=3)
    assert upstream.calls == 9
    assert len({answer for _, _, answer in first}) == 9
    assert sorted(answer for _, _, answer in second) == sorted(answer for _, _, answer in first)


def test_in_replay_nothing_leaves(upstream: Upstream, tmp_path: Path) -> None:
    async def ask() -> None:
        model = get_model("openai/gpt-4o", base_url=upstream.base_url, api_key="none")
        await model.generate("hi")

    with patch_all(), Cache.memory(mode="replay"), pytest.raises(ReplayMissError):
        asyncio.run(ask())
    assert upstream.calls == 0
