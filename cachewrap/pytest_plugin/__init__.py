"""The pytest plugin: a cassette for each test. Nothing is imported until a test asks for one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from cachewrap import systems as systems  # before a test can put others in the place of files
from cachewrap.pytest_plugin.environment import Placeholders, asked_mode

if TYPE_CHECKING:
    from cachewrap.cache import Cache
    from cachewrap.policy import Same
    from cachewrap.pytest_plugin.session import Session

MODES: Final = ("replay", "normal", "refresh", "off")

_FIXTURES: Final = frozenset({"llm_cache", "llm_cassette"})
_BLOCKING: Final = "cachewrap-network"

_session: Final = pytest.StashKey["Session"]()
_found: Final = pytest.StashKey[list[pytest.Item]]()
_absent: Final = pytest.StashKey[set[Path]]()
_auto: Final = pytest.StashKey[bool]()
_placeholders: Final = pytest.StashKey[Placeholders]()


class Hooks:
    """The hooks that a project may have in its ``conftest.py``."""

    def pytest_llm_cache_scrub(self, text: str) -> str:
        """Return a text of a request or an answer without what no cassette is to hold.

        It is given every text before it is stored: names, addresses and numbers of customers go.
        Where several ``conftest.py`` have one, each is given what the one before has returned.
        """
        raise NotImplementedError


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("llm-cache", "answers of LLM calls, replayed from cassettes")
    group.addoption(
        "--llm-cache",
        choices=MODES,
        help="replay: a call that is not on a cassette fails; normal: it is made and recorded; "
        "refresh: every call is made anew and recorded; off: no cassettes. "
        "Default: the ini option llm_cache, else replay where CI is set, else normal.",
    )
    group.addoption(
        "--llm-cache-prune",
        action="store_true",
        help="remove the entries and cassettes that are reported as used by no test",
    )
    group.addoption(
        "--llm-cache-fail-on-change",
        action="store_true",
        help="with --llm-cache=refresh: the exit status is 1 where answers are not as they were",
    )
    if not _is_recording(pluginmanager):
        group.addoption(
            "--block-network",
            action="store_true",
            default=False,
            help="let tests reach no host but the allowed ones",
        )
        group.addoption(
            "--allowed-hosts",
            metavar="HOST,HOST",
            help="hosts that tests reach in spite of --block-network, such as 127.0.0.1,*.internal",
        )
    parser.addini("llm_cache_block_network", "as --block-network", type="bool", default=False)
    parser.addini("llm_cache_allowed_hosts", "as --allowed-hosts", type="args", default=[])
    parser.addini("llm_cache", "what is done with LLM calls: " + ", ".join(MODES), default="")
    parser.addini(
        "llm_cache_dir",
        "the folder of the cassettes, from the root of the project; "
        "by default a folder `cassettes` beside each test module",
        default="",
    )
    parser.addini("llm_cache_auto", "a cassette for every test", type="bool", default=False)
    parser.addini(
        "llm_cache_same",
        "a TOML file of rules of what makes no other request, from the folder of the ini file",
        default="",
    )
    parser.addini(
        "llm_cache_placeholders",
        "environment variables that have a placeholder in mode replay where they are not set, "
        "beside the keys of the SDKs that are installed; none: no variable has one",
        type="args",
        default=[],
    )


def _is_recording(pluginmanager: pytest.PytestPluginManager) -> bool:
    """Whether pytest-recording is there or will be, which has options and a marker of that name."""
    if pluginmanager.has_plugin("recording"):
        return True
    loads = not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    blocked = pluginmanager.is_blocked("recording")
    return loads and not blocked and find_spec("pytest_recording") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    _place(early_config)  # clients are made while modules are imported


def _place(config: pytest.Config) -> None:
    if _placeholders not in config.stash:
        placeholders = config.stash[_placeholders] = Placeholders()
        placeholders.put(config)
        config.add_cleanup(placeholders.remove)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("llm_cache_fail_on_change") and asked_mode(config)[0] != "refresh":
        raise pytest.UsageError(
            "--llm-cache-fail-on-change is about answers that are made anew: give"
            " --llm-cache=refresh with it"
        )
    _place(config)
    config.stash[_found] = []
    config.stash[_absent] = set()
    config.stash[_auto] = bool(config.getini("llm_cache_auto"))
    config.addinivalue_line(
        "markers",
        "llm_cache(cassette=None, *, reads=(), mode=None, seed=41, **options): answers of LLM "
        "calls come from a cassette: the test's own, or the one that is named",
    )
    if config.pluginmanager.has_plugin("recording"):
        if config.getini("llm_cache_block_network"):
            _block(config, marked=False)
        return
    config.addinivalue_line(
        "markers",
        "block_network(*, allowed_hosts=[]): the test reaches no host but the allowed ones",
    )
    if config.getoption("block_network", False) or config.getini("llm_cache_block_network"):
        _block(config, marked=True)


def _block(config: pytest.Config, *, marked: bool) -> None:
    """Block the network, for all tests where the run says so, and for those that are marked."""
    from cachewrap.pytest_plugin.network import Blocking

    option = None
    if config.getini("llm_cache_block_network"):
        option = "the ini option llm_cache_block_network"
    if marked and config.getoption("block_network", False):
        option = "--block-network"
    config.pluginmanager.register(Blocking(config, option, _wants, marked=marked), _BLOCKING)


@pytest.fixture
def llm_cache(request: pytest.FixtureRequest) -> Cache:
    """The cache of this test's cassette; asking for it is what gives the test one."""
    return _of(request.config).start(request.node).cache


@pytest.fixture
def llm_cache_same() -> Same:
    """The rules of equality of a test's cassettes, to be overridden where they are wanted.

    They are needed before any fixture is set up, so an override takes no other fixture. A marker's
    ``same=`` goes before it, the ini option ``llm_cache_same`` comes behind.
    """
    return None


@pytest.fixture
def llm_cassette(request: pytest.FixtureRequest) -> Callable[..., Cache]:
    """Gives the cache of a further cassette, by its name: ``with llm_cassette("judge"): ...``.

    What is asked in its block is on that cassette. It takes a name as the marker does, and the
    marker's options.
    """
    return _of(request.config).further(request.node)


def _begun(config: pytest.Config) -> Session | None:
    return config.stash.get(_session, None)


def _of(config: pytest.Config) -> Session:
    if _session not in config.stash:
        from cachewrap.pytest_plugin.session import Session

        config.stash[_session] = Session(config)
    return config.stash[_session]


def _wants(item: pytest.Item) -> bool:
    return (
        item.config.stash[_auto]
        or item.get_closest_marker("llm_cache") is not None
        or not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
    )


@pytest.hookimpl(wrapper=True)
def pytest_ignore_collect(
    collection_path: Path, config: pytest.Config
) -> Generator[None, bool | None, bool | None]:
    ignored = yield
    if ignored:
        config.stash[_absent].add(collection_path)
    return ignored


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if not report.passed:
        collector.config.stash[_absent].add(collector.path)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, object, object]:
    # Not every plugin that leaves tests out says so to `pytest_deselected`.
    config.stash[_found] = [*items]
    return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    theirs = any(config.pluginmanager.has_plugin(name) for name in ("recording", _BLOCKING))
    if not theirs and any(item.get_closest_marker("block_network") for item in session.items):
        _block(config, marked=True)
    stash, chosen = config.stash, set(session.items)
    deselected = [item for item in stash[_found] if item not in chosen]
    wanting = [item for item in (*session.items, *deselected) if _wants(item)]
    if wanting:
        _of(session.config).collected(session, wanting, deselected, stash[_absent])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Before any fixture: what they ask is on the cassette as well.
    if _wants(item):
        _of(item.config).start(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    config = request.config
    session = _begun(config)
    with (
        session.fixture(fixturedef, request, config.stash[_placeholders])
        if session
        else nullcontext()
    ):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    session = _begun(item.config)
    if session:
        session.shorten(call)
    if call.excinfo is not None:
        item.config.stash[_placeholders].explain(call.excinfo.value)
    report = yield
    if session:
        session.note(item, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    placeholders = item.config.stash[_placeholders]
    has_none = bool(placeholders.names) and not (_wants(item) and _of(item.config).replays(item))
    try:
        with placeholders.absent() if has_none else nullcontext():
            return (yield)
    finally:
        if session := _begun(item.config):
            session.finish(item)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if told := _begun(session.config):
        told.add_up_fixtures()
        output = getattr(session.config, "workeroutput", None)  # of a worker of pytest-xdist
        if output is not None:
            output["llm_cache"] = told.as_plain()
        elif told.sum_up() and session.config.getoption("llm_cache_fail_on_change"):
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    told = getattr(node, "workeroutput", {}).get("llm_cache")
    if told is not None:
        _of(node.config).add_plain(told)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if session := _begun(config):
        session.report(terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    if session := _begun(config):
        session.close()
