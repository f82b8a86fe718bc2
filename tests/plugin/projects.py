"""A project with tests, and runs of pytest in it, against the stand-in upstream."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from standin import Upstream

pytest.importorskip("openai")

# Installed, the plugin loads by itself; from the source tree it is named.
INSTALLED = any(point.name == "cachewrap" for point in entry_points(group="pytest11"))
NAMED = () if INSTALLED else ("-p", "cachewrap.pytest_plugin")
ALONE = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")

APP = """
from cachewrap import llm_cached

def made(prompt):
    with open("calls.log", "a") as log:
        print(prompt, file=log)

def lines():
    try:
        return open("calls.log").read().splitlines()
    except FileNotFoundError:
        return []

@llm_cached(version=1)
def ask(prompt="hi", **options):
    made(prompt)
    return f"{prompt}: answer {len(lines())}"

@llm_cached(version=1)
async def aask(prompt="hi"):
    made(prompt)
    return prompt.upper()
"""

SDK = """
import os, openai

options = {"base_url": os.environ["UPSTREAM"], "api_key": "sk-secret", "max_retries": 0}
client = openai.OpenAI(**options)

def created(prompt, **options):
    messages = [{"role": "user", "content": prompt}]
    return client.chat.completions.create(model="m", messages=messages, **options)

def told(prompt="hi", **options):
    return created(prompt, **options).choices[0].message.content

def streamed(prompt="hi"):
    return [chunk.id for chunk in created(prompt, stream=True)]
"""


class Project:
    """A project with tests, and runs of pytest in it."""

    def __init__(
        self, pytester: pytest.Pytester, upstream: Upstream, patch: pytest.MonkeyPatch
    ) -> None:
        self._pytester = pytester
        self.patch = patch
        self.upstream = upstream
        self.root = pytester.path
        self.status = 0  # of the last run
        for name in ("CI", "CACHEWRAP_MODE", "PYTEST_ADDOPTS", "OPENAI_API_KEY"):
            patch.delenv(name, raising=False)
        patch.setenv("UPSTREAM", upstream.base_url)
        patch.setenv("PYTHONPATH", str(self.root), prepend=":")
        patch.setenv("PYTHONSAFEPATH", "1")
        patch.syspath_prepend(self.root)
        self.write("app.py", APP)
        self.write("sdk.py", SDK)
        self.ini()

    def ini(self, *lines: str) -> None:
        self.write("pytest.ini", "\n".join(["[pytest]", *lines]))

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def test(self, body: str, name: str = "tests/test_it.py") -> Path:
        head = "import pytest\nfrom app import *\nfrom cachewrap import ReplayMissError\n"
        return self.write(name, head + body)

    def run(self, *args: str, fresh: bool = False, **outcomes: int) -> str:
        """Run pytest; what it printed. The outcomes must be just these, by default one passed.

        Most runs are made in this process, which takes a tenth of the time; ``fresh`` ones in one
        of their own, as are those with workers.
        """
        options = (*NAMED, *ALONE, *args)
        if fresh or any(arg.startswith("-n") for arg in args):
            result = self._pytester.runpytest_subprocess(*options, timeout=120)
        else:
            result = self._pytester.runpytest_inprocess(*options)
        self.status = int(result.ret)
        seen = result.parseoutcomes()
        seen.pop("warnings", None)
        seen.pop("warning", None)
        assert seen == (outcomes or {"passed": 1}), result.stdout.str() + result.stderr.str()
        return result.stdout.str()

    def cassettes(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*.jsonl"))

    @property
    def calls(self) -> int:
        """Calls that were made: of the SDK and of decorated functions."""
        log = self.root / "calls.log"
        return self.upstream.calls + (len(log.read_text().splitlines()) if log.exists() else 0)


def import_all() -> None:
    """Import what runs of pytest import, so that none of them imports it anew."""
    import openai

    from cachewrap.sdk.others import patch_all

    for kind in (openai.OpenAI, openai.AsyncOpenAI):
        client = kind(api_key="none")
        assert client.chat.completions
        assert client.files
    patch_all().undo()
