"""A response as the bytes of a connection, which the standard library reads as any other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class File:
    """What `http.client` reads a response from.

    Args:
        pieces: the bytes of the response, status line and headers included.
        stream: what is closed with it.
    """

    def __init__(self, pieces: Iterator[bytes], stream: Any) -> None:
        self._pieces = pieces
        self._stream = stream
        self._buffer = b""
        self.closed = False

    def makefile(self, mode: str) -> File:
        """The socket's file is the file itself."""
        return self

    def _more(self) -> bool:
        piece = next(self._pieces, b"")
        self._buffer += piece
        return bool(piece)

    def _take(self, size: int) -> bytes:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, fewer at the end; all of them for None or a negative number."""
        whole = size is None or size < 0
        while (whole or len(self._buffer) < (size or 0)) and self._more():
            continue
        return self._take(len(self._buffer) if whole else size or 0)

    def read1(self, size: int = -1) -> bytes:
        """What there is, at the most so many bytes."""
        if not self._buffer:
            self._more()
        return self._take(len(self._buffer) if size < 0 else size)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; how many bytes that were."""
        taken = self.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def peek(self, size: int = -1) -> bytes:
        """What there is, without taking it."""
        if not self._buffer:
            self._more()
        return self._buffer

    def readline(self, limit: int = -1) -> bytes:
        """A line, or as much of it."""
        while b"\n" not in self._buffer and (limit < 0 or len(self._buffer) < limit):
            if not self._more():
                break
        end = self._buffer.find(b"\n") + 1 or len(self._buffer)
        return self._take(end if limit < 0 else min(end, limit))

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """Close the stream."""
        if not self.closed:
            self.closed = True
            self._stream.close()

    def abandon(self) -> None:
        """Close the stream of a response that is being finalised: nothing is stored then."""
        try:
            raise GeneratorExit
        except GeneratorExit:
            self.close()


def framed(
    pairs: Iterable[tuple[str, str]], stream: Iterable[bytes], *, chunked: bool, length: str | None
) -> Iterator[bytes]:
    """The bytes of a response of status 200.

    Args:
        pairs: its headers.
        stream: the pieces of its body.
        chunked: whether the body is chunked, each piece a chunk.
        length: its length in bytes, or None for a body that ends with the connection.
    """
    lines = [b"HTTP/1.1 200 OK"]
    for name, value in pairs:
        if name.lower() not in ("content-length", "transfer-encoding", "connection"):
            lines.append(_line(f"{name}: {value}"))
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    elif length is not None:
        lines.append(b"content-length: " + length.encode())
    yield b"\r\n".join([*lines, b"", b""])
    if chunked:
        for piece in stream:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"
        return
    left = None if length is None else int(length)
    pieces = iter(stream)
    for piece in pieces:
        if left is not None and (left := left - len(piece)) <= 0:
            # Whoever has the last byte reads no further, so the stream is brought to its end first.
            yield b"".join((piece, *pieces))
            return
        yield piece


def _line(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:  # stored by a library that reads headers as UTF-8
        return text.encode()
