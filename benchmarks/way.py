"""The way of a call through the package: how many of its functions, files and changes of file.

Run it as ``python -m benchmarks.way``; ``--trace KIND`` prints every step of one kind.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cachewrap
from benchmarks.patched import client
from benchmarks.requests import Size
from cachewrap import Cache, llm_cached, patch_openai, unpatch_openai

_PACKAGE = f"{Path(cachewrap.__file__).parent}/"
_WARM = 3
_SHORT = Size("short", 1, 20, 20)
"""An answer of a few words: a stream of one event for each."""


@dataclass
class Way:
    """What one call ran through.

    Attributes:
        steps: file and function of each call of a function of the package, in order.
        reads: how often the store was asked for an entry before upstream was.
    """

    steps: list[tuple[str, str]] = field(default_factory=list)
    reads: int = 0
    asked: bool = False

    @property
    def files(self) -> int:
        """How many files it runs through."""
        return len({file for file, _ in self.steps})

    @property
    def changes(self) -> int:
        """How often a step is in another file than the one before."""
        files = [file for file, _ in self.steps]
        return sum(one != other for one, other in pairwise(files))


def follow(call: Callable[[], Any]) -> Way:
    """The way of a call."""
    way = Way()

    def seen(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call":
            return
        if code.co_filename.startswith(_PACKAGE):
            way.steps.append((code.co_filename.removeprefix(_PACKAGE), code.co_name))
            store = "stores/" in code.co_filename and code.co_name == "get"
            way.reads += store and not way.asked
        elif code.co_name in ("upstream", "respond"):
            way.asked = True

    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(None)
    return way


def kinds() -> dict[str, Callable[[], Any]]:
    """The kinds of calls, by name; each makes a new call at each call."""
    numbers = count()

    @llm_cached
    def ask(prompt: str) -> str:
        upstream()
        return prompt.upper()

    @llm_cached
    def tell(prompt: str) -> Iterator[str]:
        upstream()
        yield from prompt.split()

    create: Any = client(_SHORT).chat.completions.create
    stream: Any = client(_SHORT, stream=True).chat.completions.create

    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    def another() -> str:
        return f"question {next(numbers)}"

    return {
        "function, hit": lambda: ask("the same"),
        "function, miss": lambda: ask(another()),
        "generator, hit": lambda: list(tell("the same")),
        "generator, miss": lambda: list(tell(another())),
        "patched create, hit": lambda: create(model="m", messages=said("the same")),
        "patched create, hit, the long way": lambda: create(
            model="m", messages=said("the same"), extra_query=MappingProxyType({})
        ),
        "patched create, miss": lambda: create(model="m", messages=said(another())),
        "patched stream, hit": lambda: list(
            stream(model="m", messages=said("the same"), stream=True)
        ),
        "patched stream, miss": lambda: list(
            stream(model="m", messages=said(another()), stream=True)
        ),
    }


def upstream() -> None:
    """Marks in a trace that upstream is asked."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.way", description=__doc__)
    parser.add_argument("--trace", metavar="KIND", help="print each step of this kind")
    wanted = parser.parse_args().trace
    print(f"{'':<36}{'calls':>8}{'files':>8}{'changes':>9}{'reads':>8}")
    with tempfile.TemporaryDirectory() as folder, Cache.disk(cache_path_root=folder):
        patch_openai()
        try:
            for name, call in kinds().items():
                for _ in range(_WARM):
                    call()
                way = follow(call)
                print(f"{name:<36}{len(way.steps):>8}{way.files:>8}{way.changes:>9}{way.reads:>8}")
                if name == wanted:
                    for file, function in way.steps:
                        print(f"    {file} {function}")
        finally:
            unpatch_openai()


if __name__ == "__main__":
    main()
