"""`cachewrap run --unkeyed`, and the line that says which name makes every call a miss."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

import pytest
from standin import Upstream

from cli.filling import CommandLine
from cli.test_running import Run, run, start, up

__all__ = ["run", "start", "up"]

ASKING = """
import os, sys, uuid, openai

def ask(count, **more):
    client = openai.OpenAI(base_url=os.environ["UP"], api_key="none", max_retries=0)
    for n in range(count):
        said = [{"role": "user", "content": f"question {n}"}]
        options = {name: f(uuid.uuid4()) for name, f in more.items()}
        client.chat.completions.create(model="gpt-4o", messages=said, **options)
"""


@pytest.fixture(autouse=True)
def asking(start: Run, tmp_path: Path) -> None:
    (tmp_path / "tracked.py").write_text(ASKING)


def test_a_run_that_never_hits_says_why_and_the_option_that_it_names_helps(
    run: Run, up: Upstream
) -> None:
    code = "from tracked import ask; ask(6, extra_headers=lambda i: {'x-run': i.hex})"
    first, second = run("-c", code), run("-c", code)
    assert "missed" not in first.stderr
    assert second.stderr.splitlines()[-1] == (
        "cachewrap: 6 of 6 calls missed: each differs from a stored one in the header x-run alone "
        "(--unkeyed x-run)"
    )
    assert up.calls == 12
    third, fourth = (run("--unkeyed", "x-run", "-c", code) for _ in range(2))
    assert up.calls == 18
    assert "6 of 6 calls answered" in fourth.stderr
    assert "missed" not in third.stderr + fourth.stderr


def test_the_calls_of_sub_processes_are_looked_at_as_well(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import subprocess, sys\n"
        "code = 'from tracked import ask; ask(6, user=str)'\n"
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
    )
    told = [run("program.py").stderr for _ in range(2)]
    assert "missed" not in told[0]
    assert "6 of 6 calls missed: each differs from a stored one in the field user" in told[1]


@pytest.mark.parametrize(
    ("words", "variables", "url", "named"),
    [
        pytest.param((), {}, None, None, id="none"),
        pytest.param(("--unkeyed", "X-A"), {}, "X-A", "X-A", id="one"),
        pytest.param(("--unkeyed", "a,b", "--unkeyed", "c"), {}, "a,b,c", "a,b,c", id="several"),
        pytest.param(("--unkeyed", "b"), {"UNKEYED": "a"}, "a,b", "a,b", id="and the environment"),
        pytest.param(
            ("--unkeyed", "b", "--url", "memory:?unkeyed=a"), {}, "a,b", "a,b", id="and the URL"
        ),
        pytest.param(("--url", "memory:?unkeyed=a"), {}, "a", None, id="in the URL"),
    ],
)
def test_the_environment_of_a_program_has_the_names(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    variables: dict[str, str],
    url: str | None,
    named: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "UNKEYED"):
        monkeypatch.delenv(f"CACHEWRAP_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f"CACHEWRAP_{name}", value)
    lines = CommandLine(capsys)("env", *words).out.splitlines()
    found = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    assert found.get("CACHEWRAP_UNKEYED") == named
    query = found["CACHEWRAP_URL"].strip("'").partition("?")[2]
    assert parse_qs(query).get("unkeyed", [None]) == [url]


def test_what_is_asked_cannot_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    done = CommandLine(capsys)("run", "--unkeyed", "messages", "-c", "0")
    assert done.status == 2
    assert "unkeyed= cannot leave out 'messages'" in done.err
