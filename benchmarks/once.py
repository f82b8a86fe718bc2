"""What is measured once and not in turns: the import, the size of a database, the memory."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Result
from benchmarks.patched import client_of, patched
from benchmarks.requests import text
from cachewrap import Cache, llm_cached

_LETTERS = string.ascii_letters + string.digits
_EMPTY = [sys.executable, "-c", "pass"]
_IMPORT = [sys.executable, "-c", "import cachewrap"]
_USE = [sys.executable, "-c", "from cachewrap import Cache, llm_cached; Cache.disk()"]


def importing(rounds: int) -> list[Result]:
    """`import cachewrap`, beside an interpreter that imports nothing."""
    times: dict[str, list[float]] = {"empty": [], "import": [], "use": []}
    for _ in range(rounds):
        for name, command in (("empty", _EMPTY), ("import", _IMPORT), ("use", _USE)):
            start = time.perf_counter()
            subprocess.run(command, check=True)
            times[name].append(time.perf_counter() - start)
    empty = median(times["empty"])
    allowed = (empty + 0.025) / empty
    rows = (
        ("python -c pass", "empty", None),
        ("python -c 'import cachewrap'", "import", allowed),
        ("the same, and the first Cache.disk()", "use", None),
    )
    return [
        Result(
            "import",
            row,
            median(times[name]) * 1e6,
            median(times[name]) / empty,
            target,
            min(times[name]) / min(times["empty"]),
        )
        for row, name, target in rows
    ]


_FIRST = """
from cachewrap import Cache, llm_cached

@llm_cached
def complete(prompt: str) -> str:
    return "an answer"

with Cache.disk(cache_path_root=%r):
    complete(%s)
"""
_NEW = "repr(__import__('time').time())"


def starting(rounds: int) -> list[Result]:
    """What a fresh process takes for its first call, and for being run in a cache.

    Targets are milliseconds beyond what the same program takes without cachewrap.
    """
    with tempfile.TemporaryDirectory() as folder:

        def python(code: str) -> list[str]:
            return [sys.executable, "-c", code]

        def cached(code: str) -> list[str]:
            start = [sys.executable, "-m", "cachewrap", "run", "--quiet", "--disk", folder]
            return [*start, "-c", code]

        commands = {
            "an empty program": (_EMPTY, "", 0.0),
            "first call of a function, a miss": (
                python(_FIRST % (folder, _NEW)),
                "an empty program",
                0.1,
            ),
            "first call of a function, a hit": (
                python(_FIRST % (folder, "'x'")),
                "an empty program",
                0.1,
            ),
            "cachewrap run, an empty program": (cached("pass"), "an empty program", 0.06),
            "a program that imports openai": (python("import openai"), "", 0.0),
            "cachewrap run, one that imports openai": (
                cached("import openai"),
                "a program that imports openai",
                0.1,
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, (command, _, _) in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True)
                times[name].append(time.perf_counter() - start)
    found = []
    for name, (_, floor, allowed) in commands.items():
        own, beside = times[name][1:], times[floor or name][1:]
        target = (median(beside) + allowed) / median(beside) if floor else None
        found.append(
            Result(
                "a fresh process",
                name,
                median(own) * 1e6,
                median(own) / median(beside),
                target,
                min(own) / min(beside),
            )
        )
    return found


def file_size(number: int) -> list[Result]:
    """Bytes of the database for each entry, beside the compact JSON of request and answer.

    The texts are words drawn from 80 of the commonest of English. Answers of the SDK are of 1,265
    bytes each, structure and all.
    """
    group = f"bytes an entry, {number:,}"
    found = []
    for row, run, target in (
        ("database, a function's answers", _decorated, None),
        ("database, the SDK's answers", _sdk, 0.5),
    ):
        with tempfile.TemporaryDirectory() as folder:
            with Cache.disk(cache_path_root=folder):
                total = run(number)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        found += [
            Result(group, "compact JSON", total / number, 1.0, None),
            Result(group, row, size / number, size / total, target),
        ]
    return found


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _completion(index: int, content: str) -> dict[str, Any]:
    """The body of a chat completion, with every field that OpenAI sends."""
    draw = random.Random(index)
    none = dict.fromkeys(("reasoning_tokens", "audio_tokens"), 0)
    predicted = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    asked, told = draw.randint(100, 400), draw.randint(100, 400)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": [],
    }
    return {
        "id": f"chatcmpl-{''.join(draw.choices(_LETTERS, k=29))}",
        "object": "chat.completion",
        "created": 1_790_000_000 + index,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": told,
            "total_tokens": asked + told,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": none | predicted,
        },
        "service_tier": "default",
        "system_fingerprint": f"fp_{draw.getrandbits(40):010x}",
    }


def _decorated(number: int) -> int:
    total = 0

    @llm_cached
    def complete(messages: Any, *, model: str) -> Any:
        return answer

    for index in range(number):
        messages = [{"role": "user", "content": text(1_000, index)}]
        answer = {"id": f"chatcmpl-{index}", "content": text(1_200, -index - 1)}
        total += len(_compact([messages, answer]))
        complete(messages, model="gpt-4o-mini")
    return total


def _sdk(number: int) -> int:
    total = 0
    client = client_of(lambda: (body.encode(), "application/json"))
    with patched(None):
        for index in range(number):
            messages: Any = [{"role": "user", "content": text(1_000, index)}]
            asked = {"messages": messages, "model": "gpt-4o-mini"}
            body = _compact(_completion(index, ""))
            body = _compact(_completion(index, text(1_265 - len(body), -index - 1)))
            total += len(_compact(asked)) + len(body)
            client.chat.completions.create(**asked)
    return total


def memory(number: int) -> list[Result]:
    """Resident kilobytes after 1,000 distinct hits from disk, and after many more."""
    return _memory("resident KB", "_replay", number)


def sdk_memory(number: int) -> list[Result]:
    """The same of the patched SDK."""
    return _memory("resident KB of the SDK", "_replay_sdk", number)


def _memory(group: str, program: str, number: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        code = f"from benchmarks import once\nonce.{program}({folder!r}, {number})"
        told = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
    first, last = map(float, told.stdout.split())
    return [
        Result(group, "after 1,000 distinct hits", first, 1.0, None),
        Result(group, f"after {number:,} distinct hits", last, last / first, 1.05),
    ]


def _replay(folder: str, number: int) -> None:
    @llm_cached
    def complete(n: int) -> str:
        return text(1_200, n % 50)

    _replays(folder, number, complete)


def _replay_sdk(folder: str, number: int) -> None:
    texts = [_compact(_completion(index, text(1_000, index))) for index in range(50)]
    asked = 0

    client = client_of(lambda: (texts[asked % 50].encode(), "application/json"))
    with patched(None):

        def ask(n: int) -> None:
            nonlocal asked
            asked = n
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": f"question {n}"}]
            )

        _replays(folder, number, ask)


def _replays(folder: str, number: int, ask: Callable[[int], object]) -> None:
    def resident() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1])

    with Cache.disk(cache_path_root=folder):
        for index in range(number):
            ask(index)
    with Cache.disk(cache_path_root=folder) as cache:
        for index in range(1_000):
            ask(index)
        first = resident()
        for index in range(1_000, number):
            ask(index)
        assert cache.stats.hits == number
    print(first, resident())
