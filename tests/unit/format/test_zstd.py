"""What one library of Zstandard writes the other reads; what one refuses the other does too."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from cachewrap.entry import Facts, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import envelope
from cachewrap.format.zstd import LIBRARY, Library, Own, Zstandard

GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.entry"))
DICTIONARY = Path(envelope.__file__).with_name("dictionary_1.zstd").read_bytes()
FACTS = Facts(1.0, 1.0)
WORDS = "choices message role assistant content model usage tokens id created".split()


def library(make: Callable[[], Library]) -> Library:
    try:
        return make()
    except ImportError:
        pytest.skip("not installed")


@pytest.fixture(params=[Zstandard, Own])
def writer(request: pytest.FixtureRequest) -> Library:
    return library(request.param)


@pytest.fixture(params=[Zstandard, Own])
def reader(request: pytest.FixtureRequest) -> Library:
    return library(request.param)


@cache
def content(size: int) -> bytes:
    chance = random.Random(size)
    text = " ".join(f'"{chance.choice(WORDS)}": {chance.random()}' for _ in range(size // 20 + 1))
    return text.encode()[:size]


def claim(size: int) -> bytes:
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size)


FRAME = LIBRARY.compressor(3)(content(1200))
MANNERS = [envelope._DENSE, envelope._QUICK]
SIZES = [0, 1, 127, 1200, 8000, 200_000]
HOSTILE = {
    "nothing": b"",
    "no frame": b"not a frame at all",
    "the beginning of a head": FRAME[:5],
    "without its end": FRAME[:-1],
    "without its last block": FRAME[:40],
    "of another size": FRAME[:5] + b"\0\0" + FRAME[7:],
    "a hole in it": FRAME[:20] + bytes(100) + FRAME[120:],
    "a claim of one byte too many": claim(3) + b"\x11\0\0ab",
    "a claim of one byte too few": claim(1) + b"\x11\0\0ab",
    "no claim": b"\x28\xb5\x2f\xfd\x00\x58\x01\0\0",
    "a window of gigabytes": b"\x28\xb5\x2f\xfd\x00\xf8\x01\0\0",
    "a claim beyond all": claim(2**64 - 1) + b"\x01\0\0",
    "a reserved block": claim(3) + b"\x07\0\0",
    "a dictionary that is not there": b"\x28\xb5\x2f\xfd\x21\x07\x03\x19\0\0abc",
}
TAKEN = {
    "a frame": (FRAME, content(1200)),
    "something behind it": (FRAME + b"behind", content(1200)),
    "two": (FRAME + FRAME, content(1200)),
    "a raw block": (claim(2) + b"\x11\0\0ab", b"ab"),
    "two blocks, the last of them empty": (claim(2) + b"\x10\0\0ab\x01\0\0", b"ab"),
    "an empty one": (claim(0) + b"\x01\0\0", b""),
}


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_of_one_is_read_by_the_other(writer: Library, reader: Library, size: int) -> None:
    frame = writer.compressor(1)(content(size))
    assert reader.content_size(frame) == size
    assert reader.decompressor(None)(frame) == content(size)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("size", SIZES)
def test_the_same_with_a_dictionary(
    writer: Library, reader: Library, size: int, manner: int
) -> None:
    compress = writer.dictionary_compressor(DICTIONARY, envelope._SETTINGS[manner])
    decompress = reader.decompressor(DICTIONARY)
    frames = [compress(content(size)) for _ in range(3)]
    assert [decompress(frame) for frame in frames] == [content(size)] * 3


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_frame_is_an_error(reader: Library, frame: bytes) -> None:
    with pytest.raises(reader.error):
        reader.decompressor(None)(frame)
    assert reader.decompressor(None)(FRAME) == content(1200)


@pytest.mark.parametrize(("frame", "held"), TAKEN.values(), ids=TAKEN)
def test_what_is_taken_as_a_frame(reader: Library, frame: bytes, held: bytes) -> None:
    assert reader.decompressor(None)(frame) == held


def test_a_frame_to_be_skipped_is_an_error() -> None:  # of zstandard's early versions it is none
    own = library(Own)
    with pytest.raises(own.error):
        own.decompressor(None)(b"\x50\x2a\x4d\x18\x03\0\0\0abc")


def test_one_piece_at_a_time(writer: Library, reader: Library) -> None:
    feed, end = writer.compressing(1)
    decompress = reader.decompressing()
    pieces = [content(size) for size in (1, 1200, 8000)]
    assert [decompress(feed(piece)) for piece in pieces] == pieces
    assert decompress(end()) == b""
    with pytest.raises(reader.error):
        decompress(b"more")


@contextmanager
def using(make: Callable[[], Library]) -> Iterator[Library]:
    """Envelopes are made and opened with a library."""
    found = library(make)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope, "LIBRARY", found)
        patch.setattr(envelope, "_content_size", found.content_size)
        patch.setattr(envelope, "_ZstdError", found.error)
        patch.setattr(envelope, "_zstd", envelope._Zstd())
        yield found


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_entry_is_the_same_to_both(path: Path) -> None:
    def opened() -> tuple[object, ...]:
        entry = envelope.unseal(path.read_bytes())
        return entry.kind, entry.answer, entry.read_record()

    usual = opened()
    with using(Own):
        assert opened() == usual


@pytest.mark.parametrize("kind", [Kind.VALUE, Kind.TEXT])
@pytest.mark.parametrize("size", [1200, 8000, 100_000])
def test_an_envelope_is_the_same_to_the_byte_by_both(size: int, kind: Kind) -> None:
    usual = envelope.seal(kind, content(size), content(1000), FACTS)
    used = pytest.importorskip("zstandard").ZSTD_VERSION
    with using(Own) as own:
        assert isinstance(own, Own)
        if own._zstd.zstd_version_info != used:
            pytest.skip("they have other versions of zstd in them")
        assert envelope.seal(kind, content(size), content(1000), FACTS) == usual


@pytest.mark.parametrize("make", [Zstandard, Own])
def test_a_claim_is_judged_before_memory_is_taken(make: Callable[[], Library]) -> None:
    with using(make):
        for size in (2**40, 2**63 + 1):
            with pytest.raises(CorruptEntryError, match="larger than it can be"):
                envelope._unpack(claim(size) + b"\x01\0\0", 0)


@pytest.mark.parametrize("make", [Zstandard, Own])
def test_threads_have_coders_of_their_own(make: Callable[[], Library]) -> None:
    def there_and_back(number: int) -> bool:
        text = content(1200) + str(number).encode()
        return envelope.unseal(envelope.seal(Kind.VALUE, text, b"", FACTS)).answer == text

    with using(make), ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(500)))
