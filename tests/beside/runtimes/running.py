"""Programs in other processes that ask the stand-in upstream, which counts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from standin import Upstream

PROGRAMS = Path(__file__).parent / "programs"
WAIT = 120.0
"""Seconds for a program: a worker imports an SDK first."""


class Programs:
    """Programs of this folder, which share an upstream and a cache's folder."""

    def __init__(self, up: Upstream, folder: Path) -> None:
        self.up = up
        self.seconds = WAIT
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PROGRAMS), *filter(None, sys.path)]),
            "ASK": f"{up.base_url} {folder / 'cache'}",
            "CACHEWRAP_URL": f"disk:{folder / 'cache'}",
        }

    def run(self, *words: str) -> str:
        """What a program prints, which is one of this folder's by its name."""
        command = [str(PROGRAMS / word) if word.endswith(".py") else word for word in words]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=self.seconds,
            check=False,
        )
        sys.stderr.write(done.stderr[-5000:])
        assert done.returncode == 0
        return done.stdout.strip()

    def asked(self, *words: str) -> tuple[int, str]:
        """How many upstream calls a program made, and what it printed."""
        before = self.up.calls
        printed = self.run(*words)
        return self.up.calls - before, printed

    @contextmanager
    def served(self, *command: str) -> Iterator[Server]:
        """A server that is given a socket which listens already, as ``{fd}`` in its command."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            file = listening.fileno()
            words = [word.replace("{fd}", str(file)) for word in command]
            with self.started(words, pass_fds=(file,)):
                yield Server(listening.getsockname()[1])

    @contextmanager
    def started(
        self, command: Sequence[str], pass_fds: Sequence[int] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A program that runs until the block ends."""
        told = self.folder / "told.txt"
        with told.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                start_new_session=True,  # with the workers that it starts
            )
        try:
            yield process
        except BaseException:
            sys.stderr.write(told.read_text(errors="replace")[-5000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)


class Server:
    """A server of HTTP on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> str:
        """What it answers; what went wrong there is an error here."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        assert response.status == 200, text
        return text
