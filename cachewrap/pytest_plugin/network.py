"""The network while tests run: blocked, but for the hosts that are allowed."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from fnmatch import translate
from typing import Any, Final

import pytest

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_BRACKETS: Final = re.compile(r"^\[([^]]*:[^]]*)\]")  # of IPv6, which are no set of letters
_RECORDING: Final = ("normal", "refresh", "off")

_lock = threading.RLock()
_inside_pair = threading.local()


class NetworkBlockedError(RuntimeError):
    """A test wanted to reach a host that is not allowed. Nothing was sent."""


class Blockade:
    """A blockade of the network, and who passes.

    Args:
        allowed: patterns of ``host`` or ``host:port``; each of `_LOOPBACK` stands for all of them.
        option: what blocks the network, for messages.
        remedy: how a host is allowed, for messages.
    """

    def __init__(self, allowed: Iterable[str], option: str, remedy: str) -> None:
        patterns = [_BRACKETS.sub(r"\1", one.strip()) for one in allowed if one.strip()]
        self._allowed = _any(patterns)
        self._names = _any(pattern.partition(":")[0] or pattern for pattern in patterns)
        self._option = option
        self._remedy = remedy
        self._resolved: set[str] = set()

    def allows(self, host: str, port: object) -> bool:
        """Whether a host may be reached: by its name or address, or as one that has such a name.

        Without a port (None), on any.
        """
        allowed = self._names if port is None else self._allowed
        address = _address(host)
        names = [host.partition("%")[0].rstrip(".")]
        if address is not None:
            if str(address) in self._resolved:
                return True
            names = [str(address)]
        if (address is not None and address.is_loopback) or names[0].lower() == "localhost":
            names += _LOOPBACK
        return any(allowed.match(text) for name in names for text in (name, f"{name}:{port}"))

    def check(self, host: str, port: object) -> None:
        """Raise `NetworkBlockedError` for a host that is not allowed."""
        if not self.allows(host, port):
            where = host if port is None else f"{host} (port {port})"
            raise NetworkBlockedError(
                f"{where} is not reached: {self._option} blocks the network. Allow it "
                f"with {self._remedy.format(host)}, or put a stand-in or a cassette in its place"
            )

    def note(self, found: Iterable[Any]) -> None:
        """Take note of the addresses that the name of an allowed host has."""
        self._resolved.update(
            str(_address(place[0]) or place[0])
            for family, *_, place in found
            if family in _INTERNET
        )


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)", re.IGNORECASE)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


# The innermost one decides.
_standing: Final[list[Blockade]] = []


@contextmanager
def blocked(blockade: Blockade) -> Iterator[None]:
    """Block the network for every thread of this process, for the length of a block."""
    with _lock:
        _standing.append(blockade)
        if len(_standing) == 1:
            _put()
    try:
        yield
    finally:
        with _lock:
            _standing.remove(blockade)
            if not _standing:
                _take()


# -- what leads out --------------------------------------------------------------------------------


def _check(family: int, place: Any) -> None:
    """Check where a socket goes; what is no place of the internet passes, or fails by itself."""
    if not _standing or family not in _INTERNET or getattr(_inside_pair, "now", False):
        return
    if isinstance(place, tuple) and len(place) >= 2 and isinstance(place[0], (str, bytes)):
        host = place[0] if isinstance(place[0], str) else place[0].decode("ascii", "replace")
        _standing[-1].check(host, place[1])


def _connecting(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any, /) -> Any:
        _check(self.family, address)
        return original(self, address)

    return connect


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    def sendto(self: socket.socket, data: Any, *rest: Any) -> Any:
        _check(self.family, rest[-1] if rest else None)
        return original(self, data, *rest)

    return sendto


def _sending_message(original: Callable[..., Any]) -> Callable[..., Any]:
    def sendmsg(self: socket.socket, buffers: Any, *rest: Any) -> Any:
        _check(self.family, rest[2] if len(rest) > 2 else None)
        return original(self, buffers, *rest)

    return sendmsg


def _resolving(original: Callable[..., Any]) -> Callable[..., Any]:
    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        flags = args[3] if len(args) > 3 else kwargs.get("flags", 0)
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        # A server asks for a place of its own, and an address is no name that anybody is asked for.
        if not _standing or not name or flags & socket.AI_PASSIVE or _address(name) is not None:
            return original(host, port, *args, **kwargs)
        blockade = _standing[-1]
        blockade.check(name, port)
        found = original(host, port, *args, **kwargs)
        blockade.note(found)
        return found

    return getaddrinfo


def _looking_up(original: Callable[..., Any]) -> Callable[..., Any]:
    def gethostbyname(name: Any, /) -> Any:
        if not _standing or not isinstance(name, str) or not name or _address(name) is not None:
            return original(name)
        blockade = _standing[-1]
        blockade.check(name, None)
        found = original(name)
        addresses = [found] if isinstance(found, str) else found[2]
        blockade.note((socket.AF_INET, (address,)) for address in addresses)
        return found

    return gethostbyname


def _pairing(original: Callable[..., Any]) -> Callable[..., Any]:
    # On Windows a pair is two sockets that are connected over the loopback interface.
    def socketpair(*args: Any, **kwargs: Any) -> Any:
        _inside_pair.now = True
        try:
            return original(*args, **kwargs)
        finally:
            _inside_pair.now = False

    return socketpair


def _connecting_overlapped(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: Any, conn: socket.socket, address: Any) -> Any:
        _check(conn.family, address)
        return original(self, conn, address)

    return connect


_WAYS: Final[tuple[tuple[Any, str, Callable[..., Any]], ...]] = (
    (socket.socket, "connect", _connecting),
    (socket.socket, "connect_ex", _connecting),
    (socket.socket, "sendto", _sending),
    (socket.socket, "sendmsg", _sending_message),
    (socket, "getaddrinfo", _resolving),
    (socket, "gethostbyname", _looking_up),
    (socket, "gethostbyname_ex", _looking_up),
    (socket, "socketpair", _pairing),
    (getattr(asyncio, "IocpProactor", None), "connect", _connecting_overlapped),
)
_in_place: Final[list[tuple[Any, str, Any, Any]]] = []
_MISSING: Final = object()


def _put() -> None:
    for owner, name, guard in _WAYS:
        if owner is not None and hasattr(owner, name):
            ours = guard(getattr(owner, name))
            _in_place.append((owner, name, vars(owner).get(name, _MISSING), ours))
            setattr(owner, name, ours)


def _take() -> None:
    for owner, name, before, ours in _in_place:
        # What somebody else has put around ours stays, and ours in it lets everything pass.
        if vars(owner).get(name) is ours:
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
    _in_place.clear()


# -- in a run of pytest ----------------------------------------------------------------------------


class Blocking:
    """The blockade of a run: around the collection, and each test with its fixtures.

    Args:
        config: of the run.
        everywhere: what blocks the network for all tests; None where only markers do.
        wants_cassette: whether a test has a cassette.
        marked: whether a marker blocks it for its test.
    """

    def __init__(
        self,
        config: pytest.Config,
        everywhere: str | None,
        wants_cassette: Callable[[pytest.Item], bool],
        *,
        marked: bool,
    ) -> None:
        self._config = config
        self._wants_cassette = wants_cassette
        self._marked = marked
        self._everywhere = None
        if everywhere is not None:
            self._everywhere = self._blockade(None, everywhere)

    def _blockade(self, marked: Any, option: str) -> Blockade:
        given = self._config.getoption("allowed_hosts", None)
        allowed = given.split(",") if given else self._config.getini("llm_cache_allowed_hosts")
        remedy = "--allowed-hosts={}" if option.startswith("--") else "llm_cache_allowed_hosts = {}"
        if option.startswith("@"):
            remedy = f'{option}(allowed_hosts=["{{}}"])'
            allowed = allowed if marked is None else marked
        return Blockade([allowed] if isinstance(allowed, str) else allowed, option, remedy)

    def _of(self, item: pytest.Item) -> Any:
        recording = self._config.getoption("llm_cache") in _RECORDING
        if recording and self._wants_cassette(item):
            return nullcontext()  # the command line says that models are asked
        marker = item.get_closest_marker("block_network") if self._marked else None
        if marker is None:
            return nullcontext() if self._everywhere is None else blocked(self._everywhere)
        return blocked(
            self._blockade(marker.kwargs.get("allowed_hosts"), "@pytest.mark.block_network")
        )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        """Block what modules do when they are imported."""
        with nullcontext() if self._everywhere is None else blocked(self._everywhere):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Block what fixtures do."""
        with self._of(item):
            result = yield
        # Not before: what other plug-ins set up is what they tear down.
        for marker in item.iter_markers("block_network") if self._marked else ():
            if marker.args or marker.kwargs.keys() - {"allowed_hosts"}:
                pytest.fail(
                    "@pytest.mark.block_network takes allowed_hosts=, a list of hosts, and no more",
                    pytrace=False,
                )
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Block what the test does."""
        with self._of(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Block what fixtures do when they end."""
        with self._of(item):
            return (yield)
