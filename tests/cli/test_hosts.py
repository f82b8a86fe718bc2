"""`cachewrap run` over plain HTTP: models on hosts of one's own, and on hosts that nobody named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from standin import Upstream

from cli.filling import CommandLine
from cli.test_running import Run, run, start, up

__all__ = ["run", "start", "up"]

PLAIN = """
import os, socket, subprocess, sys
try:
    import httpx
except ModuleNotFoundError:
    import httpx2 as httpx  # beside OpenAI's SDK from version 3 on

resolve = socket.getaddrinfo

def resolved(host, *rest, **options):
    return resolve("127.0.0.1" if host == "model.internal" else host, *rest, **options)

socket.getaddrinfo = resolved
client = httpx.Client(trust_env=False)

def ask(prompt, host="127.0.0.1", path="/chat/completions"):
    url = os.environ["UP"].replace("127.0.0.1", host) + path
    said = [{"role": "user", "content": prompt}]
    client.post(url, json={"model": "m", "messages": said}).raise_for_status()
"""
ON_A_NAME = """
from plain import *
ask("main", "model.internal"); ask("main", "model.internal")
child = "from plain import ask; ask('child', 'model.internal')"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in this process."""
    monkeypatch.delenv("CACHEWRAP_HOSTS", raising=False)
    return CommandLine(capsys)


@pytest.fixture(autouse=True)
def plain(tmp_path: Path, start: Run) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "on_a_name.py").write_text(ON_A_NAME)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said at the end, without where the cache is."""
    assert done.returncode == 0, done.stderr
    return done.stderr.replace("cachewrap: ", "").splitlines()


def test_a_model_on_loopback_is_cached(run: Run, up: Upstream) -> None:
    # The program imports httpx before anything else that is patched.
    for calls in ("0 of 1 call ", "1 of 1 call "):
        [line] = lines(run("-c", "from plain import ask; ask('x')"))
        assert line.startswith(calls)
    assert up.calls == 1


def test_calls_to_a_host_that_nobody_named_are_counted_in_every_process(
    run: Run, up: Upstream
) -> None:
    port = up.root_url.rpartition(":")[2]
    summed, hint = lines(run("on_a_name.py"))
    assert summed.startswith("no call was cached; cache disk:")
    assert hint == (
        f"3 calls to model.internal:{port} were not cached: host not known "
        f"(--host model.internal:{port})"
    )
    assert up.calls == 3


def test_the_option_that_is_told_has_them_cached(run: Run, up: Upstream) -> None:
    port = up.root_url.rpartition(":")[2]
    [line] = lines(run("--host", f"model.internal:{port}", "on_a_name.py"))
    assert (line[:12], up.calls) == ("1 of 3 calls", 2)


def test_the_environment_names_hosts_as_well(run: Run, up: Upstream) -> None:
    code = "from plain import ask; ask('x', 'model.internal'); ask('x', 'model.internal')"
    other = ("--host", "other.example.org")
    [line] = lines(run(*other, "-c", code, CACHEWRAP_HOSTS="a.example.org, *.internal"))
    assert (line[:12], up.calls) == ("1 of 2 calls", 1)


def test_what_is_named_is_added_to_the_environment(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "CACHEWRAP_HOSTS" not in cli("env", "--url", f"disk:{tmp_path}").out
    monkeypatch.setenv("CACHEWRAP_HOSTS", "a.example.org")
    told = cli(
        "env", "--url", f"disk:{tmp_path}", "--host", "b.example.org", "--host", "*:8000"
    ).out
    assert "export CACHEWRAP_HOSTS='a.example.org,b.example.org,*:8000'\n" in told


@pytest.mark.parametrize("pattern", ["http://model.internal/v1", "model.internal/v1", ""])
def test_what_is_no_host_is_refused(cli: CommandLine, tmp_path: Path, pattern: str) -> None:
    done = cli("env", "--url", f"disk:{tmp_path}", "--host", pattern)
    assert (done.status, done.out) == (2, "")
    assert "model.internal:8000" in done.err


def test_a_variable_that_names_no_host_is_told(run: Run, up: Upstream) -> None:
    done = run("-c", "from plain import ask; ask('x')", CACHEWRAP_HOSTS="http://model.internal")
    assert done.stderr.startswith("cachewrap: CACHEWRAP_HOSTS: a host is named like")
    assert (done.returncode, up.calls) == (2, 0)


def test_quiet_says_nothing(run: Run) -> None:
    done = run("--quiet", "on_a_name.py")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_no_model_was_asked_that_is_said(run: Run) -> None:
    code = """
from plain import client, os
client.get(os.environ["UP"] + "/models")
client.post(os.environ["UP"] + "/messages", json={"text": "from one person to another"})
"""
    [line] = lines(run("-c", code))
    assert line.startswith("no call of a model was seen; cache disk:")


def test_in_replay_the_line_counts_what_was_missed(run: Run, up: Upstream) -> None:
    lines(run("-c", "from plain import ask; [ask(str(n)) for n in range(4)]"))
    code = """
from plain import ask
import cachewrap
for n in range(5):
    try:
        ask(str(n))
    except cachewrap.ReplayMissError:
        print("missed", n)
"""
    done = run("--mode", "replay", "-c", code)
    [line] = lines(done)
    assert (done.stdout, up.calls) == ("missed 4\n", 4)
    assert line.startswith("4 of 5 calls answered from disk:")
    assert line.endswith("; 1 not stored, in mode replay")
