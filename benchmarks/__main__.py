"""Runs the benchmarks and prints a table, or JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial

from benchmarks import decorated, patched
from benchmarks.harness import Result, Row, measure
from benchmarks.requests import BIG, SMALL

GROUPS: dict[str, Callable[[], AbstractContextManager[list[Row]]]] = {
    f"{title}, {size.name}": partial(rows, size)
    for title, rows in {
        "function on disk": decorated.disk,
        "function in memory": decorated.memory,
        "function on redis": decorated.on_redis,
        "openai chat": patched.chat,
    }.items()
    for size in (SMALL, BIG)
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("words", nargs="*", help="run the groups whose title has one of these")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each row (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    options = parser.parse_args()

    results: list[Result] = []
    for title, rows in GROUPS.items():
        if options.words and not any(word in title for word in options.words):
            continue
        with rows() as opened:
            results += measure(title, opened, options.rounds)
    if options.json:
        print(json.dumps({"on": versions(), "results": [asdict(one) for one in results]}, indent=1))
    else:
        print_table(results)
    return 1 if options.check and any(one.missed for one in results) else 0


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    names = ["cachewrap", "diskcache", "redis", "openai", "wrapt", "msgspec"]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            found[name] = "not installed"
    return found


def print_table(results: list[Result]) -> None:
    """Print one line for each row, under the title of its group."""
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    group = ""
    for one in results:
        if one.group != group:
            group = one.group
            print(f"\n{group:<34}{'µs':>10}{'x floor':>10}{'at most':>10}")
        target = "" if one.target is None else f"{one.target:.1f}"
        mark = " MISSED" if one.missed else ""
        print(f"  {one.row:<32}{one.microseconds:>10.1f}{one.ratio:>10.2f}{target:>10}{mark}")


if __name__ == "__main__":
    sys.exit(main())
