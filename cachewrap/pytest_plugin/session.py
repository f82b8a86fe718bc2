"""One run of pytest: the cache that a test has, when it is active, and what is told at the end."""

from __future__ import annotations

import inspect
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

from cachewrap.errors import CachewrapError, ConfigurationError, ReplayMissError, StoreError
from cachewrap.policy import Mode, check_mode, seed_text
from cachewrap.pytest_plugin.cassettes import (
    FIXTURES,
    Tally,
    Wish,
    commands,
    on_command_line,
    places_of,
    prune,
    rules_for,
    rules_of_run,
    wish_of,
)
from cachewrap.pytest_plugin.environment import Placeholders, asked_mode
from cachewrap.pytest_plugin.refreshed import Comparison
from cachewrap.pytest_plugin.watched import (
    Journal,
    WatchedCache,
    WatchedStore,
    activate_inside,
    inside,
    run_of_environment,
)
from cachewrap.sdk.others import Patches, patch_all
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.stores.jsonl.lines import Name

_PACKAGE: Final = f"{Path(__file__).parents[1]}{os.sep}"
_LIBRARIES: Final = frozenset({"site-packages", "dist-packages"})
_OF_MODULES: Final = ("class", "module")
_COUNTED: Final = ("replayed", "recorded", "refreshed", "missed")


@dataclass(slots=True)
class Started:
    """The cassette of a test that runs.

    Args:
        cache: the cache on it.
        path: where it is.
        block: leaves the block.
        wish: what its markers ask for.
        paths: of the cassettes that are read behind it.
        further: the caches of other cassettes that it named while it ran, by their paths.
        failed: whether any phase so far has not passed.
        called: whether the test itself was called.
    """

    cache: WatchedCache
    path: str
    block: ExitStack
    wish: Wish
    paths: tuple[str, ...] = ()
    further: dict[str, WatchedCache] = field(default_factory=dict)
    failed: bool = False
    called: bool = False


class Session:
    """The knowledge of the plugin about a run. Made when the first test asks for a cassette."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._started: dict[str, Started] = {}
        self._fixtures: dict[str, WatchedCache] = {}
        self._needed: dict[tuple[str, Path | None], str] = {}
        self._patches: Patches | None = None
        self._unused: tuple[dict[str, set[Name]], list[str]] = {}, []
        self._replaced: defaultdict[str, dict[Name, bytes | None]] = defaultdict(dict)
        try:
            self._run = run_of_environment()
        except CachewrapError as error:
            raise pytest.UsageError(f"the run that CACHEWRAP_RUN names: {error}") from error
        self.tally = Tally()
        self.comparison = Comparison(config.get_verbosity() > 0)

    # -- modes --------------------------------------------------------------------------------

    def mode(self, marked: str | None = None) -> Mode:
        """The mode of a test, or of the run: see `asked_mode`. Raises `pytest.UsageError`."""
        given, name = asked_mode(self._config, marked)
        try:
            return check_mode(given, name)
        except ConfigurationError as error:
            raise pytest.UsageError(str(error)) from error

    def replays(self, item: pytest.Item) -> bool:
        """Whether a test asks no model."""
        try:
            return asked_mode(self._config, wish_of(item).mode)[0] == "replay"
        except pytest.UsageError:
            return True  # its set-up says so

    # -- one test -----------------------------------------------------------------------------

    def start(self, item: pytest.Item) -> Started:
        """Put a test on its cassette, if it is not there already."""
        started = self._started.get(item.nodeid)
        if started is None:
            wished = self._wished(item)
            if isinstance(wished, str):  # here, so that nothing is told as its cause once more
                pytest.fail(wished, pytrace=False)
            cache, path, wish, reads = wished
            self._patches = self._patches or patch_all()
            block = ExitStack()
            block.enter_context(cache)
            started = Started(cache, path, block, wish, reads)
            self._started[item.nodeid] = started
            self._own(item, path, wish, reads)
            activate_inside(item, cache, block)
        return started

    def _wished(self, item: pytest.Item) -> tuple[WatchedCache, str, Wish, tuple[str, ...]] | str:
        """The cache that a test asks for, on which cassette and how; a text of what is wrong."""
        try:
            wish = wish_of(item)
            places = places_of(item)
            path = str(places.cassette(item, wish))
            reads = tuple(str(places.named(name)) for name in wish.reads)
            return self._of_test(item, path, wish, reads), path, wish, reads
        except (pytest.UsageError, StoreError) as error:
            return str(error)

    def further(self, item: pytest.Item) -> Callable[..., WatchedCache]:
        """Makes the caches of further cassettes of a test, by their names."""
        started, places = self.start(item), places_of(item)

        def make(name: str, **options: Any) -> WatchedCache:
            wish = started.wish
            mode, seed = options.pop("mode", wish.mode), options.pop("seed", wish.seed)
            wish = Wish(name, (), mode, seed, {**wish.options, **options})
            path = str(places.named(name))
            if path == started.path:
                return started.cache
            if path not in started.further:
                started.further[path] = self._of_test(item, path, wish)
                self._own(item, path, wish)
            return started.further[path]

        return make

    def _of_test(
        self, item: pytest.Item, path: str, wish: Wish, reads: tuple[str, ...] = ()
    ) -> WatchedCache:
        options = {"encryption_key": None, **wish.options}
        if "same" not in options:
            options["same"] = rules_for(item)
        return self._cache(item, path, self.mode(wish.mode), wish.seed, options, reads=reads)

    def _own(self, item: pytest.Item, path: str, wish: Wish, reads: tuple[str, ...] = ()) -> None:
        self.tally.owners[path].add(item.nodeid)
        if wish.cassette is not None:
            self.tally.named[path].add(item.nodeid)
        for behind in reads:
            self.tally.owners[behind].add(item.nodeid)
            self.tally.named[behind].add(item.nodeid)

    def _cache(
        self,
        item: pytest.Item,
        path: str,
        mode: Mode,
        seed: Any,
        options: dict[str, Any],
        *,
        reads: tuple[str, ...] = (),
        test: str = "",
    ) -> WatchedCache:
        named = on_command_line(test or item.nodeid, self._config)
        journal = Journal(named, self._replaced[path], self._run)
        options = {"ledger": self._run is not None, **options}
        hooks: Any = item.ihook.pytest_llm_cache_scrub.get_hookimpls()
        if hooks:
            functions = [*(hook.function for hook in hooks), options.get("scrub")]
            options = {**options, "scrub": _all_of([one for one in functions if one])}
        try:
            partition = seed_text(seed)
            behind = [JsonlStore(read, partition) for read in reads]
            store = WatchedStore(path, partition, journal, behind)
            journal.before.update(store.names())
            return WatchedCache(store, cache_seed=seed, mode=mode, **options)
        except (ConfigurationError, TypeError) as error:
            raise pytest.UsageError(f"@pytest.mark.llm_cache: {error}") from error

    def shorten(self, call: pytest.CallInfo[None]) -> None:
        """Leave frames out of what is shown of a `ReplayMissError`: this package's own ones, and
        those of SDKs behind the last one of the project's."""
        if call.excinfo is None or not isinstance(call.excinfo.value, ReplayMissError):
            return
        shown: TracebackType | None = None
        steps = [call.excinfo.tb]
        while following := steps[-1].tb_next:
            steps.append(following)
        while len(steps) > 1 and _is_library(steps[-1]) and any(not _is_library(s) for s in steps):
            steps.pop()
        for trace in reversed(steps):
            if not trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
                shown = TracebackType(shown, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
        error = call.excinfo.value.with_traceback(shown or call.excinfo.tb)
        call.excinfo = pytest.ExceptionInfo.from_exception(error)

    def note(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Take note of how a phase of a test ended."""
        started = self._started.get(item.nodeid)
        if started is not None:
            started.failed |= not report.passed
            started.called |= report.when == "call"

    def finish(self, item: pytest.Item) -> None:
        """Take a test off its cassette, and add up what it did."""
        started = self._started.pop(item.nodeid, None)
        if started is None:
            return
        caches = {started.path: started.cache, **started.further}
        try:
            for path, cache in caches.items():
                self._compare(item.nodeid, path, cache)
        finally:
            started.block.close()
        for path, cache in caches.items():
            self._add_up(item.nodeid, path, cache)
        for path in started.paths:
            self.tally.used[path] |= started.cache.journal.used
        if started.called:
            self.tally.tests.add(item.nodeid)
        missed = any(cache.journal.missed for cache in caches.values())
        if started.called and not started.failed and not missed:
            for path in (*started.paths, *caches):
                if started.cache.policy.mode != "off":
                    self.tally.passed[path].add(item.nodeid)

    def _add_up(self, test: str, path: str, cache: WatchedCache) -> None:
        journal, tally = cache.journal, self.tally
        tally.counts.update(journal.counts)
        tally.counts["bypassed"] += cache.stats.bypassed
        tally.counts["by rule"] += cache.stats.hits_by_rule
        tally.missed.update((test, *told) for told in journal.missed.values())
        tally.used[path] |= journal.used

    def _compare(self, test: str, path: str, cache: WatchedCache) -> None:
        """Compare what was made anew on a cassette with what was there before the run."""
        for name, old, new, secret in cache.refreshed():
            self.comparison.add(path, name, old, new, test, secret=secret)
        if path not in self.tally.named:
            self._replaced.pop(path, None)  # no other test has it

    # -- fixtures -----------------------------------------------------------------------------

    @contextmanager
    def fixture(
        self,
        definition: pytest.FixtureDef[Any],
        request: pytest.FixtureRequest,
        placeholders: Placeholders,
    ) -> Iterator[None]:
        """The set-up of a fixture: one that outlives its test has a cassette of its own.

        Which test comes first and pays for it, and after which it is torn down, differs from run to
        run.
        """
        item = request._pyfuncitem
        started = self._started.get(item.nodeid)
        wide = definition.scope != "function"
        # A test without a cassette may be the first to ask for what one with a cassette needs.
        if started is None and not (wide and self._needs(definition, item)):
            yield
            return
        with ExitStack() as block:
            block.enter_context(placeholders.present())
            if started is None or wide:
                self._patches = self._patches or patch_all()
                test = item.nodeid if started else self._needing(definition, item)
                cache = self._for_fixtures(definition.scope, item, test or item.nodeid)
                block.enter_context(cache)
                # What is added last runs first: the teardown stands between the two.
                later = ExitStack()
                definition.addfinalizer(later.close)
                block.callback(definition.addfinalizer, lambda: later.enter_context(cache))
            else:
                cache = started.cache
            function = definition.func
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                definition.func = inside(function, cache)  # type: ignore[misc]
                block.callback(setattr, definition, "func", function)
            yield

    def _needs(self, definition: pytest.FixtureDef[Any], item: pytest.Item) -> bool:
        """Whether a test with a cassette, of the same module where that matters, has a fixture."""
        return self._needing(definition, item) is not None

    def _needing(self, definition: pytest.FixtureDef[Any], item: pytest.Item) -> str | None:
        module = item.path if definition.scope in _OF_MODULES else None
        return self._needed.get((definition.argname, module))

    def _for_fixtures(self, scope: str, item: pytest.Item, test: str) -> WatchedCache:
        places = places_of(item)
        folder = places.folder if scope in _OF_MODULES else places.base
        path = str(folder / FIXTURES)
        cache = self._fixtures.get(path)
        if cache is None:
            options = {"encryption_key": None, "same": rules_of_run(self._config)}
            cache = self._cache(item, path, self.mode(), 41, options, test=test)
            self._fixtures[path] = cache
            self.tally.owners[path].add("fixtures")
        return cache

    # -- the whole run ------------------------------------------------------------------------

    def collected(
        self,
        session: pytest.Session,
        wanting: list[pytest.Item],
        deselected: list[pytest.Item],
        absent: set[Path],
    ) -> None:
        """Take note of which cassettes there should be, and whether all tests were chosen.

        Args:
            session: the session that has collected them.
            wanting: the tests with a cassette, chosen or not.
            deselected: the tests that were found and not chosen.
            absent: files and folders that were ignored, and modules that were skipped or failed as
                a whole: their tests are not known.
        """
        config = self._config
        left_out = {item.path for item in deselected}
        whole = not left_out and not session.testsfailed and not config.getoption("lf", False)
        for argument in config.args:
            path, colons, _ = argument.partition("::")
            if colons:
                whole = False
                module = Path(os.path.abspath(config.invocation_params.dir / path))
                # A name of Python (--pyargs) does not tell which file it is.
                left_out |= {module} if module.exists() else {item.path for item in wanting}
        if config.getoption("lf", False):
            left_out |= {item.path for item in wanting}
        left_out |= absent
        roots = [Path(os.path.abspath(config.invocation_params.dir / arg)) for arg in config.args]
        for item in wanting:
            for name in getattr(item, "fixturenames", ()):
                self._needed.setdefault((name, item.path), item.nodeid)
                self._needed.setdefault((name, None), item.nodeid)
            places = places_of(item)
            try:
                wish = wish_of(item)
                path = str(places.cassette(item, wish))
                reads = tuple(str(places.named(name)) for name in wish.reads)
            except pytest.UsageError:
                continue  # its set-up says so
            self._own(item, path, wish, reads)
            if "llm_cassette" in getattr(item, "fixturenames", ()):
                self.tally.asking[str(places.base)].add(item.nodeid)
            if item.path not in left_out:
                self.tally.complete[str(places.folder)].add(str(places.module))
            marks = self.tally.bases[str(places.base)]
            holds = places.base if config.getini("llm_cache_dir") else places.base.parent
            if (
                whole
                and any(holds.is_relative_to(root) for root in roots)
                and not any(self._may_hold(path, places.base) for path in absent)
            ):
                marks.add("whole")

    def _may_hold(self, absent: Path, base: Path) -> bool:
        """Whether tests in a file or folder that was left out may have cassettes in ``base``."""
        if not self._config.getini("llm_cache_dir"):
            return absent.parent == base.parent and absent.is_file()
        never = ("__pycache__", *self._config.getini("norecursedirs"))
        return absent.is_file() or not any(fnmatch(absent.name, pattern) for pattern in never)

    def add_up_fixtures(self) -> None:
        """Add up what the fixtures that outlive a test did: all of them are torn down."""
        for path, cache in self._fixtures.items():
            self._compare("fixtures", path, cache)
            self._add_up("fixtures", path, cache)

    def as_plain(self) -> dict[str, Any]:
        """What was done as plain values, to be sent from a worker."""
        return {"tally": self.tally.as_plain(), "refreshed": self.comparison.as_plain()}

    def add_plain(self, plain: dict[str, Any]) -> None:
        """Add what a worker did."""
        self.tally.add_plain(plain["tally"])
        self.comparison.add_plain(plain["refreshed"])

    def sum_up(self) -> bool:
        """Find at the end of the run what no test used; whether anything is not as it was.

        What is found before anything is removed is what `report` tells.
        """
        self._unused = self.tally.unused_entries(), self.tally.unused_files()
        if self.mode() == "refresh":
            entries, files = self._unused
            for path, names in entries.items():
                self.comparison.gone[path] = len(names)
            for path in files:
                with suppress(StoreError):
                    self.comparison.gone[path] = len(JsonlStore(path).names())
        return self.comparison.differs

    def report(self, terminal: Any) -> None:
        """Tell at the end of the run what was done, and what no test used."""
        tally = self.tally
        if not tally.tests and not tally.missed:
            return
        terminal.section("llm cache")
        counts = {**tally.counts, "missed": len(tally.missed)}
        told = ", ".join(f"{counts.get(name, 0)} {name}" for name in _COUNTED)
        tests = len(tally.tests)
        terminal.line(f"{told} in {tests} {'test' if tests == 1 else 'tests'} (mode {self.mode()})")
        if counts.get("bypassed"):
            terminal.line(f"{counts['bypassed']} calls went past the cache: no cassette has them")
        if ruled := counts.get("by rule"):
            hits = "1 of the hits was" if ruled == 1 else f"{ruled} of the hits were"
            terminal.line(f"{hits} stored for another request, and needed a rule (same=)")
        for test, message, _ in sorted(tally.missed):
            terminal.line(f"missed: {test}: {message}")
        for command in commands(tally.missed):
            terminal.line(f"to record: {command}")
        for line in self.comparison.lines(self._shown):
            terminal.line(line)
        self._report_unused(terminal)
        if self.comparison.differs and self._config.getoption("llm_cache_fail_on_change"):
            terminal.line("failed: answers are not as they were (--llm-cache-fail-on-change)")

    def _report_unused(self, terminal: Any) -> None:
        entries, files = self._unused
        if not entries and not files:
            return
        pruning = self._config.getoption("llm_cache_prune")
        word = "removed" if pruning else "unused"
        if pruning:
            prune(entries, files)
        for path, names in sorted(entries.items()):
            count = "1 entry" if len(names) == 1 else f"{len(names)} entries"
            terminal.line(f"{word}: {self._shown(path)}: {count} that no test used")
        for path in files:
            terminal.line(f"{word}: {self._shown(path)}: no test has this cassette")
        if not pruning:
            terminal.line("(--llm-cache-prune removes what is unused)")

    def _shown(self, path: str) -> str:
        root = str(self._config.rootpath)
        return os.path.relpath(path, root) if Path(path).is_relative_to(root) else path

    def close(self) -> None:
        """Take the patches out of the SDKs."""
        for cache in self._fixtures.values():
            cache.close()
        if self._patches is not None:
            self._patches.undo()
            self._patches = None


def _is_library(trace: TracebackType) -> bool:
    file = trace.tb_frame.f_code.co_filename
    return file.startswith(_PACKAGE) or not _LIBRARIES.isdisjoint(Path(file).parts)


def _all_of(functions: Sequence[Callable[..., str]]) -> Callable[[str], str]:
    """One function of a text after another."""

    def scrub(text: str) -> str:
        for function in functions:
            text = function(text)
        return text

    return scrub
