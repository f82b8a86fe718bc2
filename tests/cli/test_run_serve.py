"""`cachewrap run --serve`, end to end: any command has the cache, by a proxy of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from standin import Upstream

pytest.importorskip("h11")
pytest.importorskip("prometheus_client")

from cachewrap import Cache
from cachewrap.cli.run_serve import past_proxies
from cli.filling import CommandLine

ASKING = """
import json, os, sys, urllib.error, urllib.request

def ask(prompt, base=None):
    said = {"model": "gpt-4o", "messages": [{"role": "user", "content": prompt}]}
    asked = urllib.request.Request(
        (base or os.environ["OPENAI_BASE_URL"]) + "/chat/completions",
        json.dumps(said).encode(),
        {"content-type": "application/json", "authorization": "Bearer none"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.headers["x-cachewrap"], json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["x-cachewrap"], json.load(error)

if __name__ == "__main__":
    for prompt in sys.argv[1:]:
        status, mark, answer = ask(prompt)
        print(status, mark)
"""

PYTHON = sys.executable

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def start(tmp_path: Path, up: Upstream) -> Callable[..., subprocess.Popen[str]]:
    """Starts `cachewrap run --serve`; its OpenAI is the stand-in, as the environment says."""
    (tmp_path / "asking.py").write_text(ASKING)
    taken = ("CACHEWRAP_", "OPENAI_", "ANTHROPIC_", "AZURE_")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(taken)
        and name != "PYTHONSAFEPATH"
        and not name.lower().endswith("_proxy")
    }

    def start(*words: str, **given: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PYTHON, "-m", "cachewrap", "run", "--serve", *words],
            cwd=tmp_path,
            env={**clean, "OPENAI_BASE_URL": up.base_url, **given},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Run:
    """Runs `cachewrap run --serve` to its end."""

    def run(*words: str, stdin: str = "", **given: str) -> subprocess.CompletedProcess[str]:
        process = start(*words, **given)
        try:
            out, err = process.communicate(stdin, timeout=60)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    return run


def test_a_command_is_answered_from_the_store_the_second_time(
    run: Run, up: Upstream, tmp_path: Path
) -> None:
    before = up.calls
    first = run("sh", "-c", f"{PYTHON} asking.py a b && {PYTHON} asking.py a")
    again = run("--disk", ".cache", PYTHON, "asking.py", "a", "b")
    assert up.calls == before + 2
    assert (first.stdout, again.stdout) == ("200 miss\n200 miss\n200 hit\n", "200 hit\n200 hit\n")
    place = f"disk://{tmp_path}/.cache?cache_seed=41"
    assert f"cachewrap: 1 of 3 calls answered from {place}, which saved " in first.stderr
    assert "; 2 asked upstream" in first.stderr
    assert f"cachewrap: 2 of 2 calls answered from {place}, which saved " in again.stderr
    told = f"cachewrap: asked where the environment says: openai at {up.base_url}\n"
    assert told in first.stderr


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        pytest.param(["--name", "a"], ["a"], id="under a name"),
        pytest.param([], [""], id="without one"),
        pytest.param(["--no-ledger"], [], id="not at all"),
    ],
)
def test_what_a_command_asks_is_kept(
    words: list[str], kept: list[str], run: Run, tmp_path: Path
) -> None:
    done = run(*words, PYTHON, "asking.py", "one", "one")
    runs = Cache.disk(41, tmp_path / ".cache").runs()
    assert [one.name * one.named for one in runs] == kept
    for one in runs:
        assert [call.outcome for call in one.calls()] == ["miss", "hit"]
        assert one.processes[0].program == Path(PYTHON).name
    assert ("cachewrap: run a: cachewrap runs show a\n" in done.stderr) == (kept == ["a"])


def test_a_server_that_is_named_goes_before_the_environment(run: Run, up: Upstream) -> None:
    known = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = run("--upstream", f"openai={up.root_url}", PYTHON, "asking.py", "named", **known)
    assert done.stdout == "200 miss\n"
    assert "environment" not in done.stderr


def test_what_is_not_stored_is_404_in_mode_replay(run: Run, up: Upstream) -> None:
    before = up.calls
    done = run("--mode", "replay", "--samples", PYTHON, "asking.py", "nobody asked", "this")
    assert (done.returncode, done.stdout) == (0, "404 miss\n404 miss\n")
    assert up.calls == before
    assert "cachewrap: 0 of 2 calls answered" in done.stderr
    assert "; 2 not stored, in mode replay" in done.stderr


def test_a_command_is_what_it_is_without_us(run: Run) -> None:
    code = """
import os, sys
print(sys.stdin.read())
print(sorted(name for name in sys.modules if name.startswith("cachewrap")))
print([name for name in os.environ if name.startswith("CACHEWRAP_")])
print(os.environ.get("PYTHONPATH", ""), os.environ["NO_PROXY"], os.environ["OPENAI_BASE_URL"])
print("here", file=sys.stderr)
"""
    done = run(PYTHON, "-c", code, stdin="given", HTTP_PROXY="http://127.0.0.1:9")
    given, modules, ours, last = done.stdout.splitlines()
    assert (given, modules, ours) == ("given", "[]", "[]")
    assert "bootstrap" not in last
    assert "127.0.0.1 http://127.0.0.1:" in last
    assert last.endswith("/openai")
    assert done.stderr.startswith("here\ncachewrap: no call of a model was seen; cache disk://")
    assert "cachewrap: nothing asked the proxy: " in done.stderr


def test_a_command_has_the_files_that_were_opened_for_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from a file")
    inner = f"{PYTHON} -m cachewrap run --serve --quiet sh -c 'cat <&3' 3<given 2>&-"
    done = run("--quiet", "sh", "-c", inner)
    assert (done.returncode, done.stdout) == (0, "from a file")


def test_a_command_has_its_counts_to_itself(run: Run, tmp_path: Path) -> None:
    (folder := tmp_path / "counts").mkdir()
    done = run("sh", "-c", "echo $PROMETHEUS_MULTIPROC_DIR", PROMETHEUS_MULTIPROC_DIR=str(folder))
    assert (done.stdout, list(folder.iterdir())) == (f"{folder}\n", [])


def test_nobody_else_on_the_machine_is_served(run: Run) -> None:
    code = """
import os, asking
base = os.environ["OPENAI_BASE_URL"]
scheme, _, host, token, rest = base.split("/", 4)
for path in (rest, f"{token[:-1]}/{rest}", f"{token}/{rest}"):
    print(asking.ask("a secret", f"{scheme}//{host}/{path}")[:2])
"""
    done = run("--quiet", PYTHON, "-c", code)
    assert done.stdout.splitlines() == ["(401, 'bypass')", "(401, 'bypass')", "(200, 'miss')"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        pytest.param(["sh", "-c", "exit 7"], 7, "no call", id="its own"),
        pytest.param(["sh", "-c", "kill -TERM $$"], 143, "no call", id="killed by a signal"),
        pytest.param(["no-such-command"], 127, "no such file, and no such command", id="missing"),
        pytest.param(["./plain.bin"], 126, "nor can it be executed", id="not executable"),
        pytest.param(["./empty"], 126, "Exec format error", id="no program"),
        pytest.param(["./lost"], 127, "No such file or directory", id="no interpreter"),
    ],
)
def test_the_exit_status_is_that_of_a_shell(
    words: list[str], status: int, told: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "plain.bin").write_text("#!/bin/sh\n")
    (tmp_path / "empty").write_bytes(b"\0")
    (tmp_path / "lost").write_text("#!/no/such/sh\n")
    (tmp_path / "empty").chmod(0o700)
    (tmp_path / "lost").chmod(0o700)
    done = run(*words)
    assert done.returncode == status
    assert told in done.stderr


@pytest.mark.parametrize(
    ("number", "to_all"),
    [
        pytest.param(signal.SIGTERM, False, id="passed on"),
        pytest.param(signal.SIGHUP, False, id="a terminal that is closed"),
        pytest.param(signal.SIGUSR1, False, id="one of its own"),
        pytest.param(signal.SIGINT, True, id="an interrupt at a terminal"),
        pytest.param(signal.SIGQUIT, True, id="quit at a terminal"),
    ],
)
def test_a_signal_is_for_the_command_to_answer(
    number: signal.Signals, to_all: bool, start: Callable[..., subprocess.Popen[str]]
) -> None:
    script = f"trap 'echo got it; exit 5' {number.value}; echo ready; while :; do sleep 0.05; done"
    process = start("sh", "-c", script)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (os.killpg if to_all else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, out) == (5, "got it\n")
    assert "cachewrap: no call of a model was seen" in err


def test_answers_are_stored_that_nobody_waited_for(run: Run, tmp_path: Path, up: Upstream) -> None:
    behind = f"{PYTHON} asking.py late >/dev/null 2>&1 &"
    run("sh", "-c", f"{PYTHON} asking.py first; {behind}")
    assert run(PYTHON, "asking.py", "first").stdout == "200 hit\n"


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        pytest.param(
            ["run", "--upstream", "a=http://127.0.0.1:1", "true"],
            2,
            "--upstream is of the proxy: give --serve as well",
            id="an upstream without a proxy",
        ),
        pytest.param(
            ["run", "--port", "0", "true"],
            2,
            "--port is of the proxy: give --serve as well",
            id="a port without a proxy",
        ),
        pytest.param(
            ["run", "--serve", "--host", "model.internal", "true"],
            2,
            "--upstream NAME=URL",
            id="a host without a name",
        ),
        pytest.param(
            ["run", "--serve", "--upstream", "a=ftp://b", "true"],
            2,
            "begins with http:// or https://",
            id="an upstream of another kind",
        ),
        pytest.param(
            ["run", "--serve", "--disk", "/dev/null/x", "true"],
            3,
            "/dev/null/x",
            id="a cache that cannot be",
        ),
        pytest.param(
            ["run", "--serve", "--port", "{taken}", "true"],
            3,
            "give another --port, or leave it out",
            id="a port that is taken",
        ),
    ],
)
def test_what_cannot_be_is_told(
    words: list[str],
    status: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CACHEWRAP_URL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CommandLine(capsys)(*(word.replace("{taken}", port) for word in words))
    assert done.status == status
    assert told in done.err


def test_what_is_not_installed_is_told(tmp_path: Path) -> None:
    code = "import sys; sys.modules['h11'] = None\nfrom cachewrap.cli.main import main; main()"
    done = subprocess.run(
        [PYTHON, "-c", code, "run", "--serve", "true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "cachewrap: --serve needs h11, which is not installed: pip install 'cachewrap[serve]'\n"
    )


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        pytest.param({}, {}, id="no proxy"),
        pytest.param({"HTTPS_PROXY": "http://p"}, {}, id="none for http"),
        pytest.param(
            {"http_proxy": "http://p"},
            {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"},
            id="nothing past it so far",
        ),
        pytest.param(
            {"ALL_PROXY": "socks5://p", "NO_PROXY": "a.b, .c"},
            {"no_proxy": "a.b,.c,127.0.0.1", "NO_PROXY": "a.b,.c,127.0.0.1"},
            id="others past it",
        ),
        pytest.param(
            {"HTTP_PROXY": "http://p", "no_proxy": "a", "NO_PROXY": "b"},
            {"no_proxy": "a,127.0.0.1", "NO_PROXY": "b,127.0.0.1"},
            id="both ways of writing it",
        ),
        pytest.param(
            {"HTTP_PROXY": "http://p", "no_proxy": "*"},
            {"no_proxy": "*", "NO_PROXY": "*"},
            id="all past it",
        ),
        pytest.param(
            {"HTTP_PROXY": "http://p", "no_proxy": "127.0.0.1"},
            {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"},
            id="there already",
        ),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="names of variables have no case there")
def test_the_command_reaches_its_own_machine(
    environment: dict[str, str], found: dict[str, str]
) -> None:
    assert past_proxies(environment) == found
