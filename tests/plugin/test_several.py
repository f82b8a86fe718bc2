"""Several cassettes in one test: further ones in blocks, and those that are only read."""

from __future__ import annotations

import pytest

from cachewrap.stores.jsonl import JsonlStore
from plugin.projects import Project

pytest_plugins = ["pytester"]

JUDGED = """
def test_one(llm_cassette):
    ask("own")
    with llm_cassette("judge"):
        assert ask("judged")
    with llm_cassette("shared/clerk") as clerk:
        ask("told")
        with llm_cassette("judge") as judge:
            ask("again")
    assert (clerk.stats.calls, judge.stats.calls) == (1, 2)
"""


def sizes(project: Project) -> dict[str, int]:
    folder = "tests/cassettes/"
    return {
        path.removeprefix(folder): len(JsonlStore(project.root / path).names())
        for path in project.cassettes()
    }


def test_a_block_has_a_cassette_of_its_own(project: Project) -> None:
    project.test(JUDGED)
    assert "4 recorded" in project.run()
    assert sizes(project) == {
        "shared/clerk.jsonl": 1,
        "test_it/judge.jsonl": 2,
        "test_it/test_one.jsonl": 1,
    }
    out = project.run("--llm-cache=replay")
    assert "4 replayed, 0 recorded, 0 refreshed, 0 missed" in out
    assert "unused" not in out


def test_a_miss_in_a_block_is_told(project: Project) -> None:
    project.test("def test_one(llm_cassette):\n    with llm_cassette('judge'):\n        ask()")
    out = project.run("--llm-cache=replay", failed=1)
    assert "missed: tests/test_it.py::test_one: app:ask" in out
    assert "to record: pytest --llm-cache=normal tests/test_it.py::test_one" in out


def test_a_block_takes_the_options_of_the_marker(project: Project) -> None:
    project.test(
        "@pytest.mark.llm_cache(seed=7)\ndef test_one(llm_cassette):\n"
        "    assert llm_cassette('a').seed == '7'\n"
        "    assert llm_cassette('b', seed=8, mode='off').seed == '8'\n"
        "    assert llm_cassette('b').policy.mode == 'off'\n"
    )
    project.run()


@pytest.mark.parametrize("name", ["'../up'", "''", "None"])
def test_a_name_that_is_none(project: Project, name: str) -> None:
    project.test(f"def test_one(llm_cassette):\n    llm_cassette({name})")
    assert "is no name of a cassette" in project.run(failed=1)


BEHIND = """
@pytest.mark.llm_cache("shared/greeting")
def test_greeting():
    ask("hello")

@pytest.mark.llm_cache(reads="shared/greeting")
def test_one():
    ask("hello"); ask("own")

@pytest.mark.llm_cache(reads=["shared/none", "shared/greeting"])
async def test_two():
    pass

@pytest.mark.llm_cache(reads=["shared/none", "shared/greeting"])
def test_three():
    ask("hello")
"""


def test_what_is_read_behind_is_not_recorded_again(project: Project) -> None:
    project.test(BEHIND.replace("async def test_two", "def test_two"))
    assert "2 replayed, 2 recorded" in project.run(passed=4)
    recorded = {"shared/greeting.jsonl": 1, "test_it/test_one.jsonl": 1}
    assert sizes(project) == recorded
    out = project.run("--llm-cache=replay", "--llm-cache-prune", passed=4)
    assert "4 replayed" in out
    assert sizes(project) == recorded
    # Those that record it make it anew.
    assert "2 replayed, 0 recorded, 2 refreshed" in project.run("--llm-cache=refresh", passed=4)
    assert sizes(project) == recorded


def test_async_calls_read_behind(project: Project) -> None:
    pytest.importorskip("anyio")
    project.test(
        "@pytest.mark.llm_cache('a')\n@pytest.mark.anyio\nasync def test_one():\n    await aask()\n"
        "@pytest.mark.llm_cache(reads='a')\n@pytest.mark.anyio\n"
        "async def test_two():\n    await aask()\n"
        "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    assert "1 replayed, 1 recorded" in project.run(passed=2)


def test_a_miss_is_compared_with_what_is_read_behind(project: Project) -> None:
    project.test(BEHIND.replace("async def test_two", "def test_two"))
    project.run(passed=4)
    project.test(
        "@pytest.mark.llm_cache(reads='shared/greeting')\ndef test_new():\n    ask('hallo')"
    )
    assert "prompt: 'hello' → 'hallo'" in project.run("--llm-cache=replay", failed=1)


def test_wrong_names_behind_are_an_error(project: Project) -> None:
    project.test("@pytest.mark.llm_cache(reads=3)\ndef test_one():\n    pass")
    assert "reads= takes names of cassettes" in project.run(errors=1)


UNUSED = """
def test_one(llm_cassette):
    with llm_cassette("judge"):
        ask("one")

def test_two(llm_cassette):
    with llm_cassette("judge"):
        ask("two")
    with llm_cassette("two"):
        ask("more")
"""


def test_what_no_block_used_is_told(project: Project) -> None:
    project.test(UNUSED)
    project.run(passed=2)
    project.test(UNUSED.partition("def test_two")[0])
    out = project.run("--llm-cache-prune")
    assert "removed: tests/cassettes/test_it/judge.jsonl: 1 entry that no test used" in out
    assert "removed: tests/cassettes/test_it/two.jsonl: no test has this cassette" in out


PARTS = {
    "one test": (("tests/test_it.py::test_one",), UNUSED, {"passed": 1}),
    "one skipped": (
        (), UNUSED.replace("def test_two", "@pytest.mark.skip\ndef test_two"),
        {"passed": 1, "skipped": 1},
    ),
    "one failed": (
        (), UNUSED.replace("def test_two(llm_cassette):", "def test_two(llm_cassette):\n    1 / 0"),
        {"passed": 1, "failed": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("args", "body", "outcomes"), PARTS.values(), ids=PARTS)
def test_blocks_are_judged_when_all_that_could_ask_have_passed(
    project: Project, args: tuple[str, ...], body: str, outcomes: dict[str, int]
) -> None:
    project.test(UNUSED)
    project.run(passed=2)
    before = sizes(project)
    project.test(body)
    assert "removed" not in project.run(*args, "--llm-cache-prune", **outcomes)
    assert sizes(project) == before


# -- what is stored --------------------------------------------------------------------------------

HOOK = "def pytest_llm_cache_scrub(text):\n    return text.replace({!r}, {!r})\n"


def test_the_project_scrubs_what_is_stored(project: Project) -> None:
    project.write("conftest.py", HOOK.format("Anna", "(name)"))
    project.write("tests/conftest.py", HOOK.format("(name)", "(somebody)"))
    project.test(
        "@pytest.fixture(scope='session')\ndef wide():\n    return ask('wide Anna')\n"
        "@pytest.mark.llm_cache(scrub=lambda text: text.replace('some', 'any'))\n"
        "def test_one(wide, llm_cassette):\n"
        "    assert wide.startswith('wide (somebody)')\n"
        "    assert ask('Anna').startswith('(anybody)')\n"
        "    with llm_cassette('more'):\n        assert ask('Anna').startswith('(anybody)')\n"
    )
    assert "3 recorded" in project.run()
    assert "3 replayed" in project.run("--llm-cache=replay")
    stored = "".join((project.root / path).read_text() for path in project.cassettes())
    assert ("Anna" in stored, stored.count("(anybody)")) == (False, 4)


def test_a_hook_that_gives_no_text_fails_the_test(project: Project) -> None:
    project.write("conftest.py", "def pytest_llm_cache_scrub(text):\n    print(text)\n")
    project.test("def test_one(llm_cache):\n    ask()")
    assert "gave NoneType in place of a text" in project.run(failed=1)
    assert project.cassettes() == []
