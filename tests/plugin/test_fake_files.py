"""Tests in a faked file system: their cassettes are in the real one, and other caches too."""

from __future__ import annotations

import pytest

from plugin.projects import Project

pytest.importorskip("pyfakefs")
pytest_plugins = ["pytester"]

USES = {
    "a fixture": "def test_one(llm_cache, fs):\n    {use}",
    "before the cassette": "def test_one(fs, llm_cache):\n    {use}",
    "a named cassette": "@pytest.mark.llm_cache('named')\ndef test_one(fs):\n    {use}",
    "a module": "def test_one(fs_module, llm_cache):\n    {use}",
    "a session": "def test_one(fs_session, llm_cache):\n    {use}",
    "a block": (
        "from pyfakefs.fake_filesystem_unittest import Patcher\n"
        "def test_one(llm_cache):\n    with Patcher():\n        {use}"
    ),
    "a class": (
        "from pyfakefs.fake_filesystem_unittest import TestCase\n"
        "@pytest.mark.llm_cache\nclass TestIt(TestCase):\n    def setUp(self):\n"
        "        self.setUpPyfakefs()\n    def test_one(self):\n        {use}"
    ),
}
OTHER = "\ndef test_two(llm_cache):\n    assert {}"
FAKED = "assert not __import__('os').path.exists(__file__); "


@pytest.mark.parametrize("body", USES.values(), ids=USES)
def test_a_cassette_is_in_the_real_one(project: Project, body: str) -> None:
    project.test(body.format(use=f"{FAKED}assert ask('one')") + OTHER.format("ask('two')"))
    assert "0 replayed, 2 recorded" in project.run(passed=2)
    assert len(project.cassettes()) == 2
    assert "2 replayed, 0 recorded" in project.run("--llm-cache=replay", passed=2)


def test_the_answers_of_an_sdk_are_on_it(project: Project) -> None:
    body = USES["a fixture"].format(use=f"{FAKED}assert told()") + OTHER.format("told('again')")
    project.test(f"from sdk import told\n{body}")
    assert "0 replayed, 2 recorded" in project.run(passed=2)
    assert "2 replayed, 0 recorded" in project.run("--llm-cache=replay", passed=2)
    assert project.upstream.calls == 2


OTHERS = {
    "disk": "Cache.disk(41, {root!r})",
    "the default folder": "Cache.disk()",
    "jsonl": "Cache.jsonl({root!r} + '.jsonl')",
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_another_cache_is_in_the_real_one(project: Project, make: str) -> None:
    make = make.format(root=str(project.root / "answers"))
    project.test(
        "from cachewrap import Cache, llm_cached\ncalls = []\n"
        "@llm_cached(version=1)\ndef long(prompt):\n    calls.append(1)\n"
        "    return prompt * 2 ** 20\n"
        + "".join(
            f"def test_{name}(fs):\n    {FAKED}\n    for _ in range(2):\n"
            f"        with {make}:\n            assert long('a') == 'a' * 2 ** 20\n"
            for name in ("one", "two")
        )
        + "def test_three():\n    print(f'asked {len(calls)} times')\n"
    )
    flags = ("-s", "-W", "error::cachewrap.CacheWarning")
    assert "asked 1 times" in project.run(*flags, passed=3)
    assert "asked 0 times" in project.run(*flags, passed=3)
