"""DSPy inside a block, its own cache off: what goes through the OpenAI SDK is cached."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or LiteLLM asks the network at its import
dspy = pytest.importorskip("dspy", reason="runs in `libraries` and `earlier`")

from integrations.ways import (
    Way,
    ask_twice,
    check_second_run_is_free,
    check_uncached_runs_differ,
    each,
)
from standin import Upstream

from cachewrap import Cache, patch_all, patch_dspy

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


# -- the default engine ---------------------------------------------------------------------------

native = pytest.mark.skipif(not NATIVE, reason="before DSPy 3.4 every call goes through LiteLLM")


def own_engine(up: Upstream, **options: Any) -> Any:
    return model(up, engine="auto", **options)


def own(up: Upstream) -> Any:
    return own_engine(up)("hi")


async def aown(up: Upstream) -> Any:
    return await own_engine(up).acall("hi")


def own_program(up: Upstream) -> Any:
    with dspy.context(lm=own_engine(up)):
        return Program()(question="hi").answer


def own_parallel(up: Upstream) -> Any:
    pairs = [(Program(), {"question": word}) for word in "abcd"]
    with dspy.context(lm=own_engine(up)):
        found = dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)
        return [prediction.answer for prediction in found]


def own_responses(up: Upstream) -> Any:
    return own_engine(up, model_type="responses")("hi")


def stream_of(up: Upstream) -> Any:
    """The chunks that a program streams."""

    class Ask(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            return self.ask(question=question)

    return dspy.streamify(Ask(), async_streaming=True)(question="hi")


async def own_stream(up: Upstream) -> Any:
    """How many chunks came, and what they came to."""
    lm, chunks = own_engine(up, num_retries=0), 0
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    # The stand-in's text is in no format of DSPy's.
    unreadable = contextlib.suppress(dspy.utils.exceptions.AdapterParseError)
    with dspy.context(lm=lm, adapter=adapter), unreadable:
        async for _ in stream_of(up):
            chunks += 1
    return chunks, lm.history[-1]["outputs"]


@native
@each([(own, 1), (aown, 1), (own_program, 1), (own_parallel, 4), (own_responses, 1)])
def test_the_default_engine_makes_no_upstream_call_the_second_time(
    upstream: Upstream, ask: Way, calls: int
) -> None:
    with patch_dspy(hosts=["127.0.0.1:*"]):
        check_second_run_is_free(upstream, ask, calls)


@native
def test_the_default_engine_streams_from_the_cache(upstream: Upstream) -> None:
    with patch_dspy(hosts=["127.0.0.1:*"]):
        check_second_run_is_free(upstream, own_stream, 1)
    assert b'"stream":true' in upstream.last.body.replace(b" ", b"")


@native
@each([(own, 1), (aown, 1), (own_stream, 1)])
def test_a_model_of_ones_own_on_loopback_is_cached_without_a_word(
    upstream: Upstream, ask: Way, calls: int
) -> None:
    with patch_all():
        check_second_run_is_free(upstream, ask, calls)


@native
def test_the_default_engine_does_not_pass_the_sdk(upstream: Upstream) -> None:
    _, made, _, after, cache = ask_twice(upstream, own)
    assert (made, after) == (1, 2)
    assert cache.stats.misses == 0


@native
def test_unpatching_leaves_the_default_engine_as_it_was() -> None:
    from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport

    def now() -> list[Any]:
        return [StdlibTransport.stream.__code__, StdlibAsyncTransport._do_stream.__code__]

    before = now()
    with patch_dspy():
        assert not any(a is b for a, b in zip(now(), before, strict=True))
    assert all(a is b for a, b in zip(now(), before, strict=True))


@native
@pytest.mark.parametrize("manner", [{"status": 500}, {"cut_after": 3}, {"gzip": True}], ids=str)
def test_the_default_engine_stores_whole_answers_alone(
    upstream: Upstream, manner: dict[str, Any]
) -> None:
    upstream.behave(**manner)
    with patch_dspy(hosts=["127.0.0.1:*"]), Cache.memory() as cache:
        failed = 0
        for _ in range(2):
            try:
                asyncio.run(own_stream(upstream))
            except Exception:
                failed += 1
    assert (failed, cache.stats.stored) == ((0, 1) if "gzip" in manner else (2, 0))
