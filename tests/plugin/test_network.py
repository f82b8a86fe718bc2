"""The network blocked while tests run: what is reached, what is not, and what the error says."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachewrap.pytest_plugin.network import Blockade, NetworkBlockedError, blocked
from plugin.projects import Project

pytest_plugins = ["pytester"]


def blockade(*allowed: str) -> Blockade:
    return Blockade(allowed, "--block-network", "--allowed-hosts={}")


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server on the loopback interface that accepts nothing and refuses nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port)).close()


def connect_ex(port: int) -> None:
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) == 0


def connect_by_name(port: int) -> None:
    socket.create_connection(("localhost", port)).close()


def send_to(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"a", ("127.0.0.1", port))


def send_to_with_flags(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"a", 0, ("127.0.0.1", port))


def send_message(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"a"], [], 0, ("127.0.0.1", port))


def open_connection(port: int) -> None:
    async def run() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    asyncio.run(run())


def open_connection_by_name(port: int) -> None:
    async def run() -> None:
        _, writer = await asyncio.open_connection("localhost", port)
        writer.close()
        await writer.wait_closed()

    asyncio.run(run())


def sock_connect(port: int) -> None:
    async def run() -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))

    asyncio.run(run())


def in_a_thread(port: int) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            connect(port)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in raised:
        raise error


WAYS = [
    *(connect, connect_ex, connect_by_name, send_to, send_to_with_flags),
    *(open_connection, open_connection_by_name, sock_connect, in_a_thread),
    *([send_message] if hasattr(socket.socket, "sendmsg") else []),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
class TestWays:
    def test_leads_nowhere(self, port: int, way: Callable[[int], None]) -> None:
        with blocked(blockade()), pytest.raises(NetworkBlockedError, match=f"port {port}"):
            way(port)

    @pytest.mark.parametrize("allowed", ["127.0.0.1", "localhost", "::1", "LOCALHOST:*", "127.*"])
    def test_leads_to_what_is_allowed(
        self, port: int, way: Callable[[int], None], allowed: str
    ) -> None:
        with blocked(blockade("api.example.com", allowed)):
            way(port)

    def test_is_open_afterwards(self, port: int, way: Callable[[int], None]) -> None:
        with blocked(blockade()):
            pass
        way(port)


@pytest.mark.parametrize(
    ("allowed", "host", "port", "passes"),
    [
        pytest.param("api.example.com", "api.example.com", 443, True, id="name"),
        pytest.param("api.example.com", "API.Example.com.", 443, True, id="name written otherwise"),
        pytest.param("api.example.com", "example.com", 443, False, id="domain"),
        pytest.param("example.com", "api.example.com", 443, False, id="host of a domain"),
        pytest.param("*.example.com", "api.example.com", 443, True, id="pattern"),
        pytest.param("example.com", "example.com.evil.test", 443, False, id="prefix"),
        pytest.param("example.com:443", "example.com", 443, True, id="port"),
        pytest.param("example.com:443", "example.com", 80, False, id="another port"),
        pytest.param("10.0.0.*", "10.0.0.7", 80, True, id="addresses"),
        pytest.param("10.0.0.7", "::ffff:10.0.0.7", 80, True, id="mapped address"),
        pytest.param("2001:db8::1", "2001:0db8:0:0::1", 80, True, id="address written otherwise"),
        pytest.param("2001:db8::1", "2001:db8::2", 80, False, id="another address"),
        pytest.param("fe80::1", "fe80::1%eth0", 80, True, id="zone"),
        pytest.param("localhost", "127.8.8.8", 80, True, id="loopback"),
        pytest.param("localhost", "10.0.0.1", 80, False, id="no loopback"),
        pytest.param("127.0.0.1:6379", "localhost", 6379, True, id="port of the loopback"),
        pytest.param("127.0.0.1:6379", "localhost", 80, False, id="another port of the loopback"),
        pytest.param("", "example.com", 80, False, id="nothing"),
        pytest.param("[2001:db8::1]:443", "2001:db8::1", 443, True, id="brackets"),
        pytest.param("[2001:db8::1]:443", "2001:db8::1", 80, False, id="brackets, another port"),
        pytest.param("[2001:db8::1]", "2001:db8::1", 80, True, id="brackets alone"),
    ],
)
def test_who_passes(allowed: str, host: str, port: int, passes: bool) -> None:
    assert blockade(allowed).allows(host, port) is passes


def test_a_name_that_is_allowed_passes_by_the_addresses_that_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    allowed = blockade("api.example.com")
    assert not allowed.allows("192.0.2.1", 443)
    with blocked(allowed):
        socket.getaddrinfo("api.example.com", 443)
    assert allowed.allows("192.0.2.1", 443)


@pytest.mark.parametrize(
    ("way", "found"),
    [
        ("gethostbyname", "203.0.113.9"),
        ("gethostbyname_ex", ("api.example.com", [], ["203.0.113.9"])),
    ],
)
def test_older_ways_to_ask_for_a_name_are_blocked_too(
    way: str, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, way, lambda name: found)
    allowed = blockade("api.example.com:443")
    with blocked(allowed):
        with pytest.raises(NetworkBlockedError, match=r"other\.example\.com is not reached"):
            getattr(socket, way)("other.example.com")
        assert getattr(socket, way)("api.example.com") == found
        assert getattr(socket, way)("127.0.0.1") == found
        assert allowed.allows("203.0.113.9", 443)


def test_no_name_is_asked_for_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it was asked for"))
    with blocked(blockade()), pytest.raises(NetworkBlockedError, match=r"api\.example\.com"):
        socket.getaddrinfo("api.example.com", 443)


def test_the_error_says_how_the_host_is_allowed() -> None:
    told = "api.example.com (port 443) is not reached: --block-network blocks the network"
    with pytest.raises(NetworkBlockedError) as raised:
        blockade().check("api.example.com", 443)
    assert str(raised.value).startswith(told)
    assert "--allowed-hosts=api.example.com" in str(raised.value)


def test_what_stays_on_this_machine_passes(tmp_path: Any) -> None:
    with blocked(blockade()):
        one, other = socket.socketpair()
        one.close()
        other.close()
        asyncio.run(asyncio.sleep(0))
        socket.create_server(("127.0.0.1", 0)).close()
        if hasattr(socket, "AF_UNIX"):
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind(os.fspath(tmp_path / "s"))
                server.listen()
                client.connect(os.fspath(tmp_path / "s"))


def test_the_innermost_blockade_decides(port: int) -> None:
    with blocked(blockade()):
        with blocked(blockade("127.0.0.1")):
            connect(port)
        with pytest.raises(NetworkBlockedError):
            connect(port)


def test_everything_is_as_it_was_afterwards() -> None:
    before = vars(socket.socket).copy(), socket.getaddrinfo, socket.socketpair
    with blocked(blockade()):
        assert vars(socket.socket) != before[0]
    assert (vars(socket.socket).copy(), socket.getaddrinfo, socket.socketpair) == before


def test_what_others_put_around_it_stays_and_lets_everything_pass(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with blocked(blockade()):
        inner = socket.socket.connect
        theirs = lambda self, address: inner(self, address)  # noqa: E731
        monkeypatch.setattr(socket.socket, "connect", theirs)
    assert socket.socket.connect is theirs
    connect(port)


# -- in a run of pytest ----------------------------------------------------------------------------

# Both block the network by themselves, and put back what they think was there.
ALONE = ("-p", "no:recording", "-p", "no:socket")
SERVER = """
import socket
from cachewrap.pytest_plugin.network import NetworkBlockedError

def reach():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()

def blocked():
    with pytest.raises(NetworkBlockedError) as raised:
        reach()
    return str(raised.value)
"""
TESTS = """
@pytest.fixture(scope="module", autouse=True)
def wide():
    blocked()
    yield
    blocked()

def test_one():
    assert "--allowed-hosts=127.0.0.1" in blocked()

@pytest.mark.block_network(allowed_hosts=["localhost"])
def test_allowed():
    reach()

@pytest.mark.block_network
def test_marked():
    assert "block_network(allowed_hosts=" in blocked()

@pytest.mark.parametrize("x", range(3))
def test_more(x):
    blocked()
"""


def test_tests_and_fixtures_are_blocked(project: Project) -> None:
    project.test(SERVER + "blocked()\n" + TESTS)
    project.run(*ALONE, "--block-network", passed=6)


def test_tests_are_blocked_in_workers(project: Project) -> None:
    pytest.importorskip("xdist")
    project.test(SERVER + TESTS)
    project.run(*ALONE, "-n1", "--block-network", passed=6)


def test_the_command_line_wins_over_the_ini_file(project: Project) -> None:
    project.ini("llm_cache_block_network = true", "llm_cache_allowed_hosts = a.test 127.0.0.1")
    project.test(SERVER + "def test_one():\n    reach()")
    project.run(*ALONE)
    out = project.run(*ALONE, "--allowed-hosts=a.test", failed=1)
    assert "the ini option llm_cache_block_network blocks the network" in out


def test_a_marker_blocks_its_test_alone(project: Project) -> None:
    project.test(
        SERVER
        + "@pytest.mark.block_network\ndef test_one():\n    blocked()\n"
        + "def test_other():\n    reach()\n"
        + "@pytest.mark.block_network('a')\ndef test_wrong():\n    reach()\n"
    )
    out = project.run(*ALONE, "--allowed-hosts=a.test", passed=2, errors=1)
    assert "takes allowed_hosts=" in out


def test_a_call_of_the_sdk_names_the_host(project: Project) -> None:
    project.test("from sdk import told\ndef test_one():\n    told()")
    out = project.run(*ALONE, "--block-network", failed=1)
    assert "127.0.0.1" in out
    assert "--allowed-hosts=127.0.0.1" in out
    assert project.upstream.calls == 0


def test_a_cassette_is_replayed_while_the_network_is_blocked(project: Project) -> None:
    project.test("from sdk import told\ndef test_one(llm_cache):\n    assert told()")
    assert "1 recorded" in project.run(*ALONE, "--block-network", "--llm-cache=normal")
    assert "1 replayed" in project.run(*ALONE, "--block-network")
    assert project.upstream.calls == 1


def test_the_options_of_pytest_recording_stay_its_own(project: Project) -> None:
    pytest.importorskip("pytest_recording")
    project.test(
        "import socket\ndef test_one():\n    with pytest.raises(RuntimeError, match='disabled'):\n"
        "        socket.create_connection(('127.0.0.1', 1))\n"
    )
    project.run("--block-network")
