"""Hosts with several addresses, of which the first that answers is taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cachewrap.proxy import dialing
from cachewrap.proxy.dialing import reach
from proxy.origins.scripts import run

NOBODY = (socket.AF_INET, ("127.0.0.1", 9))
SILENT = (socket.AF_INET, ("127.0.0.2", 9))


@pytest.fixture
def listening() -> Iterator[Any]:
    """The address of a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield socket.AF_INET, listener.getsockname()


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that any host has; one of them never answers."""
    found: list[Any] = []
    connected = dialing._connected

    async def known(host: str, port: int) -> list[Any]:
        return list(found)

    async def connect(family: int, address: Any) -> socket.socket:
        if (family, address) == SILENT:
            await asyncio.Event().wait()
        return await connected(family, address)

    monkeypatch.setattr(dialing, "_addresses", known)
    monkeypatch.setattr(dialing, "_connected", connect)
    monkeypatch.setattr(dialing, "_EYEBALLS_SECONDS", 0.01)
    return found


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="first"),
        pytest.param([NOBODY], id="behind-nobody"),
        pytest.param([SILENT], id="behind-silence"),
        pytest.param([SILENT, NOBODY, SILENT], id="behind-several"),
    ],
)
@pytest.mark.parametrize("behind", [[], [SILENT], [NOBODY]], ids=["last", "silence", "nobody"])
def test_first_that_answers(
    before: list[Any], behind: list[Any], hosts: list[Any], listening: Any
) -> None:
    hosts += [*before, listening, *behind]

    async def main() -> None:
        with await reach("api.test", 1) as place:
            assert place.getpeername() == listening[1]

    run(main)


def test_both_that_answer_at_once(hosts: list[Any], listening: Any, monkeypatch: Any) -> None:
    hosts += [listening] * 5
    monkeypatch.setattr(dialing, "_EYEBALLS_SECONDS", 0.0)

    async def main() -> None:
        for _ in range(20):
            (await reach("api.test", 1)).close()

    run(main)


def test_nobody_answers(hosts: list[Any]) -> None:
    hosts += [NOBODY, NOBODY]

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await reach("api.test", 1)

    run(main)


@pytest.mark.parametrize("after", range(0, 24, 3))
def test_cancelled(after: int, hosts: list[Any], listening: Any) -> None:
    hosts += [SILENT, listening, listening]

    async def main() -> None:
        task = asyncio.ensure_future(reach("api.test", 1))
        for _ in range(after):
            await asyncio.sleep(0.001 if after % 2 else 0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result().close()

    run(main)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("127.0.0.1", [(socket.AF_INET, ("127.0.0.1", 1))], id="ipv4"),
        pytest.param("::1", [(socket.AF_INET6, ("::1", 1, 0, 0))], id="ipv6"),
    ],
)
def test_address_is_not_looked_up(
    host: str, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(asyncio.BaseEventLoop, "getaddrinfo")

    async def main() -> None:
        assert await dialing._addresses(host, 1) == expected

    run(main)


def test_both_kinds_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    six, four = socket.AF_INET6, socket.AF_INET

    async def found(*_: Any, **__: Any) -> list[Any]:
        places = [(six, "a"), (six, "b"), (six, "c"), (four, "d")]
        return [(family, socket.SOCK_STREAM, 6, "", place) for family, place in places]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", found)

    async def main() -> None:
        places = [place for _, place in await dialing._addresses("api.test", 1)]
        assert places == ["a", "d", "b", "c"]

    run(main)
