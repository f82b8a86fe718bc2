"""An HTTP library as the cache needs to know it: its requests and its responses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cachewrap.entry import HttpAnswer
from cachewrap.http.response import Library, value_of
from cachewrap.http.shared_body import BodyReader

_PORTS: Final = {"http": 80, "https": 443}


class Headers:
    """The headers of a response, in the way of httpx."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)

    def multi_items(self) -> list[tuple[str, str]]:
        """Every header, in the order received."""
        return self._pairs

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, whose name is given in lower case."""
        value = value_of(self._pairs, name)
        return default if value is None else value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None


class Head:
    """A response as the seam reads it: what came before its body, and the stream of that.

    Args:
        status_code: its status.
        headers: its headers.
        library: the library that it belongs to.
        stream: its body piece by piece as it is sent on, with ``close`` or ``aclose``.
        http_version: as in ``HTTP/1.1``.
    """

    def __init__(
        self,
        status_code: int,
        headers: Iterable[tuple[str, str]],
        library: Library,
        stream: Any = None,
        http_version: str = "HTTP/1.1",
    ) -> None:
        self.status_code = status_code
        self.headers = Headers(headers)
        self.library = library
        self.stream = stream
        self.http_version = http_version


class Wire:
    """One request of a library, and what the library makes of an answer to it.

    Args:
        library: the library.
        method: the request's method.
        url: its URL, with the query.
        host: the host in it.
        port: the port in it; None is that of the scheme.
        path: the path.
    """

    def __init__(
        self, library: Library, method: str, url: str, host: str | None, port: int | None, path: str
    ) -> None:
        self.library = library
        self.method = method
        self.url = url
        self.host = host or ""
        self.port = port or _PORTS.get(url.partition(":")[0].lower(), 0)
        self.path = path

    def headers(self) -> Iterable[tuple[str, str]]:
        """The headers of the request."""
        raise NotImplementedError

    def content(self) -> bytes | str:
        """Its body. Raises `ValueError` or `RuntimeError` for one that is read while it is sent."""
        raise NotImplementedError

    def head(self, response: Any) -> Any:
        """A response, as `Head` or as one of httpx."""
        raise NotImplementedError

    def read(self, response: Any) -> bytes:
        """Read a response to its end and close it: its body, decoded.

        What cannot be decoded is nothing, and not stored.
        """
        raise NotImplementedError

    async def aread(self, response: Any) -> bytes:
        """`read` for async responses."""
        raise NotImplementedError

    def recorded(self, response: Any, stream: Any) -> Any:
        """What the caller gets of a response whose body is to be read from this stream."""
        raise NotImplementedError

    async def arecorded(self, response: Any, stream: Any) -> Any:
        """`recorded` for async responses."""
        return self.recorded(response, stream)

    def whole(self, response: Any, content: bytes) -> Any:
        """What the caller gets of a response that was read, as a hit would be but for its mark."""
        raise NotImplementedError

    async def awhole(self, response: Any, content: bytes) -> Any:
        """`whole` for async responses."""
        return self.whole(response, content)

    def build(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        """What the caller gets of a stored answer, or of one under way, of which it is the head."""
        raise NotImplementedError

    async def abuild(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        """`build` for async responses."""
        return self.build(answer, reader)
