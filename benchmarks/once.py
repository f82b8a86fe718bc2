"""What is measured once and not in turns: the import, the size of a database, the memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Result
from benchmarks.requests import text
from cachewrap import Cache, llm_cached

_EMPTY = [sys.executable, "-c", "pass"]
_IMPORT = [sys.executable, "-c", "import cachewrap"]


def importing(rounds: int) -> list[Result]:
    """`import cachewrap`, beside an interpreter that imports nothing."""
    times: dict[str, list[float]] = {"empty": [], "import": []}
    for _ in range(rounds):
        for name, command in (("empty", _EMPTY), ("import", _IMPORT)):
            start = time.perf_counter()
            subprocess.run(command, check=True)
            times[name].append(time.perf_counter() - start)
    empty, full = median(times["empty"]), median(times["import"])
    allowed = (empty + 0.025) / empty
    return [
        Result("import", "python -c pass", empty * 1e6, 1.0, None),
        Result("import", "python -c 'import cachewrap'", full * 1e6, full / empty, allowed),
    ]


def file_size(number: int) -> list[Result]:
    """Bytes of the database for each entry, beside the compact JSON of request and answer."""
    with tempfile.TemporaryDirectory() as folder:
        total = 0

        @llm_cached
        def complete(messages: Any, *, model: str) -> Any:
            return answer

        with Cache.disk(cache_path_root=folder):
            for index in range(number):
                messages = [{"role": "user", "content": text(1_000, index)}]
                answer = {"id": f"chatcmpl-{index}", "content": text(1_200, -index - 1)}
                total += len(json.dumps([messages, answer], separators=(",", ":")))
                complete(messages, model="gpt-4o-mini")
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return [
        Result(f"bytes an entry, {number:,}", "compact JSON", total / number, 1.0, None),
        Result(f"bytes an entry, {number:,}", "database", size / number, size / total, 0.5),
    ]


def memory(number: int) -> list[Result]:
    """Resident kilobytes after 1,000 distinct hits from disk, and after many more."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"import sys\nfrom benchmarks.once import _replay\n_replay({folder!r}, {number})"
        told = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
    first, last = map(float, told.stdout.split())
    return [
        Result("resident KB", "after 1,000 distinct hits", first, 1.0, None),
        Result("resident KB", f"after {number:,} distinct hits", last, last / first, 1.05),
    ]


def _replay(folder: str, number: int) -> None:
    @llm_cached
    def complete(n: int) -> str:
        return text(1_200, n % 50)

    def resident() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1])

    with Cache.disk(cache_path_root=folder):
        for index in range(number):
            complete(index)
    with Cache.disk(cache_path_root=folder) as cache:
        for index in range(1_000):
            complete(index)
        first = resident()
        for index in range(1_000, number):
            complete(index)
        assert cache.stats.hits == number
    print(first, resident())
