"""How uploads enter a key."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from cachewrap.errors import UnkeyableError
from cachewrap.http.request import fingerprints

SOUND = b"RIFF....WAVE"
HASH = hashlib.sha256(SOUND).hexdigest()


def test_bytes(tmp_path: Path) -> None:
    assert fingerprints([("file", SOUND)]) == [{"field": "file", "sha256": HASH}]


def test_a_tuple_gives_name_and_type() -> None:
    assert fingerprints({"file": ("a.wav", SOUND, "audio/wav")}) == [
        {"field": "file", "name": "a.wav", "type": "audio/wav", "sha256": HASH}
    ]


def test_part_headers_count() -> None:
    plain, tagged = fingerprints(
        [("f", ("a", SOUND, "t")), ("f", ("a", SOUND, "t", {"X-Lang": "de"}))]
    )
    assert tagged == {**plain, "headers": "X-Lang: de"}


def test_a_path_and_a_file_that_is_open_on_it_are_the_same_upload(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(SOUND)
    expected = [{"field": "file", "name": "a.wav", "sha256": HASH}]
    with path.open("rb") as file:
        assert fingerprints([("file", path)]) == fingerprints([("file", file)]) == expected


def test_a_file_is_hashed_from_its_start_and_left_where_it_was() -> None:
    file = io.BytesIO(SOUND)
    file.seek(4)
    assert fingerprints([("file", file)])[0]["sha256"] == HASH
    assert file.tell() == 4


def test_the_order_of_uploads_is_kept() -> None:
    pair = [("image[]", b"1"), ("image[]", b"2")]
    assert fingerprints(pair) != fingerprints(pair[::-1])


class _Pipe(io.RawIOBase):
    def readable(self) -> bool:
        return True


@pytest.mark.parametrize("upload", [_Pipe(), iter([b"1"]), object(), io.StringIO("text")])
def test_what_cannot_be_read_twice_has_no_key(upload: Any) -> None:
    with pytest.raises(UnkeyableError, match="'file'"):
        fingerprints([("file", upload)])
