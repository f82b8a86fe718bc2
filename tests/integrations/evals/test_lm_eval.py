"""lm-eval inside a block: its models over HTTP ask by requests, or by aiohttp where several do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

lm_eval = pytest.importorskip("lm_eval", reason="runs in `evals`")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")  # before its data sets are imported

from lm_eval.tasks import TaskManager
from standin import Upstream

from cachewrap import Cache, ReplayMissError, patch_all


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def evaluate(up: Upstream, folder: Path, kind: str, at_once: int) -> list[str]:
    """The answers to four questions of a task of our own."""
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps({"q": f"q {n}", "a": "a"}) + "\n" for n in range(4)))
    task: dict[str, Any] = {
        "task": "ours",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions)}, "cache_dir": str(folder)},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    }
    path = "chat/completions" if "chat" in kind else "completions"
    told = lm_eval.simple_evaluate(
        model=kind,
        model_args={
            "model": "llama",
            "base_url": f"{up.base_url}/{path}",
            "num_concurrent": at_once,
            "max_retries": 1,
            "tokenizer_backend": None,
            "tokenized_requests": False,
        },
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template="chat" in kind,
        bootstrap_iters=0,
    )
    return sorted(sample["resps"][0][0] for sample in told["samples"]["ours"])


KINDS = pytest.mark.parametrize(
    ("kind", "at_once"),
    [
        pytest.param("local-chat-completions", 1, id="chat by requests"),
        pytest.param("local-chat-completions", 3, id="chat by aiohttp"),
        pytest.param("local-completions", 1, id="completions by requests"),
        pytest.param("local-completions", 3, id="completions by aiohttp"),
    ],
)


@KINDS
def test_the_second_run_makes_no_upstream_call(
    upstream: Upstream, tmp_path: Path, kind: str, at_once: int
) -> None:
    with patch_all(), Cache.memory() as cache:
        first = evaluate(upstream, tmp_path, kind, at_once)
        assert evaluate(upstream, tmp_path, kind, at_once) == first
    assert (upstream.calls, cache.stats.hits) == (4, 4)


@KINDS
def test_in_replay_nothing_leaves(
    upstream: Upstream, tmp_path: Path, kind: str, at_once: int
) -> None:
    with patch_all(), Cache.memory(mode="replay"), pytest.raises(ReplayMissError):
        evaluate(upstream, tmp_path, kind, at_once)
    assert upstream.calls == 0
