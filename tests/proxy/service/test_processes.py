"""``cachewrap serve`` in processes: its lines, signals, and workers that come and go."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachewrap.proxy import workers
from cachewrap.proxy.settings import Settings
from proxy.service.plain import PIECES, Client, Command, Slow

Serve = Callable[..., Command]
Connect = Callable[[str], Client]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process started is in /proc")


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def refuses(connect: Connect, root: str) -> bool:
    try:
        connect(root).get("/healthz")
    except ConnectionError:
        return True
    return False


def test_counts_of_another_program_are_left_alone(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    command = serve(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "counts"))
    assert connect(command.root).get("/metrics")[0] == 200
    assert not (tmp_path / "counts").exists()


def test_a_second_signal_ends_its_workers_at_once(
    serve: Serve, connect: Connect, upstream: Slow
) -> None:
    upstream.go_on.clear()
    command = serve("--workers", "2", "--upstream", f"local={upstream.url}")
    connect(command.root).ask("slowly", stream=True)
    command.process.send_signal(signal.SIGTERM)
    until(lambda: refuses(connect, command.root))
    assert command.process.poll() is None
    command.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert command.ended()[0] == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"], ids=["out", "err", "all"])
def test_it_serves_without_standard_files(
    connect: Connect, upstream: Slow, tmp_path: Path, closed: str
) -> None:
    """What is stored gets no number to which lines about calls are written."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = (sys.executable, "-m", "cachewrap", "serve", "cache", "--port", str(port))
    given = shlex.join((*words, "--upstream", f"local={upstream.url}"))
    process = subprocess.Popen(["sh", "-c", f"exec {given} {closed}"], cwd=tmp_path)
    try:
        root = f"http://127.0.0.1:{port}"
        until(lambda: not refuses(connect, root))
        marks = [connect(root).ask("hi").headers["x-cachewrap"] for _ in range(2)]
        assert marks == ["miss", "hit"]
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_what_takes_longer_than_the_grace_is_cut_and_not_stored(
    serve: Serve, connect: Connect, upstream: Slow
) -> None:
    words = ("--upstream", f"local={upstream.url}", "--grace", "0.2s")
    marks = []
    for in_time in (False, True, True):
        if in_time:
            upstream.go_on.set()
        else:
            upstream.go_on.clear()
        command = serve(*words, "--log", "off")
        assert connect(command.root).get("/healthz") == (200, '{"status": "ok"}')
        response = connect(command.root).ask("slowly", stream=True)
        marks.append(response.headers["x-cachewrap"])
        if in_time:
            response.read()
        command.process.send_signal(signal.SIGTERM)
        assert command.ended() == (0, "", "")
    assert marks == ["miss", "miss", "hit"]


# -- workers ---------------------------------------------------------------------------------------


@linux
def test_workers_that_go_on_dying_end_it(serve: Serve) -> None:
    command = serve("--workers", "2")
    killed: set[int] = set()

    def kill() -> bool:
        for child in command.children():
            if child not in killed:
                killed.add(child)
                os.kill(child, signal.SIGKILL)
        return command.process.poll() is not None

    until(lambda: kill() if command.process.poll() is None else True)
    status, _, err = command.ended()
    assert status == 1
    *lines, last = err.splitlines()
    assert last == "cachewrap: 6 workers have ended in 10 s, the last one by SIGKILL: giving up"
    told = re.compile(r"cachewrap: worker (\d+) has ended by SIGKILL: starting another one")
    assert {int(told.fullmatch(line)[1]) for line in lines} <= killed  # type: ignore[index]
    assert len(lines) == 5


@linux
def test_no_worker_outlives_its_parent(serve: Serve) -> None:
    command = serve("--workers", "2")
    children = command.children()
    assert len(children) == 2
    command.process.kill()
    command.process.wait()
    until(lambda: not any(map(is_alive, children)))


@linux
def test_a_signal_to_all_of_the_processes_is_one(
    serve: Serve, connect: Connect, upstream: Slow
) -> None:
    upstream.go_on.clear()
    command = serve("--workers", "2", "--upstream", f"local={upstream.url}", "--log", "off")
    response = connect(command.root).ask("slowly", stream=True)
    for process in (*command.children(), command.process.pid):  # as systemd does
        os.kill(process, signal.SIGTERM)
    until(lambda: refuses(connect, command.root))
    upstream.go_on.set()
    assert response.read().count(b"piece") == PIECES
    assert command.ended() == (0, "", "")


def test_the_counts_of_workers_are_put_together_in_a_folder_that_goes(
    serve: Serve, connect: Connect, upstream: Slow, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = serve(
        *("--workers", "2", "--upstream", f"local={upstream.url}", "--log", "off"),
        TMPDIR=str(folder),
    )
    for n in range(12):
        connect(command.root).ask(f"n. {n}").read()
    pages = [connect(command.root).get("/metrics")[1] for _ in range(6)]
    line = 'cachewrap_requests_total{outcome="miss",status="200",upstream="local"} 12.0'
    assert all(line in page for page in pages)
    assert all("cachewrap_build_info{" in page for page in pages)
    assert len(list(folder.iterdir())) == 1
    command.process.send_signal(signal.SIGTERM)
    assert command.ended() == (0, "", "")
    assert list(folder.iterdir()) == []


@pytest.fixture
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_the_variable_of_the_counts_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: None
) -> None:
    monkeypatch.setenv(workers.VARIABLE, "of another")
    told: list[str] = []

    def started(address: str) -> None:
        told.append(address)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()

    given = Settings(url=f"disk:{tmp_path}/c", port=0, workers=2, log="off")
    assert workers.serve(given, started) == 0
    assert len(told) == 1
    assert os.environ[workers.VARIABLE] == "of another"
