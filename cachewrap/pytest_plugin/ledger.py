"""The sum of a run: what tests and workers did with their cassettes, and what none used."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from cachewrap.errors import StoreError
from cachewrap.pytest_plugin.places import FIXTURES
from cachewrap.stores.jsonl import JsonlStore

_FIXTURES = os.sep + FIXTURES


class Ledger:
    """The sum of a run.

    Attributes:
        counts: calls ``replayed``, ``recorded`` and ``refreshed``, and ``bypassed``.
        missed: each test that missed a request in mode replay, and what it was told.
        tests: the tests that had a cassette.
        owners: for each cassette the tests that have it.
        named: for each cassette that tests may share, the tests that named it.
        passed: for each cassette the tests that ran to their end with it, and passed.
        used: for each cassette the seed and key of its used entries.
        complete: for each folder of a module's cassettes the module, if all its tests were chosen.
        bases: the folders of all cassettes, each with a mark if no test was left out of the run.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.missed: set[tuple[str, str]] = set()
        self.tests: set[str] = set()
        self.owners: defaultdict[str, set[str]] = defaultdict(set)
        self.named: defaultdict[str, set[str]] = defaultdict(set)
        self.passed: defaultdict[str, set[str]] = defaultdict(set)
        self.used: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self.complete: defaultdict[str, set[str]] = defaultdict(set)
        self.bases: defaultdict[str, set[str]] = defaultdict(set)

    def as_plain(self) -> dict[str, Any]:
        """The sum as plain values, to be sent from a worker."""
        return {n: dict(sum) if isinstance(sum, dict) else sum for n, sum in vars(self).items()}

    def add_plain(self, plain: dict[str, Any]) -> None:
        """Add the sum of a worker."""
        for name in ("counts", "missed", "tests"):
            getattr(self, name).update(plain.pop(name))
        for name, sets in plain.items():
            for path, values in sets.items():
                getattr(self, name)[path] |= values

    def unused_entries(self) -> dict[str, set[tuple[str, str]]]:
        """For each cassette the entries that no test used, if every test that has it passed."""
        found = {}
        for path, owners in self.owners.items():
            if not os.path.isfile(path) or owners - self.passed[path]:
                continue
            if path in self.named and not self._is_whole(path):
                continue
            try:
                names = set(JsonlStore(path).names())
            except StoreError:
                continue  # a call has told of it, or the check of the file
            if unused := names - self.used[path]:
                found[path] = unused
        return found

    def _is_whole(self, path: str) -> bool:
        """Whether every test that may share a cassette was chosen."""
        return os.path.dirname(path) in self.complete or any(
            "whole" in marks and Path(path).is_relative_to(base)
            for base, marks in self.bases.items()
        )

    def unused_files(self) -> list[str]:
        """Cassettes that no test has, where all tests that could have them were chosen."""
        found = set()
        for folder in self.complete:
            found |= {str(path) for path in Path(folder).glob("*.jsonl")}
        for base, marks in self.bases.items():
            if "whole" in marks:
                found |= {str(path) for path in Path(base).rglob("*.jsonl")}
        # Which fixtures are set up depends on the tests that run.
        return sorted(path for path in found - self.owners.keys() if not path.endswith(_FIXTURES))


def prune(entries: dict[str, set[tuple[str, str]]], files: list[str]) -> None:
    """Remove entries, cassettes, and the folders that they leave empty. Raises `StoreError`."""
    for path, names in entries.items():
        store = JsonlStore(path)
        store.prune(names)
        store.close()
    try:
        for path in files:
            os.unlink(path)
        for path in [*entries, *files]:
            folder = os.path.dirname(path)
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
    except OSError as error:
        raise StoreError(f"cannot remove cassettes: {error}") from error
