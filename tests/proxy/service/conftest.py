"""A service in this process and in one of its own, with an upstream that does as it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.service.plain import Client, Command, Slow


@pytest.fixture
def upstream() -> Iterator[Slow]:
    one = Slow()
    yield one
    one.close()


@pytest.fixture
def connect() -> Iterator[Callable[[str], Client]]:
    made: list[Client] = []

    def make(root: str) -> Client:
        made.append(Client(root))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts ``cachewrap serve`` on a free port, with a cache of the test's own."""
    started: list[subprocess.Popen[str]] = []
    clean = {n: v for n, v in os.environ.items() if not n.startswith("CACHEWRAP_")}

    def start(*words: str, **variables: str) -> Command:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cachewrap",
                "serve",
                f"{tmp_path}/cache",
                "--port",
                "0",
                *words,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, **variables},
        )
        started.append(process)
        return Command(process)

    yield start
    for process in started:
        process.kill()
        process.communicate()
