"""Mocks of the network and of methods beside the cache: who answers, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeAlias
from unittest import mock

import openai
import pytest
from http_libraries.web import CHAT, LOOPBACK, PATH, WEBS
from standin import Upstream

import cachewrap
from beside.tools.case import FIVE, ORDERS
from cachewrap import Cache

ANSWER = {
    "id": "mocked",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "mocked"},
        }
    ],
}
Count: TypeAlias = Callable[[], int]
"""The requests that came to a mock."""


@contextmanager
def respx(url: str, folder: Path) -> Iterator[Count]:
    import respx as library

    with library.mock(assert_all_called=False) as router:
        route = router.post(url).respond(json=ANSWER)
        yield lambda: int(route.call_count)


@contextmanager
def responses(url: str, folder: Path) -> Iterator[Count]:
    import responses as library

    with library.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        mocked.post(url, json=ANSWER)
        yield lambda: len(mocked.calls)


@contextmanager
def aioresponses(url: str, folder: Path) -> Iterator[Count]:
    from aioresponses import aioresponses as library

    with library() as mocked:
        mocked.post(url, payload=ANSWER, repeat=True)
        yield lambda: sum(map(len, mocked.requests.values()))


@contextmanager
def vcr(url: str, folder: Path) -> Iterator[Count]:
    from vcr import VCR

    with VCR().use_cassette(str(folder / "cassette.yaml")) as cassette:
        yield lambda: len(cassette) + int(cassette.play_count)


@dataclass(frozen=True)
class Mock:
    """What mocks requests.

    Args:
        open: mocks those to an address, inside a block.
        sees: how many of five equal requests come to it, by library: 1 where it is behind ours, 5
            where it stands before it.
        asks: whether it asks the upstream for what it does not know.
    """

    open: Callable[[str, Path], AbstractContextManager[Count]]
    sees: dict[str, int]
    asks: bool = False


HTTPX = ("httpx", "httpx async")
MOCKS: dict[str, Mock] = {
    "respx": Mock(respx, dict.fromkeys(HTTPX, 1)),
    "responses": Mock(responses, {"requests": 5}),
    "aioresponses": Mock(aioresponses, {"aiohttp": 5}),
    "vcr": Mock(
        vcr,
        {**dict.fromkeys((*HTTPX, "httpx2", "httpx2 async", "aiohttp"), 5), "requests": 1},
        asks=True,
    ),
}


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    yield
    cachewrap.unpatch_all()


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def patch() -> None:
    cachewrap.patch_openai()
    cachewrap.patch_httpx(hosts=LOOPBACK)
    cachewrap.patch_requests(hosts=LOOPBACK)
    cachewrap.patch_aiohttp(hosts=LOOPBACK)


@contextmanager
def applied(
    order: str, mocking: AbstractContextManager[Any], patching: Callable[[], object] = patch
) -> Iterator[Any]:
    """Both in this order; at the end the mock alone is taken out."""
    if order != ORDERS[0]:
        patching()
    with mocking as mocked:
        if order == ORDERS[0]:
            patching()
        yield mocked


def ask_five_times(ask: Callable[[], Any]) -> list[Any]:
    with Cache.memory():
        return [ask() for _ in range(FIVE)]


orders = pytest.mark.parametrize("order", ORDERS)
each = pytest.mark.parametrize(
    ("mocked", "library"),
    [
        pytest.param(one, library, id=f"{name}-{library}")
        for name, one in MOCKS.items()
        if find_spec(name)
        for library in one.sees
        if library in WEBS
    ],
)


@each
@orders
class TestHttp:
    def test_the_answers_are_equal_and_the_mock_sees_what_comes_to_it(
        self, mocked: Mock, library: str, order: str, up: Upstream, tmp_path: Path
    ) -> None:
        web = WEBS[library](up)
        with applied(order, mocked.open(up.root_url + PATH, tmp_path)) as count:
            first, *later = ask_five_times(lambda: web.ask(CHAT).body)
            assert later == [first] * (FIVE - 1)
            assert count() == mocked.sees[library]
            assert up.calls == (1 if mocked.asks else 0)
        web.end()

    def test_when_it_has_ended_ours_is_in_place(
        self, mocked: Mock, library: str, order: str, up: Upstream, tmp_path: Path
    ) -> None:
        web = WEBS[library](up)
        with applied(order, mocked.open(up.root_url + PATH, tmp_path)):
            pass
        ask_five_times(lambda: web.ask(CHAT).body)
        assert up.calls == 1
        web.end()


@orders
class TestMethod:
    """A mock in place of an SDK's method."""

    QUESTION: ClassVar[dict[str, Any]] = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
    }

    def make(self, up: Upstream) -> openai.OpenAI:
        return openai.OpenAI(base_url=up.base_url, api_key="sk-test", max_retries=0)

    def test_it_answers_every_call(self, order: str, up: Upstream) -> None:
        client = self.make(up)
        mocking = mock.patch.object(type(client.chat.completions), "create", return_value="mocked")
        with applied(order, mocking) as create:
            answers = ask_five_times(lambda: client.chat.completions.create(**self.QUESTION))
            assert answers == ["mocked"] * FIVE
            assert create.call_count == FIVE
        assert up.calls == 0

    def test_when_it_has_ended_calls_are_cached(self, order: str, up: Upstream) -> None:
        client = self.make(up)
        with applied(order, mock.patch.object(type(client.chat.completions), "create")):
            pass
        ask_five_times(lambda: client.chat.completions.create(**self.QUESTION))
        assert up.calls == 1

    def test_the_patch_once_more_makes_what_it_hid_take_options(
        self, order: str, up: Upstream
    ) -> None:
        client = self.make(up)
        with applied(order, mock.patch.object(type(client.chat.completions), "create")):
            pass
        patch()
        ask: Any = client.chat.completions.create
        ask_five_times(lambda: ask(**self.QUESTION, cache_seed=7))
        assert up.calls == 1


@pytest.mark.skipif(find_spec("pytest_httpx") is None, reason="runs in `beside2`")
class TestPytestHttpx:
    def test_an_sdk_asks_it_once(self, httpx_mock: Any) -> None:
        httpx_mock.add_response(json=ANSWER)
        patch()
        client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-test", max_retries=0)
        ask_five_times(lambda: client.chat.completions.create(**TestMethod.QUESTION))
        assert len(httpx_mock.get_requests()) == 1


@pytest.mark.skipif(
    find_spec("respx") is None or openai.__version__ >= "3", reason="runs in `beside2`"
)
@orders
def test_respx_sees_of_an_sdk_what_goes_over_http(order: str, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    client = openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0)
    with applied(order, respx(f"{url}/chat/completions", tmp_path)) as count:
        ask_five_times(lambda: client.chat.completions.create(**TestMethod.QUESTION))
        assert count() == 1
