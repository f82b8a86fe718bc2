"""A library that another thread is importing while it is patched."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.http.patcher import HttpPatcher

NAME = "slow_library"
SOURCE = """
from {here} import GO, STARTED
STARTED.set()
assert GO.wait(60)
class Client:
    def send(self):
        return "sent"
"""
STARTED, GO = Event(), Event()


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{NAME}.py").write_text(SOURCE.format(here=__name__))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.syspath_prepend(tmp_path)
    STARTED.clear()
    GO.clear()
    yield
    sys.modules.pop(NAME, None)


def patched() -> HttpPatcher:
    def answer(patcher: Any, wrapped: Any, client: Any, args: Any, kwargs: Any) -> str:
        return "answered"

    return HttpPatcher({NAME: [("Client", "send", answer)]})


def patch(patcher: HttpPatcher) -> None:
    patcher.patch(Cache.memory(), None, None, None, carry=False)


@pytest.mark.parametrize("before", [True, False], ids=["patched before too", "patched meanwhile"])
def test_it_is_patched_when_its_import_is_over(before: bool) -> None:
    patcher = patched()
    if before:
        patch(patcher)
    with ThreadPoolExecutor(2) as pool:
        imported = pool.submit(importlib.import_module, NAME)
        assert STARTED.wait(60)
        patching = pool.submit(patch, patcher)
        GO.set()
        patching.result(60)
        assert imported.result(60).Client().send() == "answered"
    patcher.undo()
    assert sys.modules[NAME].Client().send() == "sent"
