"""Rules of equality for cassettes: in the ini file, by the fixture, and by the marker."""

from __future__ import annotations

import pytest

from plugin.projects import Project

pytest_plugins = ["pytester"]

RULES = "[[rule]]\nreplace = '''day \\d+'''\nwith = 'day …'\n"

ASKING = """
import itertools, pathlib
def day():
    file = pathlib.Path("day.txt")
    file.write_text(str(int(file.read_text()) + 1) if file.exists() else "1")
    return f"day {file.read_text()}"
"""


def test_the_ini_file_names_rules_for_every_cassette(project: Project) -> None:
    project.write("settings/rules.toml", RULES)
    project.write("day.py", ASKING)
    project.ini("llm_cache_same = settings/rules.toml")
    project.test(
        "from day import day\n"
        "@pytest.fixture(scope='session')\ndef wide():\n    return ask(day())\n"
        "def test_one(wide, llm_cache, llm_cassette):\n"
        "    ask(day())\n    aask\n"
        "    with llm_cassette('judge'):\n        ask(day())\n"
    )
    assert "3 recorded" in project.run()
    assert "3 replayed" in project.run("--llm-cache=replay")
    assert "3 replayed" in project.run("--llm-cache=replay", "-n1")
    assert "3 refreshed" in project.run("--llm-cache=refresh")
    assert "3 replayed" in project.run("--llm-cache=replay", "--rootdir=.", "tests/test_it.py")
    project.ini()
    assert "3 recorded" in project.run()  # exact ones see none of these


def test_a_fixture_goes_before_it_and_a_marker_before_that(project: Project) -> None:
    project.write("rules.toml", RULES)
    project.ini("llm_cache_same = rules.toml")
    project.write(
        "tests/conftest.py",
        "import pytest\nfrom cachewrap.same import ignore\n"
        "@pytest.fixture\ndef llm_cache_same():\n    return [ignore('note')]\n",
    )
    project.test(
        "from cachewrap.same import AGENTS, ignore\n"
        "def labels(cache):\n"
        "    return [] if cache.policy.same is None else list(cache.policy.same.labels)\n"
        "def test_one(llm_cache, llm_cassette):\n"
        "    assert labels(llm_cache) == labels(llm_cassette('a')) == ['ignore(\"note\")']\n"
        "    assert labels(llm_cassette('b', same=None)) == []\n"
        "@pytest.mark.llm_cache(same=[ignore('run')])\n"
        "def test_two(llm_cache, llm_cassette):\n"
        "    assert labels(llm_cache) == labels(llm_cassette('a')) == ['ignore(\"run\")']\n"
        "@pytest.mark.llm_cache(same=None)\n"
        "def test_three(llm_cache):\n    assert labels(llm_cache) == []\n"
        "class TestOthers:\n"
        "    @pytest.fixture\n    def llm_cache_same(self):\n        return AGENTS\n"
        "    def test_four(self, llm_cache):\n"
        "        assert len(labels(llm_cache)) == len(AGENTS)\n"
    )
    project.run(passed=4)


@pytest.mark.parametrize(
    ("fixture", "says"),
    [
        ("def llm_cache_same(tmp_path):\n    return []", "takes no other fixture"),
        ("def llm_cache_same():\n    yield []", "takes no other fixture"),
        ("async def llm_cache_same():\n    return []", "takes no other fixture"),
        ("def llm_cache_same():\n    return 3", "llm_cache_same: same= takes a list of rules"),
        ("def llm_cache_same():\n    return 'none.toml'", "there is no such file"),
    ],
)
def test_what_is_wrong_fails_the_test(project: Project, fixture: str, says: str) -> None:
    project.test(f"@pytest.fixture\n{fixture}\ndef test_one(llm_cache):\n    ask()")
    assert says in project.run(errors=1)


def test_what_is_wrong_with_the_file_is_said(project: Project) -> None:
    project.ini("llm_cache_same = rules.toml")
    project.write("rules.toml", "[[rule]]\nignor = 'a'\n")
    project.test("def test_one(llm_cache):\n    ask()")
    assert "the ini option llm_cache_same: same=" in project.run(errors=1)
