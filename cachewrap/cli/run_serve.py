"""``cachewrap run --serve``: a command of any kind, whose models are asked through a proxy."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from threading import Thread
from types import FrameType
from typing import Final

from cachewrap.cache import Cache
from cachewrap.cli.options import importing_proxy
from cachewrap.errors import StoreError
from cachewrap.proxy.providers import base_urls, upstreams_of
from cachewrap.proxy.settings import Settings
from cachewrap.run.program import apart_of, lines_of

_PROXIES: Final = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_PAST_PROXIES: Final = ("NO_PROXY",) if os.name == "nt" else ("no_proxy", "NO_PROXY")
_HERE: Final = "127.0.0.1"

_PASSED_ON: Final = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Signals that are sent to us alone."""

_SHARED: Final = ("SIGINT", "SIGQUIT")
"""Signals that a terminal sends to the command as well: what comes of them is for it to say."""


class CannotStart(Exception):
    """A program that the system did not start.

    Args:
        error: what it said.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.status = 127 if isinstance(error, FileNotFoundError) else 126  # as shells have it


def run(
    path: str,
    words: list[str],
    settings: Settings,
    environment: Mapping[str, str],
    quiet: bool = False,
) -> int:
    """Run a command to its end, and the proxy as long; its exit status, as shells have it.

    Args:
        path: the program.
        words: its name and arguments.
        settings: those of the proxy, without what the command's variables name.
        environment: that of the command, without what leads to the proxy.
        quiet: whether nothing is said at the end.

    Raises `CannotStart`, and `CachewrapError` where there can be no proxy.
    """
    with importing_proxy("--serve"):
        from cachewrap.proxy.service import opened, serving
    began, given = time.time(), settings.upstreams
    sys.argv = list(words)  # what is kept of a run has the name of its program
    upstreams = upstreams_of(environment, given)
    cache = opened(settings.url)
    token = secrets.token_urlsafe(16)  # other users of the machine reach loopback as well
    settings = replace(
        settings, upstreams=upstreams, token=token, log="off", command="cachewrap run --serve"
    )
    with ExitStack() as stack:
        with _heard(settings):
            proxy = stack.enter_context(serving(settings, cache))
        bases = base_urls(proxy.address, token, environment, given)
        status = _wait(path, words, {**environment, **bases, **past_proxies(environment)})
    if not quiet:
        lines = _lines(cache, began, upstreams[len(given) :])
        if sys.stderr is not None:  # a service may be started without one
            with suppress(OSError, ValueError):
                sys.stderr.write("".join(f"cachewrap: {line}\n" for line in lines))
    return status


@contextmanager
def _heard(settings: Settings) -> Iterator[None]:
    """Say which address cannot be had."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
            ": give another --port, or leave it out"
        ) from None


def _lines(cache: Cache, began: float, own: Sequence[str]) -> list[str]:
    """What is said at the end: what was saved, what kept calls from it, and who was asked."""
    stats = cache.stats
    try:
        apart = apart_of(cache, stats, stats.missed, began)
    finally:
        cache.close()
    lines = lines_of(stats, cache.url, {}, apart)
    if not stats.total.calls + stats.absent + stats.bypassed:
        lines.append("nothing asked the proxy: the command reads no base URL from its environment")
    if own:
        places = ", ".join(one.replace("=", " at ", 1) for one in own)
        lines.append(f"asked where the environment says: {places}")
    return lines


def past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that let a command reach its own machine where it has a proxy for others."""
    if not any(environment.get(name) for name in _PROXIES):
        return {}
    found = {}
    for name in _PAST_PROXIES:
        known = environment.get(name) or environment.get(name.swapcase(), "")
        parts = [part for part in (one.strip() for one in known.split(",")) if part]
        if not {"*", _HERE} & set(parts):
            parts.append(_HERE)
        found[name] = ",".join(parts)
    return found


def _wait(path: str, words: list[str], environment: Mapping[str, str]) -> int:
    """Run a program beside us, and wait for it; its exit status, as shells have it."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    with (
        _handled(_PASSED_ON, pass_on),
        _handled(_SHARED, lambda number, frame: None),
        _waking() as (waiting, waking),
    ):
        try:
            # Whatever else was opened for it stays open: what is ours is not inherited anyway.
            child = subprocess.Popen(words, executable=path, env=environment, close_fds=False)
        except OSError as error:
            raise CannotStart(error) from None
        for number in early:
            child.send_signal(number)
        Thread(target=_see_out, args=(child, waking), daemon=True).start()
        # To wait for the child itself would be to miss a signal that another thread was given.
        while (status := child.returncode) is None:
            waiting.recv(4096)
    return 128 - status if status < 0 else status


def _see_out(child: subprocess.Popen[bytes], waking: socket.socket) -> None:
    child.wait()
    with suppress(OSError):  # a signal may have told before
        waking.send(b"\0")


@contextmanager
def _waking() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection: from the first one comes something at each signal."""
    waiting, waking = socket.socketpair()
    with waiting, waking:
        waking.setblocking(False)
        before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        try:
            yield waiting, waking
        finally:
            signal.set_wakeup_fd(before)


@contextmanager
def _handled(
    names: Sequence[str], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals, but for those that whoever started us has switched off."""
    there = [number for name in names if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.getsignal(number) for number in there}
    handled = [number for number in there if before[number] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
