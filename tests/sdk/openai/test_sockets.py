"""Sessions over WebSockets: counted as bypasses, and in mode replay refused before a socket."""

from __future__ import annotations

import ast
import importlib.util
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

import cachewrap
from cachewrap import Cache, ReplayMissError, no_cache
from cachewrap.sdk.openai import OPENAI
from sdk.openai.asking import Colour

OPENINGS = {
    "realtime": (lambda c: c.realtime.connect(model="gpt-x"), "Realtime"),
    "realtime of the beta": (lambda c: c.beta.realtime.connect(model="gpt-x"), "Realtime"),
    "responses": (lambda c: c.responses.connect(), "Responses"),
    "responses of the beta": (lambda c: c.beta.responses.connect(), "Responses"),
}


# Without it the SDK says what to install.
CAN_CONNECT = importlib.util.find_spec("websockets") is not None


class Listener:
    """A server that notes that somebody connected, and hangs up."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.getsockname()[1]}/v1"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                self.connections += 1
                connection.close()

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(params=OPENINGS)
def opening(request: pytest.FixtureRequest, listener: Listener, colour: Colour) -> Any:
    """The manager of a session that is not open yet, and how its kind is called."""
    kind = openai.OpenAI if colour.name == "sync" else openai.AsyncOpenAI
    client = kind(api_key="sk-test", base_url=listener.url, max_retries=0)
    begin, name = OPENINGS[request.param]
    try:
        return begin(client), name
    except AttributeError:
        pytest.skip("this version of the SDK has none of that kind")


def enter(colour: Colour, manager: Any, way: str) -> None:
    if way == "enter":
        colour.wait(manager.enter())
    elif colour.name == "sync":
        with manager:
            pass
    else:

        async def run() -> None:
            async with manager:
                pass

        colour.wait(run())


ways = pytest.mark.parametrize("way", ["enter", "with"])


@ways
def test_in_replay_no_socket_is_opened(
    colour: Colour, listener: Listener, opening: Any, way: str
) -> None:
    manager, name = opening
    cache = Cache.memory(mode="replay")
    told = rf"^WebSocket {name} \(websocket\) is not sent in mode replay"
    with cache, pytest.raises(ReplayMissError, match=told):
        enter(colour, manager, way)
    assert (listener.connections, cache.stats.bypassed) == (0, 0)


@ways
def test_in_other_modes_it_is_a_bypass(
    colour: Colour, listener: Listener, opening: Any, way: str
) -> None:
    with Cache.memory() as cache:
        with pytest.raises(Exception, match=r".*") as raised:  # nobody shakes hands
            enter(colour, opening[0], way)
        assert not isinstance(raised.value, ReplayMissError)
    assert (listener.connections, cache.stats.bypass_reasons) == (CAN_CONNECT, {"websocket": 1})


def test_what_the_program_leaves_uncached_is_opened(
    colour: Colour, listener: Listener, opening: Any
) -> None:
    with Cache.memory(mode="replay"), no_cache(), pytest.raises(Exception, match=r".*") as raised:
        enter(colour, opening[0], "with")
    assert not isinstance(raised.value, ReplayMissError)
    assert listener.connections == CAN_CONNECT


def test_the_default_cache_of_the_patch_counts(
    colour: Colour, listener: Listener, opening: Any
) -> None:
    with (
        cachewrap.patch_openai(Cache.memory(mode="replay")),
        pytest.raises(ReplayMissError, match="websocket"),
    ):
        enter(colour, opening[0], "with")
    assert listener.connections == 0


def test_without_the_patch_it_is_nobodys_matter(
    colour: Colour, listener: Listener, opening: Any
) -> None:
    cachewrap.unpatch_openai()
    with Cache.memory(mode="replay") as cache, pytest.raises(Exception, match=r".*"):
        enter(colour, opening[0], "with")
    assert (listener.connections, cache.stats.bypassed) == (CAN_CONNECT, 0)


def test_every_session_of_the_sdk_is_known() -> None:
    root = Path(openai.__file__).parent
    found = {
        ".".join(("openai", *file.relative_to(root).with_suffix("").parts))
        for file in (root / "resources").rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("ConnectionManager")
    }
    assert found - set(OPENAI._sdk.sockets) == set()


def test_a_session_is_held_as_ever(colour: Colour, cache: Cache) -> None:
    pytest.importorskip("websockets")
    from websockets.sync.server import serve

    def answer(connection: Any) -> None:
        for _ in connection:
            connection.send('{"type": "response.created", "event_id": "e", "response": {}}')

    with serve(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        kind = openai.OpenAI if colour.name == "sync" else openai.AsyncOpenAI
        client = kind(api_key="sk-test", base_url=url)
        try:
            manager = client.realtime.connect(model="gpt-x")
        except AttributeError:
            manager = client.beta.realtime.connect(model="gpt-x")
        with cache:
            connection = colour.wait(manager.enter())
            colour.wait(connection.send({"type": "response.create"}))
            event = colour.wait(connection.recv())
            colour.wait(connection.close())
        server.shutdown()
        thread.join()
    assert event.type == "response.created"
    assert cache.stats.bypass_reasons == {"websocket": 1}
