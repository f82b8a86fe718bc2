"""Runs the benchmarks and prints a table; keeps, compares and plots what was measured."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import (
    answers,
    arguments,
    cassettes,
    decorated,
    evaluation,
    growth,
    ledger,
    libraries,
    lists,
    misses,
    once,
    patched,
    rules,
    runs_diff,
    serve,
    shapes,
    writers,
)
from benchmarks.harness import Result, Row, measure
from benchmarks.plot import plots
from benchmarks.requests import BIG, SMALL

Rows = Callable[[], AbstractContextManager[list[Row]]]


def groups(entries: int) -> dict[str, Rows]:
    """The groups that are measured in turns, by title."""
    sized = {
        "function on disk": decorated.disk,
        "function in memory": decorated.memory,
        "function on redis": decorated.on_redis,
        "miss on disk": decorated.misses,
        "openai chat": patched.chat,
        "openai stream": patched.stream,
    }
    found: dict[str, Rows] = {
        f"{title}, {size.name}": partial(rows, size)
        for title, rows in sized.items()
        for size in (SMALL, BIG)
        if (title, size) != ("openai stream", BIG)
    }
    return (
        found
        | shapes.groups()
        | arguments.groups()
        | libraries.groups()
        | answers.groups()
        | misses.groups()
        | lists.groups()
        | {
            "caching off": partial(decorated.off, SMALL),
            "openai async": partial(patched.concurrent, SMALL),
            "hits by messages": growth.messages,
            "hits by size of the answer": growth.entries,
            "function on JSONL": cassettes.hits,
            "miss on JSONL": cassettes.misses,
            "opening a cassette": cassettes.openings,
            "size of the store": partial(growth.stores, entries),
            "opening a store": partial(growth.openings, entries),
            "listing a store": partial(growth.listings, entries),
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "words",
        nargs="*",
        help="run what has one of these in its title; without any, all but what takes long",
    )
    parser.add_argument("--rounds", type=int, default=100, help="turns of each row (%(default)s)")
    parser.add_argument(
        "--entries", type=int, default=1_000_000, help="in the large store (%(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="keep what was measured")
    parser.add_argument("--compare", metavar="FILE", help="show the ratios of an earlier run too")
    parser.add_argument("--plots", metavar="FOLDER", help="write plots there")
    parser.add_argument(
        "--peers", metavar="PYTHON", nargs="+", default=[], help="interpreters that have peers"
    )
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    options = parser.parse_args()

    earlier: dict[tuple[str, str], float] = {}
    if options.compare:
        kept = json.loads(Path(options.compare).read_text(encoding="utf-8"))
        earlier = {(one["group"], one["row"]): one["ratio"] for one in kept["results"]}
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    results: list[Result] = []
    for found in _measured(options):
        print_group(found, earlier)
        results += found
    if options.json:
        kept = {"on": versions(), "results": [asdict(one) for one in results]}
        Path(options.json).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if options.plots:
        for name, svg in plots(results).items():
            Path(options.plots, name).write_text(svg, encoding="utf-8")
    return 1 if options.check and any(one.missed for one in results) else 0


def _measured(options: argparse.Namespace) -> Iterator[list[Result]]:
    def wanted(title: str) -> bool:
        return not options.words or any(word in title for word in options.words)

    for title, rows in groups(options.entries).items():
        if wanted(title):
            with rows() as opened:
                yield measure(title, opened, options.rounds)
    if wanted("import"):
        yield once.importing(min(options.rounds, 20))
    if wanted("a fresh process"):
        yield once.starting(min(options.rounds, 20))
    if wanted("bytes an entry"):
        yield once.file_size(10_000)
    if wanted("resident KB"):
        yield once.memory(100_000)
    if options.words and wanted("resident KB of the SDK"):  # some minutes
        yield once.sdk_memory(100_000)
    if wanted("hits in a second"):
        rates = growth.throughput()
        one = rates["1 thread"]
        yield [
            Result("hits in a second", name, rate, rate / one, None) for name, rate in rates.items()
        ]
    if wanted("misses of six processes"):
        yield writers.six_writers()
    if wanted("hits by several at once"):
        yield writers.readers()
    if wanted("async hits at once"):
        yield writers.tasks()
    if wanted("rules"):
        yield from _split(rules.hits(options.rounds))
    if options.words and wanted("ledger"):
        yield from _split(ledger.hits(max(3, options.rounds // 10)))
        yield ledger.sizes(100_000)
    if options.words and wanted("serve: latency"):
        yield from _split(serve.latency(options.rounds))
        yield serve.throughput()
        yield serve.faults()
    if options.words and wanted("serve: memory"):  # some minutes
        yield serve.memory()
    if options.words and wanted("a diff of two runs"):  # some minutes
        yield runs_diff.comparison()
    if options.words and wanted("evaluation"):  # a minute for each round
        yield from evaluation.evaluation(max(1, options.rounds // 50))
    for python in options.peers:
        command = [python, "-m", "benchmarks.peers", str(min(options.rounds, 30))]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield [Result(**one) for one in json.loads(told.splitlines()[-1])]


def _split(results: list[Result]) -> Iterator[list[Result]]:
    """The results of each group."""
    for title in dict.fromkeys(one.group for one in results):
        yield [one for one in results if one.group == title]


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    names = ["cachewrap", "diskcache", "redis", "openai", "wrapt", "msgspec", "pydantic"]
    found = {"date": datetime.date.today().isoformat(), "python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            found[name] = "from source"
    return found


def print_group(results: list[Result], earlier: dict[tuple[str, str], float]) -> None:
    """Print one line for each row, under the title of its group."""
    group = ""
    for one in results:
        if one.group != group:
            group = one.group
            compared = f"{'was':>10}" if earlier else ""
            print(f"\n{group:<36}{'µs':>12}{'x floor':>10}{'best':>10}{compared}{'at most':>10}")
        target = "" if one.target is None else f"{one.target:.3g}"
        mark = " MISSED" if one.missed else ""
        before = earlier.get((one.group, one.row))
        was = "" if not earlier else f"{before:>10.2f}" if before is not None else " " * 10
        measured = f"{one.microseconds:>12.1f}{one.ratio:>10.3f}{one.best or one.ratio:>10.3f}"
        print(f"  {one.row:<34}{measured}{was}{target:>10}{mark}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
