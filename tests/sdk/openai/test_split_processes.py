"""Lists that two processes ask for at the same time, over one store: each element is asked once.

What comes is compared with what upstream says of each element by itself. Each example is another
interleaving: who asks for what, beside whom, how long upstream takes, and which requests fail.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from examples_tried import many
from hypothesis import HealthCheck, given, settings, strategies as st
from standin import Upstream
from standin.api import answer
from standin.wire import Draw, Request

from sdk.openai.lists_elsewhere import FAILED

_WORKER = Path(__file__).with_name("lists_elsewhere.py")

INTERLEAVINGS = 10_000 if many(4) == 4 else 120
"""Of which each store has a third."""

TEXTS = ("a", "b", "c", "ä b", "世界🌍")
TOKENS = ((1,), (2, 3), (3, 2))

elements = st.one_of(
    st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6),
    st.lists(st.sampled_from(TOKENS).map(list), min_size=1, max_size=4),
    st.sampled_from(TEXTS),
)
asked = st.fixed_dictionaries(
    {"input": elements, "encoding_format": st.sampled_from(["float", "base64"])},
    optional={"dimensions": st.just(3)},
)
workers = st.fixed_dictionaries(
    {
        "tasks": st.booleans(),
        "callers": st.lists(st.lists(asked, min_size=1, max_size=2), min_size=1, max_size=3),
    }
)
interleavings = st.fixed_dictionaries(
    {
        "workers": st.tuples(workers, workers),
        "delay": st.sampled_from([0.0, 0.001, 0.004]),
        "fails": st.sampled_from([0, 0, 0, 1, 2]),
        "shuffled": st.booleans(),
    }
)


def made_unlike(value: Any, number: int) -> Any:
    """An input whose elements no other example has."""
    if isinstance(value, str):
        return f"{value}/{number}"
    return [one if isinstance(one, int) else made_unlike(one, number) for one in value] + (
        [number] if isinstance(value[0], int) else []
    )


def single(value: Any) -> list[Any]:
    """The elements of an input."""
    return [value] if isinstance(value, str) else value


def said(more: dict[str, Any], element: Any) -> Any:
    """What upstream says of an element by itself."""
    body = json.dumps({"model": "m", "input": [element], **more}).encode()
    request = Request("POST", "/v1/embeddings", "", {}, body)
    told = json.loads(b"".join(answer(request, Draw(1, steady=True)).pieces))
    return told["data"][0]["embedding"]


@contextmanager
def processes(up: Upstream, url: str) -> Iterator[Callable[[list[Any]], list[Any]]]:
    """Two processes over one store: takes what each is told, and gives what each has found."""
    command = [sys.executable, str(_WORKER), up.base_url, url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        started = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(2)]
        for one in started:
            stack.callback(one.stdin.close)  # type: ignore[union-attr]
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"

        def tell(lines: list[Any]) -> list[Any]:
            for one, line in zip(started, lines, strict=True):
                assert one.stdin is not None
                one.stdin.write(json.dumps(line) + "\n")
                one.stdin.flush()
            return [json.loads(one.stdout.readline()) for one in started if one.stdout]

        yield tell


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that several processes reach, of the kind that the test names."""
    kind = request.getfixturevalue("kind")
    if kind == "redis":
        return f"{request.getfixturevalue('redis_url')}?namespace={tmp_path.name}"
    return f"jsonl:{tmp_path}/cassette.jsonl" if kind == "jsonl" else f"disk:{tmp_path}"


@pytest.mark.timeout(3600)  # for all of them
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.stores(kind)) for kind in ("disk", "redis", "jsonl")],
)
def test_each_interleaving_gives_what_upstream_says(up: Upstream, kind: str, url: str) -> None:
    numbers = itertools.count(1)

    with processes(up, url) as tell:

        @settings(
            max_examples=INTERLEAVINGS // 3 + 1,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(interleavings)
        def holds(drawn: Any) -> None:
            number = next(numbers)
            told = [
                {
                    **worker,
                    "callers": [
                        [{**one, "input": made_unlike(one["input"], number)} for one in lists]
                        for lists in worker["callers"]
                    ],
                }
                for worker in drawn["workers"]
            ]
            up.reset()
            up.behave(steady=True, delay=drawn["delay"], shuffled=drawn["shuffled"])
            up.fail(*[500] * drawn["fails"])
            found = tell(told)
            for worker, came in zip(told, found, strict=True):
                for lists, answers in zip(worker["callers"], came, strict=True):
                    for one, vectors in zip(lists, answers, strict=True):
                        more = {name: one[name] for name in one if name != "input"}
                        wanted = [said(more, element) for element in single(one["input"])]
                        assert vectors == wanted or (vectors == FAILED and drawn["fails"])
            if not drawn["fails"]:
                # A cassette has no leases: there each process may ask once.
                most = 2 if kind == "jsonl" else 1
                assert max(asked_of(up).values()) <= most, asked_of(up)

        holds()


def asked_of(up: Upstream) -> Counter[str]:
    """How often upstream was asked for each element, and for its parameters."""
    found: Counter[str] = Counter()
    for request in up.requests:
        body = json.loads(request.body)
        for element in single(body.pop("input")):
            found[json.dumps([element, sorted(body.items())])] += 1
    return found
