"""Zstandard by the library that is there: zstandard, else the one that Python brings.

Each reads what the other has written. zstandard goes first where it is installed, since it keeps
its context from one frame to the next: Python's own makes one for each frame, and asks the
processor anew what it can do, which costs a hit on a virtual machine 8 µs. It has no wheels for the
newest Pythons, so it is required only below 3.14, which is the first to bring its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol, TypeAlias

Step: TypeAlias = Callable[[bytes], bytes]
"""Takes bytes and gives them coded; it belongs to one thread."""

FRAME_HEADER: Final = b"\x28\xb5\x2f\xfd"
"""Begins every frame."""


class Library(Protocol):
    """A library, as far as it is needed.

    Args:
        error: the class of its errors.
    """

    error: type[Exception]

    def content_size(self, frame: bytes, /) -> int:
        """What a frame claims to hold, in bytes; -1 if it claims nothing. Raises `error`."""
        ...

    def decompressor(self, dictionary: bytes | None) -> Step:
        """Takes a frame that says what it holds, and takes no more memory than that.

        What stands behind the frame is left out. The step raises `error`.
        """
        ...

    def compressor(self, level: int) -> Step:
        """Gives a frame that says what it holds."""
        ...

    def dictionary_compressor(self, dictionary: bytes, parameters: Mapping[str, int]) -> Step:
        """The same with a dictionary, which the frame does not name."""
        ...

    def decompressing(self) -> Step:
        """Takes a frame piece by piece. The step raises `error`, also behind the frame's end."""
        ...

    def compressing(self, level: int) -> tuple[Step, Callable[[], bytes]]:
        """Takes what a frame is to hold piece by piece; then gives its end."""
        ...


class Zstandard:
    """The library of that name. Its dictionaries are shared by all threads."""

    error: type[Exception]

    def __init__(self) -> None:
        import zstandard

        self._zstandard = zstandard
        self._known = cache(zstandard.ZstdCompressionDict)
        self._prepared = cache(self._prepare)
        self.error = zstandard.ZstdError
        self.content_size = zstandard.frame_content_size

    def decompressor(self, dictionary: bytes | None) -> Step:
        known = None if dictionary is None else self._known(dictionary)
        return self._zstandard.ZstdDecompressor(dict_data=known).decompress

    def compressor(self, level: int) -> Step:
        return self._zstandard.ZstdCompressor(level=level).compress

    def dictionary_compressor(self, dictionary: bytes, parameters: Mapping[str, int]) -> Step:
        how = self._prepared(dictionary, *parameters.items())
        return self._zstandard.ZstdCompressor(**how).compress

    def _prepare(self, dictionary: bytes, *parameters: tuple[str, int]) -> dict[str, Any]:
        own = self._zstandard.ZstdCompressionDict(dictionary)
        how = self._zstandard.ZstdCompressionParameters(**dict(parameters), write_dict_id=False)
        own.precompute_compress(compression_params=how)
        return {"compression_params": how, "dict_data": own}

    def decompressing(self) -> Step:
        return self._zstandard.ZstdDecompressor().decompressobj().decompress

    def compressing(self, level: int) -> tuple[Step, Callable[[], bytes]]:
        codec = self._zstandard.ZstdCompressor(level=level).compressobj()
        block = self._zstandard.COMPRESSOBJ_FLUSH_BLOCK
        return lambda piece: codec.compress(piece) + codec.flush(block), codec.flush


class Own:
    """Python's own, or its backport. Nothing is shared: its dictionaries have locks."""

    error: type[Exception]

    def __init__(self) -> None:
        name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        self._zstd: Any = import_module(name)
        self.error = self._zstd.ZstdError

    def content_size(self, frame: bytes, /) -> int:
        size: int | None = self._zstd.get_frame_info(frame).decompressed_size
        return -1 if size is None else size

    def decompressor(self, dictionary: bytes | None) -> Step:
        known = None if dictionary is None else self._zstd.ZstdDict(dictionary)

        def decompress(frame: bytes) -> bytes:
            size = self.content_size(frame)
            if size < 0 or not frame.startswith(FRAME_HEADER):  # some frames are to be skipped
                raise self.error("a frame does not say what it holds")
            if not size:
                return b""
            codec = self._zstd.ZstdDecompressor(known)
            content: bytes = codec.decompress(frame, size)
            if not codec.eof or len(content) != size:
                raise self.error("a frame does not hold what it says")
            return content

        return decompress

    def compressor(self, level: int) -> Step:
        return self._whole(self._zstd.ZstdCompressor(level))

    def dictionary_compressor(self, dictionary: bytes, parameters: Mapping[str, int]) -> Step:
        names = self._zstd.CompressionParameter
        options = {int(names[name]): value for name, value in parameters.items()}
        options[int(names.dict_id_flag)] = 0
        # A digested one would bring parameters of its own.
        known = self._zstd.ZstdDict(dictionary).as_undigested_dict
        return self._whole(self._zstd.ZstdCompressor(options=options, zstd_dict=known))

    def _whole(self, codec: Any) -> Step:
        def compress(content: bytes) -> bytes:
            codec.set_pledged_input_size(len(content))
            packed: bytes = codec.compress(content, codec.FLUSH_FRAME)
            return packed

        return compress

    def decompressing(self) -> Step:
        codec = self._zstd.ZstdDecompressor()

        def feed(piece: bytes) -> bytes:
            if codec.eof:
                raise self.error("there is more than one frame")
            content: bytes = codec.decompress(piece)
            return content

        return feed

    def compressing(self, level: int) -> tuple[Step, Callable[[], bytes]]:
        codec = self._zstd.ZstdCompressor(level)
        return lambda piece: codec.compress(piece, codec.FLUSH_BLOCK), codec.flush


def _installed() -> Library:
    try:
        return Zstandard()
    except ImportError:
        return Own()


LIBRARY: Final = _installed()
