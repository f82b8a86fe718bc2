"""One way of asking by each library of plain HTTP, with an object made before any patch."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import pytest
from standin import Upstream

import cachewrap

LOOPBACK = ["127.0.0.1:*"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Question 1"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
HEADERS = {"x-api-key": "top-secret"}

bodies = pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
manners = pytest.mark.parametrize(
    "manner",
    [{}, {"gzip": True}, {"awkward": True}],
    ids=lambda manner: "-".join(manner) or "plain",
)


def outline(value: Any) -> Any:
    """What was read, without what differs between two answers, or with when its pieces came."""
    if isinstance(value, bytes | str | int):
        return type(value), bool(value)
    if isinstance(value, list | tuple):
        return [outline(item) for item in value] if len(value) < 5 else [outline(value[0]), "more"]
    return value


@dataclass
class Told:
    """What a caller is told of an answer.

    Args:
        body: what was read of it.
        mark: the mark of a hit, None for a miss.
        chunks: its pieces, where it was read from an open response.
        history: the statuses of what redirected to it.
    """

    status: int
    body: bytes
    mark: str | None
    url: str
    cookies: dict[str, str]
    history: list[int]
    chunks: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """How an open response is read.

    Args:
        then: called when the first piece has come.
        until: closed as soon as this has come; None reads to the end.
    """

    then: Callable[[], object] = bool
    until: bytes | None = None

    def goes_on(self, chunks: list[bytes]) -> bool:
        """Whether to go on behind these pieces."""
        if len(chunks) == 1:
            self.then()
        return self.until is None or self.until not in b"".join(chunks)


class Web(ABC):
    """A client or session of one library, in one colour.

    Attributes:
        library: the module.
        patch: its patch.
        unpatch: undoes all of them.
        ours: what can be put into such an object instead.
        broken: what a cut stream raises.
        refused: what a broken connection raises.
        raw: requests whose body is no JSON, or no body that can be read twice.
    """

    patch: ClassVar[Callable[..., Any]]
    unpatch: ClassVar[Callable[[], None]]
    ours: ClassVar[type]
    raw: ClassVar[dict[str, Callable[[], dict[str, Any]]]]

    broken: type[Exception]
    refused: type[Exception]

    def __init__(self, up: Upstream, library: Any) -> None:
        self.up, self.library = up, library

    @abstractmethod
    def functions(self) -> list[Any]:
        """What the patch of this library wraps, as it is now."""

    def seams(self) -> list[Any]:
        """Their code."""
        return [function.__code__ for function in self.functions()]

    @abstractmethod
    def inject(self, **options: Any) -> None:
        """Use `ours` from now on."""

    @abstractmethod
    def ask(
        self, body: Any = CHAT, path: str = PATH, *, reading: Reading | None = None, **more: Any
    ) -> Told:
        """Post once, and read: at once, or as ``reading`` says from an open response."""

    @abstractmethod
    def get(self, path: str) -> None:
        """Get once."""

    @abstractmethod
    def close(self) -> None:
        """Close the client or session."""

    def at_once(self, count: int, body: Any) -> list[bytes]:
        """The bodies of as many identical requests, asked at the same time."""
        with ThreadPoolExecutor(count) as pool:
            asked = [pool.submit(self.ask, body, reading=Reading()) for _ in range(count)]
            return [one.result().body for one in asked]

    def end(self) -> None:
        """Close everything."""
        self.close()


class OnLoop(Web):
    """One of an asynchronous library, on an event loop of its own."""

    def __init__(self, up: Upstream, library: Any) -> None:
        super().__init__(up, library)
        self._runner = asyncio.Runner()

    def run(self, awaitable: Any) -> Any:
        """Run in the caller's own context."""

        async def until_done() -> Any:
            return await awaitable

        return self._runner.run(until_done(), context=contextvars.copy_context())

    @abstractmethod
    async def aask(
        self, body: Any, path: str = PATH, *, reading: Reading | None = None, **more: Any
    ) -> Told:
        """`ask` on the loop."""

    def ask(
        self, body: Any = CHAT, path: str = PATH, *, reading: Reading | None = None, **more: Any
    ) -> Told:
        told: Told = self.run(self.aask(body, path, reading=reading, **more))
        return told

    def at_once(self, count: int, body: Any) -> list[bytes]:
        async def ask() -> list[bytes]:
            asked = (self.aask(body, reading=Reading()) for _ in range(count))
            return [told.body for told in await asyncio.gather(*asked)]

        bodies: list[bytes] = self.run(ask())
        return bodies

    def end(self) -> None:
        super().end()
        self._runner.close()


def _sent(body: Any, more: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a request: a JSON body, unless another is given."""
    return more if more.keys() & {"content", "data", "files"} else {"json": body, **more}


def _pieces() -> Iterator[bytes]:
    yield b'{"model": "m"}'


async def _apieces() -> AsyncIterator[bytes]:
    yield b'{"model": "m"}'


class _Httpx(Web):
    patch = staticmethod(cachewrap.patch_httpx)
    unpatch = staticmethod(cachewrap.unpatch_httpx)
    kind: ClassVar[str]

    def __init__(self, up: Upstream, library: Any) -> None:
        super().__init__(up, library)
        self.broken = self.refused = library.TransportError
        self.client = self._make()

    def _make(self, **options: Any) -> Any:
        cls = getattr(self.library, self.kind)
        return cls(base_url=self.up.root_url, headers=HEADERS, follow_redirects=True, **options)

    def inject(self, **options: Any) -> None:
        self.close()
        self.client = self._make(transport=self.ours(**options))

    def functions(self) -> list[Any]:
        return [
            vars(self.library.HTTPTransport)["handle_request"],
            vars(self.library.AsyncHTTPTransport)["handle_async_request"],
        ]

    def _told(self, response: Any, chunks: list[bytes] | None = None) -> Told:
        return Told(
            response.status_code,
            response.content if chunks is None else b"".join(chunks),
            response.headers.get("x-cachewrap"),
            str(response.url),
            dict(response.cookies),
            [earlier.status_code for earlier in response.history],
            chunks or [],
        )


class SyncHttpx(_Httpx):
    kind = "Client"
    ours = cachewrap.CachedTransport
    raw: ClassVar = {
        "no JSON": lambda: {"content": b"no json"},
        "generator": lambda: {"content": _pieces()},
        "upload": lambda: {"files": {"file": b"sound"}},
    }

    def ask(
        self, body: Any = CHAT, path: str = PATH, *, reading: Reading | None = None, **more: Any
    ) -> Told:
        if reading is None:
            return self._told(self.client.post(path, **_sent(body, more)))
        chunks = []
        with self.client.stream("POST", path, **_sent(body, more)) as response:
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                if not reading.goes_on(chunks):
                    break
        return self._told(response, chunks)

    def get(self, path: str) -> None:
        self.client.get(path)

    def close(self) -> None:
        self.client.close()


class AsyncHttpx(OnLoop, _Httpx):
    kind = "AsyncClient"
    ours = cachewrap.AsyncCachedTransport
    raw: ClassVar = {**SyncHttpx.raw, "generator": lambda: {"content": _apieces()}}

    async def aask(
        self, body: Any, path: str = PATH, *, reading: Reading | None = None, **more: Any
    ) -> Told:
        if reading is None:
            return self._told(await self.client.post(path, **_sent(body, more)))
        chunks = []
        async with self.client.stream("POST", path, **_sent(body, more)) as response:
            async for chunk in response.aiter_bytes():
                chunks.append(chunk)
                if not reading.goes_on(chunks):
                    break
        return self._told(response, chunks)

    def get(self, path: str) -> None:
        self.run(self.client.get(path))

    def close(self) -> None:
        self.run(self.client.aclose())


class Requests(Web):
    patch = staticmethod(cachewrap.patch_requests)
    unpatch = staticmethod(cachewrap.unpatch_requests)
    ours = cachewrap.CachedAdapter
    raw: ClassVar = {
        "no JSON": lambda: {"data": b"no json"},
        "generator": lambda: {"data": _pieces()},
        "upload": lambda: {"files": {"file": b"sound"}},
    }

    def __init__(self, up: Upstream, library: Any) -> None:
        super().__init__(up, library)
        self.broken = library.exceptions.ChunkedEncodingError
        self.refused = library.ConnectionError
        self.session = self.library.Session()
        self.session.headers.update(HEADERS)

    def inject(self, **options: Any) -> None:
        self.session.mount("http://", self.ours(**options))

    def functions(self) -> list[Any]:
        return [vars(self.library.adapters.HTTPAdapter)["send"]]

    def post(self, body: Any = CHAT, path: str = PATH, **more: Any) -> Any:
        """A response of the library's own."""
        return self.session.post(self.up.root_url + path, **_sent(body, more))

    def ask(
        self, body: Any = CHAT, path: str = PATH, *, reading: Reading | None = None, **more: Any
    ) -> Told:
        chunks: list[bytes] = []
        response = self.post(body, path, stream=reading is not None, **more)
        if reading is not None:
            with response:
                for chunk in response.iter_content(None):
                    chunks.append(chunk)
                    if not reading.goes_on(chunks):
                        break
        return Told(
            response.status_code,
            response.content if reading is None else b"".join(chunks),
            response.headers.get("x-cachewrap"),
            response.url,
            response.cookies.get_dict(),
            [earlier.status_code for earlier in response.history],
            chunks,
        )

    def get(self, path: str) -> None:
        self.session.get(self.up.root_url + path)

    def close(self) -> None:
        self.session.close()


class Aiohttp(OnLoop):
    patch = staticmethod(cachewrap.patch_aiohttp)
    unpatch = staticmethod(cachewrap.unpatch_aiohttp)
    ours = cachewrap.CachedMiddleware
    raw: ClassVar = {
        "no JSON": lambda: {"data": b"no json"},
        "generator": lambda: {"data": _apieces()},
        "upload": lambda: {"data": {"file": "sound"}},
    }

    def __init__(self, up: Upstream, library: Any) -> None:
        super().__init__(up, library)
        self.broken = library.ClientPayloadError
        self.refused = library.ClientConnectionError
        self.session = self.make()

    def make(self, **options: Any) -> Any:
        async def make() -> Any:
            return self.library.ClientSession(headers=HEADERS, **options)

        return self.run(make())

    def inject(self, **options: Any) -> None:
        self.remake(middlewares=[self.ours(**options)])

    def remake(self, **options: Any) -> None:
        self.close()
        self.session = self.make(**options)

    def functions(self) -> list[Any]:
        return [vars(self.library.ClientSession)["_request"]]

    def take(self, take: Any, body: Any = CHAT, path: str = PATH, **more: Any) -> Any:
        """What is read of a response of the library's own."""

        async def ask() -> Any:
            response = await self.session.post(self.up.root_url + path, **_sent(body, more))
            try:
                return await take(response)
            finally:
                response.release()

        return self.run(ask())

    async def aask(
        self, body: Any, path: str = PATH, *, reading: Reading | None = None, **more: Any
    ) -> Told:
        chunks: list[bytes] = []
        async with self.session.post(self.up.root_url + path, **_sent(body, more)) as response:
            if reading is not None:
                async for chunk in response.content.iter_any():
                    chunks.append(chunk)
                    if not reading.goes_on(chunks):
                        break
            told = Told(
                response.status,
                await response.read() if reading is None else b"".join(chunks),
                response.headers.get("x-cachewrap"),
                str(response.url),
                {name: morsel.value for name, morsel in response.cookies.items()},
                [earlier.status for earlier in response.history],
                chunks,
            )
        for _ in range(10):  # turns of the loop in which a stream is left
            await asyncio.sleep(0)
        return told

    def get(self, path: str) -> None:
        async def get() -> None:
            async with self.session.get(self.up.root_url + path) as response:
                await response.read()

        self.run(get())

    def close(self) -> None:
        self.run(self.session.close())


_WEBS: dict[str, tuple[type[Web], str]] = {
    "httpx": (SyncHttpx, "httpx"),
    "httpx async": (AsyncHttpx, "httpx"),
    "httpx2": (SyncHttpx, "httpx2"),
    "httpx2 async": (AsyncHttpx, "httpx2"),
    "requests": (Requests, "requests"),
    "aiohttp": (Aiohttp, "aiohttp"),
}
WEBS: dict[str, Callable[[Upstream], Web]] = {
    name: partial(cls, library=importlib.import_module(module))
    for name, (cls, module) in _WEBS.items()
    if importlib.util.find_spec(module)
}
"""Makes one of every library that is installed here, in every colour that it has."""
