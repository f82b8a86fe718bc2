"""Multipart bodies: what clients send reads as an SDK has it, and anything odd does not."""

from __future__ import annotations

import hashlib
import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cachewrap.http.multipart import parse_multipart
from cachewrap.http.request import fingerprints

# Beside OpenAI's SDK from version 3 on it has another name.
httpx: Any = importlib.import_module("httpx" if find_spec("httpx") else "httpx2")

TYPE = "multipart/form-data; boundary=b"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def form(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """A body of parts, each of a head and its content."""
    told = (b"--b\r\n" + head.encode() + b"\r\n\r\n" + held + b"\r\n" for head, held in parts)
    return b"".join(told) + end


def field(name: str, text: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', text.encode()


def file(more: str = "", content: bytes = b"1", name: str = "a.wav") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="file"; filename="{name}"{more}', content


WAV = {"field": "file", "name": "a.wav", "sha256": digest(b"RIFF1")}
MARK = "------------------------d80c84fae909271f"

# As they were sent to a server on loopback.
CURL = (
    b"".join(
        b"--%s\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"
        % (MARK.encode(), name, held)
        for name, held in [
            (b'"file"; filename="a.wav"\r\nContent-Type: application/octet-stream', b"RIFF1"),
            (b'"model"', b"m"),
            (b'"temperature"', b"0.2"),
            (b'"timestamp_granularities[]"', b"word"),
        ]
    )
    + b"--%s--\r\n" % MARK.encode()
)
NODE = (
    b"".join(
        b"--openai-2c4\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n" % part
        for part in [
            (b'"model"', b"m"),
            (b'"file"; filename="a.wav"\r\nContent-Type: application/octet-stream', b"RIFF1"),
            (b'"temperature"', b"0.2"),
            (b'"timestamp_granularities[]"', b"word"),
            (b'"timestamp_granularities[]"', b"segment"),
            (b'"response_format"', b"verbose_json"),
            (b'"chunking_strategy[type]"', b"server_vad"),
            (b'"chunking_strategy[threshold]"', b"0.5"),
            (b'"stream"', b"false"),
        ]
    )
    + b"--openai-2c4--\r\n"
)
AIOHTTP = (
    b"--a0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b'Content-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    b"--a0\r\nContent-Type: application/octet-stream\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF1\r\n--a0--\r\n'
)
REQUESTS = (
    b'--ba\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--ba\r\nContent-Disposition: form-data; name="file"; filename="Gr\xc3\xbc%22.wav"\r\n\r\n'
    b"RIFF1\r\n--ba--\r\n"
)
SENT: dict[str, tuple[str, bytes, dict[str, Any], dict[str, str]]] = {
    "curl": (
        f"multipart/form-data; boundary={MARK}",
        CURL,
        {"model": "m", "temperature": 0.2, "timestamp_granularities": ["word"]},
        WAV,
    ),
    "Node": (
        "multipart/form-data; boundary=openai-2c4",
        NODE,
        {
            "model": "m",
            "temperature": 0.2,
            "timestamp_granularities": ["word", "segment"],
            "response_format": "verbose_json",
            "chunking_strategy": {"type": "server_vad", "threshold": 0.5},
            "stream": False,
        },
        WAV,
    ),
    "aiohttp": ("multipart/form-data; boundary=a0", AIOHTTP, {"model": "m"}, WAV),
    "requests": (
        'multipart/form-data; charset=utf-8; boundary="ba"',
        REQUESTS,
        {"model": "m"},
        {**WAV, "name": 'Grü".wav'},
    ),
}


@pytest.mark.parametrize("client", SENT)
def test_what_a_client_sends_is_read(client: str) -> None:
    content_type, body, fields, uploaded = SENT[client]
    assert parse_multipart(content_type, body) == (fields, [uploaded])


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"file": b"sound"}, id="bytes"),
        pytest.param({"file": ("a.wav", b"sound")}, id="a name"),
        pytest.param({"file": ('G"rü\\ß;%=.wav', b"sound")}, id="an odd name"),
        pytest.param({"file": ("a.mp3", b"")}, id="nothing"),
        pytest.param({"file": ("a.xyz", b"\r\n--\r\n\0")}, id="an unknown ending"),
        pytest.param({"file": ("a.wav", b"1", "text/odd")}, id="a type"),
        pytest.param({"file": ("a.wav", b"1", "text/odd", {"X-B": "1", "A": "2"})}, id="headers"),
        pytest.param({"file": (None, b"{}", "application/json")}, id="a field with a type"),
        pytest.param([("a[]", ("1.png", b"1")), ("a[]", ("2.png", b"2"))], id="two of a field"),
    ],
)
def test_files_have_the_fingerprints_that_an_sdk_gives_them(files: Any) -> None:
    expected = fingerprints(files)  # httpx adds to the headers of a part
    request = httpx.Request("POST", "http://a", files=files, data={"model": "m"})
    found = parse_multipart(request.headers["content-type"], request.read())
    assert found == ({"model": "m"}, expected)


def test_a_file_on_disk_is_the_one_that_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    with path.open("rb") as opened:
        request = httpx.Request("POST", "http://a", files={"file": opened})
        _, found = parse_multipart(request.headers["content-type"], request.read())
    with path.open("rb") as opened:
        assert found == fingerprints({"file": opened}) == fingerprints({"file": path})


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [
        ("a.wav", "audio/x-wav", False),
        ("a.wav", "audio/wav", False),
        ("a.WAV", "Audio/WAV", False),
        ("a.m4a", "audio/mp4", False),
        ("a.png", "image/png", False),
        ("a.png", "application/octet-stream", False),
        ("a.txt", "text/plain", False),
        ("a.png", "image/jpeg", True),
        ("a", "audio/wav", True),
    ],
)
def test_a_type_counts_where_it_says_more_than_the_name(name: str, kind: str, kept: bool) -> None:
    _, [found] = parse_multipart(TYPE, form(file(f"\r\nContent-Type: {kind}", name=name)))
    assert found.get("type") == (kind if kept else None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.2", 0.2),
        ("temperature", "1e-07", 1e-7),
        ("temperature", "1", 1),
        ("n", "2", 2),
        ("n", "02", "02"),
        ("n", "2.", "2."),
        ("n", "NaN", "NaN"),
        ("n", "\u0661", "\u0661"),
        ("n", "9" * 5000, "9" * 5000),
        ("temperature", "1e9999", "1e9999"),
        ("temperature", " 1", " 1"),
        ("stream", "true", True),
        ("stream", "false", False),
        ("stream", "True", "True"),
        ("language", "true", "true"),
        ("prompt", "1", "1"),
        ("model", "", ""),
        ("chunking_strategy", "auto", "auto"),
    ],
)
def test_numbers_and_truths_are_such_where_they_are_documented(
    name: str, text: str, value: Any
) -> None:
    fields, _ = parse_multipart(TYPE, form(field(name, text)))
    assert fields == {name: value}
    assert type(fields[name]) is type(value)


def test_a_name_may_be_given_in_two_ways() -> None:
    head = (
        'Content-Disposition: form-data; name="file"; filename="a"; filename*=utf-8\'\'%c3%a4.wav'
    )
    _, [found] = parse_multipart(TYPE, form((head, b"1")))
    assert found["name"] == "ä.wav"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"--b", id="a boundary alone"),
        pytest.param(b"--b--junk", id="what follows the end"),
        pytest.param(b"before\r\n" + form(file()), id="what comes before"),
        pytest.param(form(file()) + b"after", id="what comes after"),
        pytest.param(form(file(), end=b""), id="no end"),
        pytest.param(form(file(), end=b"--c--\r\n"), id="the end of another"),
        pytest.param(form(file(), end=b"--b--\r\n--b--\r\n"), id="two ends"),
        pytest.param(form(file()).replace(b"\r\n", b"\n"), id="lines of LF"),
        pytest.param(form(file(content=b"x\r\n--bc\r\ny")), id="a boundary in a part"),
        pytest.param(b"--b\r\n\r\n1\r\n--b--\r\n", id="no head"),
        pytest.param(form(("Content-Type: text/plain", b"1")), id="no field"),
        pytest.param(form(("Content-Disposition: attachment", b"1")), id="no form"),
        pytest.param(form(("Content-Disposition: form-data", b"1")), id="no name"),
        pytest.param(form(('Content-Disposition: form-data; name=""', b"1")), id="an empty name"),
        pytest.param(form(('Content-Disposition: form-data; name="a', b"1")), id="an open quote"),
        pytest.param(
            form(('Content-Disposition: form-data; name="a"; name="b"', b"1")), id="two names"
        ),
        pytest.param(
            form(('Content-Disposition: form-data; name="a" junk; x=1', b"1")), id="junk in a head"
        ),
        pytest.param(form(file("\r\n folded: x")), id="a folded line"),
        pytest.param(form(file("\r\nno colon")), id="no header"),
        pytest.param(form(file("\r\nA: 1\r\na: 2")), id="a header twice"),
        pytest.param(form(file("\r\nContent-Transfer-Encoding: base64")), id="an encoded part"),
        pytest.param(form(file("; filename*=latin1''a")), id="an unknown character set"),
        pytest.param(form(file("; filename*=utf-8''%ff")), id="a name that is no text"),
        pytest.param(form(('Content-Disposition: form-data; name="a"', b"\xff")), id="no text"),
        pytest.param(form(field("a", "1"), field("a", "2")), id="a field twice"),
        pytest.param(form(field("a", "1"), field("a[]", "2")), id="a text and a list"),
        pytest.param(form(field("a[]", "1"), field("a[b]", "2")), id="a list and an object"),
        pytest.param(form(field("a[][b]", "1")), id="an object in a list"),
        pytest.param(form(field("a[" + "][".join("bcdefghij") + "]", "1")), id="too deep"),
        pytest.param(form(file("\r\nX: " + "x" * 9000)), id="a long head"),
        pytest.param(form(*[field(f"a{n}", "") for n in range(1001)]), id="many parts"),
    ],
)
def test_what_clients_do_not_write_has_no_reading(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_multipart(TYPE, body)


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "application/json", "multipart/form-data", "multipart/mixed; boundary=b"),
        *("multipart/form-data; boundary=", 'multipart/form-data; boundary="b'),
        *("multipart/form-data; boundary=" + "b" * 201, "multipart/form-data; xboundary=b"),
        "multipart/form-data; boundary=ß\u20ac",
    ],
)
def test_another_content_type_is_no_form(content_type: str) -> None:
    with pytest.raises(ValueError, match=r"boundary|codec"):
        parse_multipart(content_type, form(file()))


def test_a_large_upload_is_read_in_place() -> None:
    content = bytes(range(256)) * 100_000
    _, [found] = parse_multipart(TYPE, form(file(content=content)))
    assert found["sha256"] == digest(content)
