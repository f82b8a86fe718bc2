"""Placeholders for keys: a recorded test runs where no key is, and nothing else sees them."""

from __future__ import annotations

import os

import pytest

from cachewrap.pytest_plugin.environment import _KEYS, PLACEHOLDER
from plugin.projects import Project

pytest_plugins = ["pytester"]

CLIENT = """
import openai

client = openai.OpenAI(max_retries=0)

def told():
    messages = [{"role": "user", "content": "hi"}]
    done = client.chat.completions.create(model="m", messages=messages)
    return done.choices[0].message.content
"""
SEEN = "import os\ndef seen(name='OPENAI_API_KEY'):\n    return os.environ.get(name)\n"
KEY = "OPENAI_API_KEY"


@pytest.fixture(autouse=True)
def no_keys(project: Project) -> None:
    for name in (*(name for names in _KEYS.values() for name in names), "AZURE_OPENAI_ENDPOINT"):
        project.patch.delenv(name, raising=False)
    project.write("seen.py", SEEN)


@pytest.mark.parametrize("where", ["a module", "conftest.py", "a fixture", "the test"])
def test_a_client_is_made_without_a_key(project: Project, where: str) -> None:
    project.patch.setenv("OPENAI_BASE_URL", project.upstream.base_url)
    project.write("client.py", CLIENT)
    project.write("tests/conftest.py", "import client\n" if where == "conftest.py" else "")
    test = {
        "a fixture": "@pytest.fixture(scope='session')\ndef told():\n    import client\n"
        "    return client.told\ndef test_one(told, llm_cache):\n    assert told()",
        "the test": "def test_one(llm_cache):\n    import client\n    assert client.told()",
    }
    project.test(test.get(where, "from client import told\n" + ONE))
    with project.patch.context() as patch:
        patch.setenv(KEY, "sk-real")
        project.run()
    project.patch.setenv("CI", "true")
    printed = project.run("tests/test_it.py")
    assert "1 replayed" in printed
    assert "warnings summary" not in printed
    assert (KEY in os.environ, project.upstream.calls) == (False, 1)


ONE = "def test_one(llm_cache):\n    assert told()\n"

CASES: dict[str, tuple[tuple[str, ...], dict[str, str], str, str | None]] = {
    "the command line": (("--llm-cache=replay",), {}, "", PLACEHOLDER),
    "an ini option": ((), {"CI": "1"}, "llm_cache_auto = true", PLACEHOLDER),
    "the environment": ((), {"CACHEWRAP_MODE": "replay"}, "llm_cache = off", PLACEHOLDER),
    "not in mode normal": ((), {}, "llm_cache_auto = true", None),
    "not in mode refresh": (("--llm-cache=refresh",), {"CI": "1"}, "llm_cache_auto = 1", None),
    "not where no cassette is": ((), {"CI": "1"}, "", None),
    "not where the project says so": ((), {"CI": "1"}, "llm_cache_placeholders = none", None),
    "a key that is there": (("--llm-cache=replay",), {KEY: "sk-real"}, "", "sk-real"),
    "a secret that a forge has not": (("--llm-cache=replay",), {KEY: ""}, "", PLACEHOLDER),
    "a key of another kind": (("--llm-cache=replay",), {"OPENAI_ADMIN_KEY": "x"}, "", None),
}


@pytest.mark.parametrize(("args", "env", "ini", "seen"), CASES.values(), ids=CASES)
def test_a_test_with_a_cassette_sees(
    project: Project, args: tuple[str, ...], env: dict[str, str], ini: str, seen: str | None
) -> None:
    for name, value in env.items():
        project.patch.setenv(name, value)
    project.ini(ini)
    project.test(
        f"from seen import seen\nat_import = seen()\ndef test_one(llm_cache):\n"
        f"    assert [seen(), at_import] == [{seen!r}] * 2"
    )
    project.run(*args)
    assert os.environ.get(KEY) == env.get(KEY)


def test_a_project_with_a_cassette_needs_no_option(project: Project) -> None:
    project.test("def test_one(llm_cache):\n    ask()", "tests/deep/test_other.py")
    project.run("tests/deep")
    project.patch.setenv("CI", "1")
    project.test("from seen import seen\ndef test_one(llm_cache):\n    assert seen()")
    project.run("tests/test_it.py::test_one")


OTHERS = """
from seen import seen
def test_plain():
    if not seen():
        pytest.skip("no key")
    raise AssertionError(seen())
@pytest.fixture(scope="session")
def client():
    assert seen()
def test_needs_it_first(client):
    assert not seen()
def test_one(client, llm_cache):
    assert seen()
@pytest.mark.llm_cache(mode="normal")
def test_asks():
    assert not seen()
"""


def test_a_test_without_a_cassette_sees_none(project: Project) -> None:
    project.ini("llm_cache = replay")
    project.test(OTHERS)
    project.run(passed=3, skipped=1)


def test_the_project_adds_variables(project: Project) -> None:
    project.ini("llm_cache_placeholders = DEEPSEEK_API_KEY SHOP_KEY")
    project.test(
        "from seen import seen\ndef test_one(llm_cache):\n"
        "    assert seen() == seen('DEEPSEEK_API_KEY') == seen('SHOP_KEY') != None"
    )
    project.run("--llm-cache=replay")


@pytest.mark.parametrize("azure", [True, False])
def test_the_key_of_azure_goes_with_its_endpoint(project: Project, azure: bool) -> None:
    if azure:
        project.patch.setenv("AZURE_OPENAI_ENDPOINT", "https://shop.openai.azure.com")
    project.test(
        "from seen import seen\ndef test_one(llm_cache):\n"
        f"    assert (seen('AZURE_OPENAI_API_KEY') is not None) == {azure}"
    )
    project.run("--llm-cache=replay")


REFUSED = {
    "a status": "status_code = 401",
    "what it says": "__str__ = lambda error: 'Incorrect API key provided: placehol***wrap'",
}


@pytest.mark.parametrize("attribute", REFUSED.values(), ids=REFUSED)
def test_an_error_for_a_wrong_key_says_that_there_is_none(project: Project, attribute: str) -> None:
    project.test(
        f"class Refused(Exception):\n    {attribute}\ndef test_one():\n    raise Refused()"
    )
    told = project.run("--llm-cache=replay", failed=1)
    assert "(no key is set: " in told
    assert KEY in told
    assert "no key is set" not in project.run("--llm-cache=normal", failed=1)
