"""The pytest plugin, in pytest runs of their own."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from cachewrap import Cache
from cachewrap.stores.jsonl import JsonlStore
from plugin.projects import NAMED, Project

pytest_plugins = ["pytester"]

ONE = "def test_one(llm_cache):\n    assert ask()\n"


# -- what a test needs to do -----------------------------------------------------------------------

WAYS = {
    "the fixture": "def test_one(llm_cache):\n    assert ask()",
    "the marker": "@pytest.mark.llm_cache\ndef test_one():\n    assert ask()",
    "a marked class": (
        "@pytest.mark.llm_cache\nclass TestIt:\n    def test_one(self):\n        assert ask()"
    ),
    "the SDK": "from sdk import told\ndef test_one(llm_cache):\n    assert told()",
    "a stream": "from sdk import streamed\ndef test_one(llm_cache):\n    assert streamed()",
    "a marked module": "pytestmark = pytest.mark.llm_cache\ndef test_one():\n    assert ask()",
    "a unittest": (
        "import unittest\n@pytest.mark.llm_cache\nclass TestIt(unittest.TestCase):\n"
        "    def test_one(self):\n        assert ask()"
    ),
    "an async unittest": (
        "import unittest\n@pytest.mark.llm_cache\nclass TestIt(unittest.IsolatedAsyncioTestCase):\n"
        "    async def asyncSetUp(self):\n        self.answer = await aask()\n"
        "    async def test_one(self):\n        assert self.answer"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_second_run_asks_nobody(project: Project, way: str) -> None:
    project.test(WAYS[way])
    assert "1 recorded" in project.run()
    assert "1 replayed, 0 recorded" in project.run()
    assert project.calls == 1


def test_every_test_has_a_cassette_where_the_project_says_so(project: Project) -> None:
    project.ini("llm_cache_auto = true")
    project.test("def test_one():\n    assert ask()")
    project.run()
    assert project.cassettes() == ["tests/cassettes/test_it/test_one.jsonl"]


def test_a_test_that_does_not_ask_for_a_cassette_has_none(project: Project) -> None:
    project.test("def test_one():\n    assert ask()")
    assert "llm cache" not in project.run("--llm-cache=replay")
    assert (project.calls, project.cassettes()) == (1, [])


def test_the_fixture_is_the_cache(project: Project) -> None:
    project.test(
        "from cachewrap import Cache, active_cache\n"
        "def test_one(llm_cache):\n"
        "    assert isinstance(llm_cache, Cache) and active_cache() is llm_cache\n"
        "    ask(); ask()\n"
        "    assert (llm_cache.stats.hits, llm_cache.stats.misses) == (1, 1)"
    )
    project.run()


def test_fixtures_of_a_test_are_on_its_cassette(project: Project) -> None:
    project.test(
        "@pytest.fixture\ndef answer():\n    yield ask()\n    ask('bye')\n"
        "def test_one(answer, llm_cache):\n    assert answer"
    )
    project.run()
    assert "2 replayed, 0 recorded" in project.run("--llm-cache=replay")


@pytest.mark.parametrize("scope", ["module", "session"])
def test_fixtures_that_outlive_a_test_have_a_cassette_of_their_own(
    project: Project, scope: str
) -> None:
    project.test(
        f"@pytest.fixture(scope='{scope}')\ndef answer():\n    return ask('once')\n"
        "def test_one(answer, llm_cache):\n    assert ask('one')\n"
        "def test_two(answer, llm_cache):\n    assert ask('two')"
    )
    project.run(passed=2)
    out = project.run("--llm-cache=replay", "tests/test_it.py::test_two")
    assert "2 replayed" in out
    assert "unused" not in out


@pytest.mark.parametrize("scope", ["module", "session"])
def test_it_is_on_it_if_a_test_without_a_cassette_asks_first(project: Project, scope: str) -> None:
    project.test(
        "from sdk import told\n"
        f"@pytest.fixture(scope='{scope}')\ndef answer():\n    return told('once')\n"
        f"@pytest.fixture(scope='{scope}')\ndef own():\n    return ask('own')\n"
        "def test_plain(answer, own):\n    assert answer and own\n"
        "def test_one(answer, llm_cache):\n    assert answer"
    )
    assert "1 recorded" in project.run(passed=2)
    assert "1 replayed, 0 recorded" in project.run("--llm-cache=replay", passed=2)
    assert project.upstream.calls == 1
    (name,) = project.cassettes()
    assert Path(name).name == "fixtures.jsonl"


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_the_teardown_of_such_a_fixture_is_on_its_cassette(project: Project, scope: str) -> None:
    project.test(
        f"@pytest.fixture(scope='{scope}')\ndef answer():\n    yield ask('up')\n    ask('down')\n"
        "class TestIt:\n"
        "    def test_one(self, answer, llm_cache):\n        assert ask('one')\n"
        "    def test_two(self, answer, llm_cache):\n        assert ask('two')"
    )
    assert "4 recorded" in project.run(passed=2)
    out = project.run("--llm-cache=replay", "tests/test_it.py::TestIt::test_one")
    assert "3 replayed, 0 recorded, 0 refreshed, 0 missed" in out
    assert len(project.cassettes()) == 3


def test_nothing_is_written_by_a_test_that_asks_nothing(project: Project) -> None:
    project.test("def test_one(llm_cache):\n    pass")
    project.run()
    assert not (project.root / "tests/cassettes").exists()


def test_no_secret_is_in_a_cassette(project: Project) -> None:
    project.test("from sdk import told\n" + ONE.replace("ask", "told"))
    project.run()
    assert "sk-secret" not in (project.root / "tests/cassettes/test_it/test_one.jsonl").read_text()


def test_threads_of_a_test_are_served(project: Project) -> None:
    project.test(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def test_one(llm_cache):\n"
        "    with ThreadPoolExecutor(2) as pool:\n"
        "        assert list(pool.map(ask, 'abc'))"
    )
    project.run()
    assert "3 replayed" in project.run("--llm-cache=replay")


def test_the_sdk_is_what_it_was_after_the_run(project: Project) -> None:
    project.test(ONE)
    code = (
        "import sys, openai, pytest; before = openai._base_client.SyncAPIClient.request; "
        f"pytest.main({[*NAMED, '-p', 'no:cacheprovider']!r}); "
        "assert openai._base_client.SyncAPIClient.request is before"
    )
    assert project._pytester.run(sys.executable, "-c", code).ret == 0


def test_a_run_without_cassettes_imports_nothing(project: Project) -> None:
    libraries = {"openai", "redis", "diskcache", "msgspec", "cachewrap.cache"}
    project.write(
        "tests/test_it.py",
        f"import sys\ndef test_one():\n    assert {libraries!r}.isdisjoint(sys.modules)",
    )
    project.run(fresh=True)


# -- modes -----------------------------------------------------------------------------------------

MODES = {
    "by itself": ((), {}, "", "", "normal"),
    "in CI": ((), {"CI": "true"}, "", "", "replay"),
    "CI=0 is no CI": ((), {"CI": "0"}, "", "", "normal"),
    "CI=false is no CI": ((), {"CI": "False"}, "", "", "normal"),
    "the project's": ((), {"CI": "1"}, "llm_cache = refresh", "", "refresh"),
    "the marker's": ((), {"CACHEWRAP_MODE": "replay"}, "llm_cache = off", "normal", "normal"),
    "the environment's": ((), {"CACHEWRAP_MODE": "replay"}, "llm_cache = refresh", "", "replay"),
    "the command line's": (
        ("--llm-cache=off",), {"CACHEWRAP_MODE": "replay"}, "llm_cache = refresh", "normal", "off",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("args", "env", "ini", "marked", "mode"), MODES.values(), ids=MODES)
def test_the_mode_of_a_test(
    project: Project, args: tuple[str, ...], env: dict[str, str], ini: str, marked: str, mode: str
) -> None:
    for name, value in env.items():
        project.patch.setenv(name, value)
    project.ini(ini)
    marker = f"@pytest.mark.llm_cache(mode={marked!r})\n" if marked else ""
    project.test(f"{marker}def test_one(llm_cache):\n    assert llm_cache.policy.mode == {mode!r}")
    project.run(*args)


def test_a_miss_names_the_ready_set_that_would_have_made_it_a_hit(project: Project) -> None:
    body = "from sdk import told\ndef test_one(llm_cache):\n    told('Hello', user='{}')"
    project.test(body.format("Ann"))
    project.run()
    project.test(body.format("Bob"))
    out = project.run("--llm-cache=replay", failed=1)
    assert "same=[*STEERING] (from cachewrap.same) would have made it equal to key" in out
    assert "user: 'Ann' → 'Bob' (equal with STEERING in llm_cache_same)\n" in out


def test_replay_asks_nobody_and_says_what_differs(project: Project) -> None:
    body = "from sdk import told\ndef test_one(llm_cache):\n    told('Hello {}', temperature={})"
    project.test(body.format("Ann", 0.2))
    project.run()
    project.test(body.format("Bob", 0.7))
    out = project.run("--llm-cache=replay", failed=1)
    assert "ReplayMissError" in out
    assert "temperature: 0.2 → 0.7" in out
    assert "_base_client.py" not in out  # the traceback ends in the project
    assert "messages[0].content" in out
    assert "0 replayed, 0 recorded, 0 refreshed, 1 missed" in out
    assert "missed: tests/test_it.py::test_one: POST /chat/completions" in out
    assert project.calls == 1


NODES = {
    "a function": ("def test_one(llm_cache):\n    ask()", "tests/test_it.py::test_one"),
    "a class": (
        "class TestIt:\n    def test_one(self, llm_cache):\n        ask()",
        "tests/test_it.py::TestIt::test_one",
    ),
    "parameters": (
        "@pytest.mark.parametrize('x', ['a b$'])\ndef test_one(x, llm_cache):\n    ask()",
        "'tests/test_it.py::test_one[a b$]'",
    ),
    "a fixture of the module": (
        "@pytest.fixture(scope='module')\ndef it():\n    return ask()\n"
        "def test_one(it, llm_cache):\n    pass",
        "tests/test_it.py::test_one",
    ),
}


@pytest.mark.parametrize(("body", "node"), NODES.values(), ids=NODES)
def test_a_miss_names_the_command_that_records_it(project: Project, body: str, node: str) -> None:
    project.test(body)
    outcome = {"errors": 1} if "fixture" in body else {"failed": 1}
    out = project.run("--llm-cache=replay", **outcome)
    command = f"pytest --llm-cache=normal {node}"
    assert f"(mode replay asks no model; this records it: {command})" in out
    assert f"to record: {command}" in out.splitlines()
    project.run(*shlex.split(command)[1:])
    assert "0 missed" in project.run("--llm-cache=replay")


def test_the_command_is_for_the_folder_in_which_pytest_was_started(project: Project) -> None:
    project.test(ONE)
    project.patch.chdir(project.root / "tests")
    out = project.run("--llm-cache=replay", failed=1)
    assert "to record: pytest --llm-cache=normal test_it.py::test_one" in out


def test_many_misses_are_recorded_by_one_command(project: Project) -> None:
    body = "@pytest.mark.parametrize('x', range(5))\ndef test_one(x, llm_cache):\n    ask()"
    project.test(body)
    project.test(body, "tests/test_b c.py")
    out = project.run("--llm-cache=replay", failed=10)
    assert "to record: pytest --llm-cache=normal 'tests/test_b c.py' tests/test_it.py" in out
    assert out.count("to record") == 1


def test_a_damaged_line_is_recorded_anew(project: Project) -> None:
    project.test(ONE)
    project.run()
    cassette = project.root / "tests/cassettes/test_it/test_one.jsonl"
    cassette.write_text(cassette.read_text().replace('"kind": "text"', '"kind": "txt"'))
    options = "-W", "ignore::cachewrap.CacheWarning"
    out = project.run("--llm-cache=replay", *options, failed=1)
    command = "pytest --llm-cache=refresh tests/test_it.py::test_one"
    assert f"(this records it: {command})" in out
    assert f"to record: {command}" in out
    project.run(*command.split()[1:], *options)
    assert "1 replayed" in project.run("--llm-cache=replay")


def test_a_fixture_that_a_test_without_a_cassette_asks_for_first(project: Project) -> None:
    project.test(
        "@pytest.fixture(scope='session')\ndef it():\n    return ask()\n"
        "def test_plain(it):\n    pass\n"
        "def test_one(it, llm_cache):\n    pass"
    )
    out = project.run("--llm-cache=replay", errors=2)
    command = "pytest --llm-cache=normal tests/test_it.py::test_one"
    assert f"to record: {command}" in out
    assert "1 recorded" in project.run(*command.split()[1:])


@pytest.mark.parametrize("call", ["ask('x')", "told('x')", "streamed('x')"])
def test_replay_blocks(project: Project, call: str) -> None:
    project.test(
        "from sdk import told, streamed\n"
        f"def test_one(llm_cache):\n    with pytest.raises(ReplayMissError):\n        {call}\n"
    )
    assert "1 missed" in project.run("--llm-cache=replay")
    assert (project.calls, project.cassettes()) == (0, [])


def test_a_miss_that_the_program_swallows_is_told(project: Project) -> None:
    project.test(
        "def test_one(llm_cache):\n    try:\n        ask()\n    except Exception:\n        pass"
    )
    assert "missed: tests/test_it.py::test_one: app:ask" in project.run("--llm-cache=replay")


def test_a_call_that_is_never_stored_is_refused_and_told(project: Project) -> None:
    project.test(
        "from sdk import client\n"
        "def test_one(llm_cache):\n"
        "    with pytest.raises(ReplayMissError):\n"
        "        client.post('/batches', cast_to=object, body={})\n"
    )
    out = project.run("--llm-cache=replay")
    assert "missed: tests/test_it.py::test_one: POST /batches: it is never stored" in out
    assert project.upstream.calls == 0


@pytest.mark.parametrize(("marker", "calls"), [("", 1), ("(replay='strict')", 0)])
def test_what_asks_no_model_goes_through_unless_the_marker_is_strict(
    project: Project, marker: str, calls: int
) -> None:
    project.test(
        f"import openai\nfrom sdk import client\n@pytest.mark.llm_cache{marker}\n"
        "def test_one():\n"
        "    with pytest.raises((ReplayMissError, openai.APIError)):\n"
        "        client.files.delete('file-1')\n        raise ReplayMissError('')\n"
    )
    project.run("--llm-cache=replay")
    assert project.upstream.calls == calls


def test_refresh_replaces_what_is_recorded(project: Project) -> None:
    project.test(ONE)
    project.run()
    cassette = project.root / "tests/cassettes/test_it/test_one.jsonl"
    before = cassette.read_text()
    assert "0 recorded, 1 refreshed" in project.run("--llm-cache=refresh")
    assert len(cassette.read_text().splitlines()) == 2
    assert cassette.read_text() != before
    assert project.calls == 2


def test_off_records_nothing(project: Project) -> None:
    project.test("from sdk import told\ndef test_one(llm_cache):\n    assert ask() and told()")
    project.run("--llm-cache=off")
    assert (project.calls, project.cassettes()) == (2, [])
    assert not (project.root / ".cache").exists()


def test_a_wrong_mode_of_a_marker_is_an_error(project: Project) -> None:
    project.test("@pytest.mark.llm_cache(mode='fast')\ndef test_one():\n    pass")
    assert "must be one of" in project.run(errors=1)


def test_a_place_in_a_marker_is_no_seed(project: Project) -> None:
    project.test("@pytest.mark.llm_cache(seed='a/b')\ndef test_one():\n    pass")
    assert "a seed names a draw of answers" in project.run(errors=1)


# -- cassettes -------------------------------------------------------------------------------------

NAMES = {
    "def test_one(llm_cache): ask()": "test_one",
    "class TestIt:\n    def test_one(self, llm_cache): ask()": "TestIt.test_one",
    "@pytest.mark.parametrize('x', ['a'])\ndef test_one(x, llm_cache): ask()": "test_one-a",
    "@pytest.mark.llm_cache('named')\ndef test_one(): ask()": "named",
    "@pytest.mark.llm_cache(cassette='named.jsonl')\ndef test_one(): ask()": "named",
    "@pytest.mark.llm_cache('../shared/named')\ndef test_one(): ask()": None,
    "@pytest.mark.llm_cache('/named')\ndef test_one(): ask()": None,
}


@pytest.mark.parametrize("body", NAMES)
def test_the_name_of_a_cassette(project: Project, body: str) -> None:
    project.test(body)
    if NAMES[body] is None:
        assert "is no name of a cassette" in project.run(errors=1)
    else:
        project.run()
        assert project.cassettes() == [f"tests/cassettes/test_it/{NAMES[body]}.jsonl"]


ODD = ["a/b", "a b", "ü" * 40, "x" * 300, "../..", "a?*:|<>", "", "CON", "a[b]"]


def test_odd_parameters_have_cassettes_of_their_own(project: Project) -> None:
    project.test(
        f"@pytest.mark.parametrize('x', {ODD!r}, ids=str)\n"
        "def test_one(x, llm_cache):\n    assert ask(x)"
    )
    project.run(passed=len(ODD))
    names = [Path(name).name for name in project.cassettes()]
    assert len(names) == len(ODD)
    assert all(re.fullmatch(r"test_one-[A-Za-z0-9_.=+-]{0,110}\.jsonl", name) for name in names)
    assert f"{len(ODD)} replayed" in project.run("--llm-cache=replay", passed=len(ODD))


def test_tests_of_one_name_in_other_modules_and_folders_are_apart(project: Project) -> None:
    for name in ("tests/test_a.py", "tests/test_b.py", "tests/deep/test_a.py"):
        project.test("def test_one(llm_cache):\n    ask()", name)
    project.run("--import-mode=importlib", passed=3)
    assert project.cassettes() == [
        "tests/cassettes/test_a/test_one.jsonl",
        "tests/cassettes/test_b/test_one.jsonl",
        "tests/deep/cassettes/test_a/test_one.jsonl",
    ]


def test_the_project_chooses_the_folder(project: Project) -> None:
    project.ini("llm_cache_dir = data/answers")
    project.test(ONE)
    project.test(
        "@pytest.mark.llm_cache('all/shared')\ndef test_two():\n    ask()", "tests/test_b.py"
    )
    project.run(passed=2)
    assert project.cassettes() == [
        "data/answers/all/shared.jsonl",
        "data/answers/tests/test_it/test_one.jsonl",
    ]


def test_seeds_and_samples_of_a_marker(project: Project) -> None:
    project.test(
        "@pytest.mark.llm_cache(seed=7, samples=True)\ndef test_one():\n    assert ask() != ask()"
    )
    project.run()
    assert "2 replayed" in project.run("--llm-cache=replay")
    lines = (project.root / "tests/cassettes/test_it/test_one.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines[1:]] == ["7", "7"]


def test_the_closest_marker_decides(project: Project) -> None:
    project.test(
        "pytestmark = pytest.mark.llm_cache('module', seed=5)\n"
        "@pytest.mark.llm_cache(seed=6)\nclass TestIt:\n"
        "    @pytest.mark.llm_cache('own')\n    def test_one(self, llm_cache):\n"
        "        assert llm_cache.seed == '6'\n        ask()"
    )
    project.run()
    assert project.cassettes() == ["tests/cassettes/test_it/own.jsonl"]


def test_a_test_that_fails_keeps_what_it_has_recorded(project: Project) -> None:
    project.test("def test_one(llm_cache):\n    assert not ask()")
    project.run(failed=1)
    assert "1 replayed, 0 recorded" in project.run(failed=1)


def test_a_cassette_that_cannot_be_is_an_error_of_the_test(project: Project) -> None:
    project.test(ONE)
    (project.root / "tests/cassettes/test_it/test_one.jsonl").mkdir(parents=True)
    assert "cannot read" in project.run(errors=1)


# -- async tests -----------------------------------------------------------------------------------

ASYNC = {
    "pytest-asyncio": (
        "pytest_asyncio",
        "import pytest_asyncio\n"
        "@pytest_asyncio.fixture\nasync def answer():\n    return await aask('fixture')\n"
        "@pytest_asyncio.fixture\nasync def other():\n    yield await aask('other')\n",
        "pytest.mark.asyncio",
    ),
    "pytest-asyncio with one loop for all": (
        "pytest_asyncio",
        "import pytest_asyncio\n"
        "@pytest_asyncio.fixture(loop_scope='session')\n"
        "async def answer():\n    return await aask('fixture')\n"
        "@pytest_asyncio.fixture(loop_scope='session')\n"
        "async def other():\n    yield await aask('other')\n",
        "pytest.mark.asyncio(loop_scope='session')",
    ),
    "anyio": (
        "anyio",
        "@pytest.fixture\nasync def answer():\n    return await aask('fixture')\n"
        "@pytest.fixture\nasync def other():\n    yield await aask('other')\n"
        "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n",
        "pytest.mark.anyio",
    ),
    "anyio with one loop for all": (
        "anyio",
        "@pytest.fixture(scope='session')\ndef anyio_backend():\n    return 'asyncio'\n"
        "@pytest.fixture(scope='session', autouse=True)\nasync def loop():\n    yield 1\n"
        "@pytest.fixture\nasync def answer():\n    return await aask('fixture')\n"
        "@pytest.fixture\nasync def other():\n    yield await aask('other')\n",
        "pytest.mark.anyio",
    ),
}


@pytest.mark.parametrize(("needs", "head", "marker"), ASYNC.values(), ids=ASYNC)
def test_async_tests_and_their_fixtures(
    project: Project, needs: str, head: str, marker: str
) -> None:
    pytest.importorskip(needs)
    body = "(answer, other, llm_cache):\n    assert answer and other and await aask('{0}')\n"
    project.test(
        head
        + "".join(f"@{marker}\nasync def test_{name}{body.format(name)}" for name in ("one", "two"))
    )
    assert "6 recorded" in project.run("-W", "error::RuntimeWarning", passed=2)
    assert "6 replayed, 0 recorded" in project.run("--llm-cache=replay", passed=2)
    lines = {
        name: len((project.root / name).read_text().splitlines()) for name in project.cassettes()
    }
    assert lines == {f"tests/cassettes/test_it/test_{name}.jsonl": 4 for name in ("one", "two")}


# -- what no test used -----------------------------------------------------------------------------

TWO = (
    "def test_one(llm_cache):\n    ask('one'); ask('one more')\n"
    "def test_two(llm_cache):\n    ask('two')\n"
)
CHANGED = "def test_one(llm_cache):\n    ask('one')\n"


def test_what_no_test_used_is_told(project: Project) -> None:
    project.test(TWO)
    assert "unused" not in project.run(passed=2)
    project.test(CHANGED)
    out = project.run()
    assert "unused: tests/cassettes/test_it/test_one.jsonl: 1 entry that no test used" in out
    assert "unused: tests/cassettes/test_it/test_two.jsonl: no test has this cassette" in out
    assert "--llm-cache-prune removes" in out


def test_what_was_hit_by_rule_was_used(project: Project) -> None:
    project.test(
        "import time\nfrom cachewrap.same import ignore\n"
        "@pytest.mark.llm_cache(same=ignore('options.stamp'))\n"
        "def test_one():\n    ask('hi', stamp=time.time_ns()); ask('hi', stamp=0)"
    )
    project.run()
    out = project.run("--llm-cache=replay")
    assert "2 replayed, 0 recorded" in out
    assert "2 of the hits were stored for another request, and needed a rule (same=)" in out
    assert "unused" not in out
    assert project.calls == 1
    assert "compared with before: 1 changed in 1 cassette" in project.run("--llm-cache=refresh")
    assert "unused" not in project.run()


def test_prune_removes_it(project: Project) -> None:
    project.test(TWO)
    project.run(passed=2)
    project.test(CHANGED)
    assert "removed: tests/cassettes/test_it/test_two.jsonl" in project.run("--llm-cache-prune")
    assert project.cassettes() == ["tests/cassettes/test_it/test_one.jsonl"]
    assert len(JsonlStore(project.root / project.cassettes()[0]).names()) == 1
    assert "unused" not in project.run("--llm-cache=replay")


def test_what_an_alias_leads_to_is_used(project: Project) -> None:
    project.test("def test_one(llm_cache):\n    assert ask('one') == ask('two') or llm_cache\n")
    project.run()
    (path,) = project.cassettes()
    cache = Cache.jsonl(project.root / path)
    one, two = sorted(cache.entries(), key=lambda entry: entry.prompt)
    cache.alias(two.key, one.key)
    project.test("def test_one(llm_cache):\n    assert ask('two') == 'one: answer 1'\n")
    assert "unused" not in project.run("--llm-cache=replay", "--llm-cache-prune")
    assert {entry.alias_of for entry in cache.entries()} == {"", one.key}


def test_prune_removes_folders_that_it_leaves_empty(project: Project) -> None:
    project.test(ONE)
    project.run()
    project.test("def test_one(llm_cache):\n    pass")
    project.run("--llm-cache-prune")
    assert not (project.root / "tests/cassettes/test_it").exists()


PARTIAL = {
    "one test": (("tests/test_it.py::test_one",), {"passed": 1}),
    "by keyword": (("-k", "one"), {"passed": 1, "deselected": 1}),
}


@pytest.mark.parametrize(("args", "outcomes"), PARTIAL.values(), ids=PARTIAL)
def test_a_part_of_a_module_is_judged_by_the_tests_that_ran(
    project: Project, args: tuple[str, ...], outcomes: dict[str, int]
) -> None:
    project.test(TWO)
    project.run(passed=2)
    stray = project.root / "tests/cassettes/test_it/stray.jsonl"
    stray.write_text("")
    assert "unused" not in project.run(*args, "--llm-cache-prune", **outcomes)
    assert stray.exists()


def test_a_test_that_was_skipped_or_failed_leaves_its_cassette_alone(project: Project) -> None:
    project.test(TWO)
    project.run(passed=2)
    project.test(
        "def test_one(llm_cache):\n    ask('one')\n    assert False\n"
        "def test_two(llm_cache):\n    pytest.skip('today')\n"
    )
    assert "unused" not in project.run("--llm-cache-prune", failed=1, skipped=1)
    assert len(project.cassettes()) == 2


def test_a_shared_cassette_is_judged_when_all_that_share_it_ran(project: Project) -> None:
    head = "pytestmark = pytest.mark.llm_cache('both')\n"
    project.test(head + TWO)
    project.run(passed=2)
    assert "unused" not in project.run("tests/test_it.py::test_one")
    assert "unused" not in project.run(passed=2)
    project.test(head + TWO.replace("; ask('one more')", ""))
    assert "unused: tests/cassettes/test_it/both.jsonl: 1 entry" in project.run(passed=2)


def test_the_cassettes_of_a_module_that_is_gone_are_told_by_a_whole_run(project: Project) -> None:
    project.test(ONE)
    project.test(ONE, "tests/test_gone.py")
    project.run(passed=2)
    (project.root / "tests/test_gone.py").unlink()
    assert "unused" not in project.run("tests/test_it.py")
    assert "unused: tests/cassettes/test_gone/test_one.jsonl: no test has" in project.run()


ABSENT: dict[str, tuple[str, tuple[str, ...], dict[str, int]]] = {
    "ignored": ("", ("--ignore=tests/test_b.py",), {"passed": 1}),
    "ignored by a pattern": ("", ("--ignore-glob=*_b.py",), {"passed": 1}),
    "skipped as a whole": (
        "pytest.skip('today', allow_module_level=True)\n", (), {"passed": 1, "skipped": 1},
    ),
    "without a library": ("pytest.importorskip('absent')\n", (), {"passed": 1, "skipped": 1}),
    "broken": (
        "raise RuntimeError\n", ("--continue-on-collection-errors",), {"passed": 1, "errors": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("folder", ["", "llm_cache_dir = answers"])
@pytest.mark.parametrize(("head", "args", "outcomes"), ABSENT.values(), ids=ABSENT)
def test_a_module_whose_tests_are_not_known_keeps_its_cassettes(
    project: Project, folder: str, head: str, args: tuple[str, ...], outcomes: dict[str, int]
) -> None:
    project.ini(folder)
    shared = "@pytest.mark.llm_cache('all/both')\n"
    project.test(shared + ONE)
    project.test(shared + TWO, "tests/test_b.py")
    project.test(ONE.replace("one", "own"), "tests/test_c.py")
    project.run(passed=4)
    before = project.cassettes()
    project.test(head + shared + TWO, "tests/test_b.py")
    (project.root / "tests/test_c.py").unlink()
    assert "unused" not in project.run(*args, "--llm-cache-prune", **outcomes)
    assert project.cassettes() == before


def test_an_ignored_folder_of_other_cassettes_does_not_stop_the_judging(project: Project) -> None:
    project.test(ONE)
    project.test(ONE, "tests/test_gone.py")
    project.test(ONE, "tests/deep/test_deep.py")
    project.run("--import-mode=importlib", passed=3)
    (project.root / "tests/test_gone.py").unlink()
    out = project.run("--ignore=tests/deep", "--llm-cache-prune")
    assert "removed: tests/cassettes/test_gone/test_one.jsonl: no test has" in out
    assert len(project.cassettes()) == 2


def test_a_test_that_is_named_by_its_package_is_not_the_whole_module(project: Project) -> None:
    project.write("tests/__init__.py", "")
    project.test(TWO)
    project.run(fresh=True, passed=2)
    named = "--pyargs", "tests.test_it::test_one"
    assert "unused" not in project.run(*named, "--llm-cache-prune", fresh=True)
    assert len(project.cassettes()) == 2


def test_tests_that_a_plugin_drops_in_silence_keep_their_cassettes(project: Project) -> None:
    project.test(TWO)
    project.run(passed=2)
    project.write("conftest.py", "def pytest_collection_modifyitems(items):\n    del items[1:]\n")
    assert "unused" not in project.run("--llm-cache-prune")
    assert len(project.cassettes()) == 2


def test_off_judges_nothing(project: Project) -> None:
    project.test(ONE)
    project.run()
    assert "unused" not in project.run("--llm-cache=off", "--llm-cache-prune")
    assert len(project.cassettes()) == 1


def test_an_explained_call_is_neither_used_nor_missed(project: Project) -> None:
    project.test(
        "def test_one(llm_cache):\n    ask('a')\n"
        "    assert 'not stored' in str(llm_cache.explain(ask, 'b'))"
    )
    out = project.run()
    assert "0 replayed, 1 recorded, 0 refreshed, 0 missed" in out


# -- several workers -------------------------------------------------------------------------------


WORKERS = """
import os

@pytest.fixture(scope="session")
def answer():
    yield ask("up")
    ask("down")

@pytest.mark.llm_cache("all")
@pytest.mark.parametrize("x", range(3))
def test_one(x, llm_cassette):
    ask(f"{x}")
    with llm_cassette("judge"):
        ask(f"judged {x}")

def test_two(answer, llm_cache):
    ask("own"); ask("more")
"""
KEYS = """
import os

def test_without():
    assert "OPENAI_API_KEY" not in os.environ

def test_missed(llm_cache):
    assert os.environ["OPENAI_API_KEY"]
    ask("new")
"""


def test_workers_are_summed_and_judge_together(project: Project) -> None:
    pytest.importorskip("xdist")
    project.test(WORKERS)
    assert "10 recorded, 0 refreshed, 0 missed in 4 tests" in project.run("-n2", passed=4)
    project.test(KEYS, "tests/test_keys.py")
    out = project.run("-n2", "--llm-cache=replay", passed=5, failed=1)
    assert "10 replayed, 0 recorded, 0 refreshed, 1 missed in 5 tests" in out
    assert "missed: tests/test_keys.py::test_missed: app:ask" in out
    assert "to record: pytest --llm-cache=normal tests/test_keys.py::test_missed" in out
    assert "unused" not in out
    assert project.calls == 10
    project.test(WORKERS.replace("range(3)", "range(2)"))
    anew = "--llm-cache=refresh", "--llm-cache-fail-on-change"
    out = project.run("-n2", *anew, "--llm-cache-prune", "tests/test_it.py", passed=3)
    assert "compared with before: 8 changed, 2 no longer asked in 4 cassettes" in out
    assert "tests/cassettes/test_it/all.jsonl: 2 changed, 1 no longer asked" in out
    assert project.status == 1
    for name in ("all", "judge"):
        assert f"removed: tests/cassettes/test_it/{name}.jsonl: 1 entry that no test used" in out
