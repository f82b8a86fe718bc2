"""The proxy as the tests run it: in a thread of their process, or as the command."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cachewrap.proxy.settings import Limits, Settings
from proxy.raw import PATIENCE, Client, Message


class Proxy:
    """A proxy that runs.

    Attributes:
        port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, patience: float = PATIENCE) -> Client:
        """A new connection to it."""
        return Client(self.port, patience)

    def ask(self, data: bytes) -> Message:
        """The answer to one request, on a connection of its own."""
        with self.client() as client:
            return client.ask(data)


class Within(Proxy):
    """A proxy in a thread of this process.

    Attributes:
        loop: that it runs in.
        service: the proxy itself.
    """

    def __init__(self, port: int, loop: asyncio.AbstractEventLoop, service: Any) -> None:
        super().__init__(port)
        self.loop = loop
        self.service = service

    def tasks(self) -> int:
        """How many tasks run in its loop, this question left out."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(PATIENCE)


@contextmanager
def within(
    url: str = "memory:",
    upstreams: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    make: Callable[[Settings], Any] | None = None,
    **settings: Any,
) -> Iterator[Within]:
    """Run a proxy in a thread of this process.

    Args:
        url: the cache's.
        upstreams: names and addresses.
        limits: of its own.
        make: makes the service of the settings.
        **settings: further ones.
    """
    from cachewrap.proxy.service import Service

    given = Settings(
        url=url,
        port=0,
        upstreams=tuple(f"{name}={place}" for name, place in (upstreams or {}).items()),
        limits=limits or Limits(),
        **{"log": "off", **settings},
    )
    started: queue.Queue[Any] = queue.Queue()
    faults: list[dict[str, Any]] = []

    async def run() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, told: faults.append(told))
        async with (make or Service)(given) as service:
            started.put((loop, end, service))
            await end.wait()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            started.put(error)

    thread = threading.Thread(target=main, name="proxy", daemon=True)
    thread.start()
    told = started.get(timeout=PATIENCE)
    if isinstance(told, BaseException):
        raise told
    loop, end, service = told
    try:
        yield Within(int(service.address.rpartition(":")[2]), loop, service)
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the proxy did not end"
        assert not faults, faults


class Process(Proxy):
    """A proxy as the command.

    Attributes:
        process: it.
        said: its lines on stdout and stderr.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        first: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, first), daemon=True),
            threading.Thread(target=self._read, args=(process.stderr, None), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        line = first.get(timeout=PATIENCE)
        if "http://" not in line:
            process.wait(PATIENCE)
            raise RuntimeError("".join(self.said))
        super().__init__(int(line.rstrip().rstrip("/").rpartition(":")[2]))

    def _read(self, stream: IO[str], first: queue.Queue[str] | None) -> None:
        for line in stream:
            self.said.append(line)
            if first is not None:
                first.put(line)
        if first is not None:
            first.put("")

    def end(self, how: int = signal.SIGTERM) -> int:
        """End it so: its status."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Its status, once it has ended."""
        status = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status


@contextmanager
def command(
    *arguments: str,
    upstreams: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Process]:
    """Run the command ``cachewrap serve`` on a free port, and kill it where it has not ended."""
    line = [sys.executable, "-m", "cachewrap", "serve", *arguments, "--port", "0"]
    for name, place in (upstreams or {}).items():
        line += ["--upstream", f"{name}={place}"]
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **(variables or {})},
    )
    try:
        yield Process(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
