"""curl through the proxy, with the options that scripts give it."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from standin import Upstream as Standin

from proxy.conftest import Serve, url_of
from proxy.raw import Message, Wire, chunk
from proxy.running import Within
from proxy.upstream import Upstream, answer, chat, completion, events, stream, stream_head

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")

CHAT = "openai/v1/chat/completions"


def curl(proxy: Within, path: str, *options: str, data: bytes | None = None) -> tuple[str, bytes]:
    """The heads and the body that curl got. Raises where it is not content."""
    done = run(proxy, path, *options, data=data)
    assert done.returncode == 0, done.stderr
    return done.stderr.decode("latin-1"), done.stdout


def run(
    proxy: Within, path: str, *options: str, data: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    line = ["curl", "-sS", "--max-time", "20", "-D", "/dev/stderr", f"{proxy.url}/{path}", *options]
    if data is not None:
        line += ["-H", "content-type: application/json", "--data-binary", "@-"]
    return subprocess.run(line, input=data, capture_output=True, timeout=30)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="plain"),
        pytest.param(["--compressed"], id="compressed"),
        pytest.param(["--http1.0"], id="http1.0"),
        pytest.param(["-N"], id="N"),
        pytest.param(["-H", "Expect: 100-continue"], id="Expect"),
        pytest.param(["-H", "Transfer-Encoding: chunked"], id="chunked"),
        pytest.param(["--tcp-nodelay", "--no-keepalive", "--no-alpn"], id="connection"),
        pytest.param(["-H", "Connection: close"], id="close"),
        pytest.param(["-H", "Authorization: Bearer k", "-A", "me"], id="headers"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_chat(proxy: Within, upstream: Upstream, options: list[str], streamed: bool) -> None:
    upstream.usual = stream(*events("a", "b")) if streamed else answer(completion())
    wanted = b"".join(events("a", "b")) if streamed else completion()
    for mark in ("miss", "hit"):
        head, body = curl(proxy, CHAT, *options, data=chat(stream=streamed))
        assert body == wanted
        assert f"x-cachewrap: {mark}" in head.lower()
    assert len(upstream.asked) == 1


def test_all_ways_share_one_entry(proxy: Within, upstream: Upstream) -> None:
    """Who asks, and with which connection and coding, is no part of the question."""
    upstream.usual = answer(completion())
    marks = []
    for options in ([], ["--compressed"], ["--http1.0"], ["-A", "x"], ["-H", "Authorization: k"]):
        head, _ = curl(proxy, CHAT, *options, data=chat())
        marks.append("hit" if "x-cachewrap: hit" in head.lower() else "miss")
    assert marks == ["miss", *["hit"] * 4]


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "GET", "PROPFIND"])
def test_methods(proxy: Within, upstream: Upstream, method: str) -> None:
    upstream.usual = answer(b'{"m":1}', "X-A: 1", status="207 Multi")
    head, body = curl(proxy, "openai/v1/things?a=b", "-X", method, "-d", "some")
    assert (upstream.last.method, upstream.last.body) == (method, b"some")
    assert body == b'{"m":1}'
    assert "207 Multi" in head
    assert "x-cachewrap: bypass" in head.lower()


def test_head(proxy: Within, upstream: Upstream) -> None:
    upstream.usual = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-A: 1\r\n\r\n"
    head, _ = curl(proxy, "openai/v1/models", "-I")
    assert "Content-Length: 99" in head
    assert upstream.last.method == "HEAD"


def test_uploads(serve: Serve, standin: Standin, tmp_path: Path) -> None:
    proxy = serve(upstreams=url_of(standin))
    file = tmp_path / "a.jsonl"
    file.write_bytes(bytes(range(256)) * 20_000)
    given = ["-F", "purpose=batch", "-F", f"file=@{file}"]
    for more in ([], ["-H", "Transfer-Encoding: chunked"], ["--http1.0"]):
        curl(proxy, "openai/v1/files", *given, *more)
        (part,) = (part for part in standin.last.parts() if part.filename)
        assert part.content == file.read_bytes()
    curl(proxy, "openai/v1/files/1", "-T", str(file))
    assert standin.last.body == file.read_bytes()


def test_downloads_in_parts(proxy: Within, upstream: Upstream) -> None:
    upstream.usual = answer(b"cde", "Content-Range: bytes 2-4/9", status="206 Partial Content")
    head, body = curl(proxy, "openai/v1/files/1/content", "-r", "2-4")
    assert upstream.last.get("range") == "bytes=2-4"
    assert (body, "206 Partial" in head) == (b"cde", True)


def test_redirects_are_the_clients(proxy: Within, upstream: Upstream) -> None:
    upstream.usual = b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    head, _ = curl(proxy, "openai/v1/models")
    assert "Location: /elsewhere" in head
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("path", [CHAT, "openai/v1/events"])
def test_n_shows_each_event_at_once(proxy: Within, upstream: Upstream, path: str) -> None:
    go = threading.Event()
    pieces = events("a", "b")

    def waits(wire: Wire, asked: Message) -> None:
        wire.send(stream_head() + chunk(pieces[0]))
        go.wait(10)
        for piece in pieces[1:]:
            wire.send(chunk(piece))
        wire.send(b"0\r\n\r\n")

    upstream.usual = waits
    line = ["curl", "-sSN", "--max-time", "20", f"{proxy.url}/{path}", "-d", chat(stream=True)]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(len(pieces[0])) == pieces[0]
        go.set()
        assert process.stdout.read() == b"".join(pieces[1:])
    assert process.returncode == 0


@pytest.mark.parametrize("target", [CHAT, "openai/v1/models"])
def test_a_broken_answer_is_an_error_of_curl(
    proxy: Within, upstream: Upstream, target: str
) -> None:
    def breaks(wire: Wire, asked: Message) -> bool:
        wire.send(stream_head() + chunk(events("a")[0]))
        return False

    upstream.usual = breaks
    data = chat(stream=True) if target == CHAT else None
    assert run(proxy, target, data=data).returncode in (18, 56)


def test_several_requests_on_one_connection(proxy: Within, upstream: Upstream) -> None:
    url = f"{proxy.url}/openai/v1/models"
    line = [
        "curl",
        "-sS",
        "-w",
        "%{num_connects}\n",
        "-o",
        "/dev/null",
        url,
        "-o",
        "/dev/null",
        url,
    ]
    told = subprocess.run(line, capture_output=True, text=True, timeout=30).stdout
    assert told.split() == ["1", "0"]
