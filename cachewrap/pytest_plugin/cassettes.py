"""Cassettes: where that of a test is, what its marker says of it, and what a whole run used."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.policy import rules_of
from cachewrap.pytest_plugin.environment import FOLDER
from cachewrap.stores.jsonl import JsonlStore

FIXTURES: Final = "fixtures.jsonl"
"""The cassette of fixtures that outlive a test."""

COMMAND: Final = "pytest --llm-cache="
"""How a command begins that records: the mode follows, and the tests."""

_FEW: Final = 4  # tests that are named one by one
_LONGEST: Final = 100
_ODD: Final = re.compile(r"[^A-Za-z0-9_.=+-]+")
_KEPT: Final = re.compile(r"(?!fixtures$)(?!.*-[0-9a-f]{8}$)[^A-Z]*[^A-Z.]", re.DOTALL)
"""Names that are kept: capital letters, a dot at the end and what looks like a hash are not."""

_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)
"""What Windows takes for a device, in every folder."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The wish of a test, as its markers say it; the closest one decides.

    Args:
        cassette: the cassette's name; None for the test's own.
        reads: the names of cassettes that are read behind it.
        mode: the mode; None for the mode of the run.
        seed: the seed of the entries.
        options: any other `CacheOptions`.
    """

    cassette: str | None
    reads: tuple[str, ...]
    mode: str | None
    seed: Any
    options: dict[str, Any]


def wish_of(item: pytest.Item) -> Wish:
    """What the markers ask for. Raises `pytest.UsageError` for what they cannot."""
    given: dict[str, Any] = {}
    for marker in item.iter_markers("llm_cache"):
        if len(marker.args) > 1:
            raise pytest.UsageError("@pytest.mark.llm_cache takes one name of a cassette")
        named = dict(zip(("cassette",), marker.args, strict=False))
        given = {**named, **marker.kwargs, **given}
    cassette, mode = given.pop("cassette", None), given.pop("mode", None)
    reads = given.pop("reads", ())
    if not isinstance(reads, str | list | tuple):
        raise pytest.UsageError(f"reads= takes names of cassettes, got {reads!r}")
    names = (reads,) if isinstance(reads, str) else tuple(reads)
    return Wish(cassette, names, mode, given.pop("seed", 41), given)


def rules_for(item: pytest.Item) -> object:
    """The rules of equality that a fixture `llm_cache_same` gives a test, or the ini file's.

    Raises `pytest.UsageError`.
    """
    manager: Any = item.session._fixturemanager
    definitions: Any = manager.getfixturedefs("llm_cache_same", item) or ()
    if len(definitions) < 2:  # none but the plugin's own
        return rules_of_run(item.config)
    function: Any = definitions[-1].func
    takes = list(inspect.signature(function).parameters)
    if takes not in ([], ["self"]) or any(is_one(function) for is_one in _NO_PLAIN_FUNCTIONS):
        raise pytest.UsageError(
            "the fixture llm_cache_same takes no other fixture, and returns the rules: they are "
            "needed before any fixture is set up"
        )
    given = function(None) if takes else function()
    try:
        return rules_of_run(item.config) if given is None else rules_of(given)
    except ConfigurationError as error:
        raise pytest.UsageError(f"the fixture llm_cache_same: {error}") from error


_NO_PLAIN_FUNCTIONS: Final = (
    *(inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction),
)


def rules_of_run(config: pytest.Config) -> object:
    """The rules of equality that the ini file names; None for none.

    Raises `pytest.UsageError`.
    """
    named = config.getini("llm_cache_same")
    if not named:
        return None
    if _rules not in config.stash:
        beside = config.inipath.parent if config.inipath else config.rootpath
        try:
            config.stash[_rules] = rules_of(beside / named)
        except ConfigurationError as error:
            raise pytest.UsageError(f"the ini option llm_cache_same: {error}") from error
    return config.stash[_rules]


_rules: Final = pytest.StashKey[object]()


@dataclass(frozen=True, slots=True)
class Places:
    """The places of the cassettes of one module.

    Args:
        base: the folder of all cassettes.
        folder: the module's own, in ``base``.
        module: the test module.
    """

    base: Path
    folder: Path
    module: Path

    def cassette(self, item: pytest.Item, wish: Wish) -> Path:
        """The cassette of a test: its own, a named one of its module, or of all modules."""
        if wish.cassette is None:
            return self.folder / f"{file_name(item)}.jsonl"
        return self.named(wish.cassette)

    def named(self, name: str) -> Path:
        """A cassette by its name. Raises `pytest.UsageError`."""
        path = safe_path(name)
        return (self.folder if len(path) == 1 else self.base).joinpath(*path)


def safe_path(name: object) -> list[str]:
    """The parts of the path of a named cassette, in its folder on every system.

    What file systems take badly is replaced, as in the names of tests, and so are names that only
    some of them tell apart; a hash keeps those apart. Raises `pytest.UsageError` for a path out of
    the folder, and for no name.
    """
    whole = name.removesuffix(".jsonl") if isinstance(name, str) else ""
    parts = [part for part in whole.split("/") if part]
    if not parts or ".." in parts or re.match("/[^/]", whole):
        raise pytest.UsageError(
            f"{name!r} is no name of a cassette: write a name, or folder/name for one that several"
            " modules share"
        )
    safe = [_cleaned(part, safe=_KEPT.fullmatch(part) is not None) for part in parts]
    if "/".join(parts) != whole:
        safe[-1] = _with_hash(safe[-1], whole)
    return [*safe[:-1], f"{safe[-1]}.jsonl"]


def places_of(item: pytest.Item) -> Places:
    """Where the cassettes of a test's module are."""
    module, root = item.path, item.config.rootpath
    chosen = item.config.getini("llm_cache_dir")
    if not chosen:
        base = module.parent / FOLDER
        return Places(base, base / module.stem, module)
    base = root / os.path.expanduser(chosen)
    inside = module.relative_to(root) if module.is_relative_to(root) else Path(module.name)
    return Places(base, base / inside.with_suffix(""), module)


def on_command_line(nodeid: str, config: pytest.Config) -> str:
    """A test as it is named on a command line, from the folder in which pytest was started."""
    path, colons, rest = nodeid.partition("::")
    with suppress(ValueError):  # it is on another drive
        path = os.path.relpath(config.rootpath / path, config.invocation_params.dir)
    return shlex.quote(f"{path}{colons}{rest}")


def file_name(item: pytest.Item) -> str:
    """The name of a test as a file name: its class, function and parameters.

    What file systems or shells take badly is replaced, and what is too long is cut; a hash then
    keeps names apart.
    """
    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    function, bracket, parameters = item.name.partition("[")
    plain = f"{function}-{parameters.removesuffix(']')}" if bracket else function
    full = ".".join([*classes, plain])
    return _cleaned(full, safe=True)


def _cleaned(full: str, *, safe: bool) -> str:
    name = _ODD.sub("-", full)
    if _DEVICE.match(name):
        name = f"_{name}"
    return name if safe and name == full and len(name) <= _LONGEST else _with_hash(name, full)


def _with_hash(name: str, full: str) -> str:
    digest = hashlib.sha256(full.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[:_LONGEST].rstrip('-.')}-{digest}"


def commands(missed: Collection[tuple[str, str, str]]) -> list[str]:
    """The commands that record what was missed, one for each mode.

    Args:
        missed: as a `Tally` has it.
    """
    tests: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for _, _, command in sorted(missed):
        mode, _, test = command.removeprefix(COMMAND).partition(" ")
        if test:
            tests[mode][test] = None
    return [f"{COMMAND}{mode} {' '.join(_few(named))}" for mode, named in sorted(tests.items())]


def _few(tests: Collection[str]) -> list[str]:
    """The tests, or the modules that they are in where these are too many to be read."""
    if len(tests) <= _FEW:
        return [*tests]
    paths = (shlex.split(test)[0].partition("::")[0] for test in tests)
    return [shlex.quote(path) for path in dict.fromkeys(paths)]


class Tally:
    """The sum of a run.

    Attributes:
        counts: calls ``replayed``, ``recorded`` and ``refreshed``, and ``bypassed``.
        missed: each test that missed a request in mode replay, what it was told, and the command
            that records the request.
        tests: the tests that had a cassette.
        owners: for each cassette the tests that have it.
        named: for each cassette that tests may share, the tests that named it.
        passed: for each cassette the tests that ran to their end with it, and passed.
        used: for each cassette the seed and key of its used entries.
        asking: for each folder of all cassettes the tests that name some while they run.
        complete: for each folder of a module's cassettes the module, if all its tests were chosen.
        bases: the folders of all cassettes, each with a mark if no test was left out of the run.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.missed: set[tuple[str, str, str]] = set()
        self.tests: set[str] = set()
        self.owners: defaultdict[str, set[str]] = defaultdict(set)
        self.named: defaultdict[str, set[str]] = defaultdict(set)
        self.passed: defaultdict[str, set[str]] = defaultdict(set)
        self.used: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self.asking: defaultdict[str, set[str]] = defaultdict(set)
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
            if path in self.named and not (self._is_whole(path) and self._asked_all(path)):
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

    def _asked_all(self, path: str) -> bool:
        """Whether all tests that name cassettes while they run, perhaps this one, have passed."""
        passed = set().union(*self.passed.values())
        return all(
            tests <= passed
            for base, tests in self.asking.items()
            if Path(path).is_relative_to(base)
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
        return sorted(
            path
            for path in found - self.owners.keys()
            if not path.endswith(os.sep + FIXTURES) and self._asked_all(path)
        )


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
