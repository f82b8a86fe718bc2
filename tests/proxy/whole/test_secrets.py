"""Credentials go to the upstream: no store, no log and no page of the proxy has them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cachewrap.proxy.journal import Journal
from cachewrap.proxy.settings import Served
from proxy.raw import Client, chunked, eventually, request
from proxy.running import command, within
from proxy.upstream import Upstream, answer, chat, completion, events, json_of, stream

KEYS = [
    f"zq7-{place}-4d1c9b2e8a7f6053"
    for place in (
        *("bearer", "apikey", "azure", "google", "cookie", "basic", "query", "token", "other"),
        *("proxy", "setcookie", "answer", "custom", "upload", "error"),
    )
]
FOUND = re.compile(rb"zq7-[a-z]+-4d1c9b2e8a7f6053")


def key(place: str) -> str:
    return next(one for one in KEYS if place in one)


HEADERS = [
    f"Authorization: Bearer {key('bearer')}",
    f"x-api-key: {key('apikey')}",
    f"api-key: {key('azure')}",
    f"x-goog-api-key: {key('google')}",
    f"Cookie: session={key('cookie')}",
    f"Proxy-Authorization: Basic {key('basic')}",
    f"OpenAI-Organization: {key('other')}",
    f"X-Custom-Token: {key('custom')}",
]


def test_no_credential_stays(
    tmp_path: Path, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "cache"
    token = key("token")
    own = (f"Set-Cookie: a={key('setcookie')}", f"x-api-key: {key('answer')}")
    upstream.on("/v1/chat/completions", answer(completion(), *own))
    upstream.on("/v1/completions", stream(*events("a"), headers=own))
    upstream.on("/v1/failing", answer(b'{"error":1}', *own, status="500 Failed"))
    upstream.on(
        "/v1/embeddings", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{}"
    )
    query = f"?api_key={key('query')}&key={key('query')}"
    pages = b""
    with command(f"disk:{store}", "--token", token, upstreams={"openai": upstream.url}) as proxy:

        def ask(target: str, body: bytes | None = None, *headers: str) -> int:
            data = request(target, body, *HEADERS, f"x-cachewrap-token: {token}", *headers)
            with Client(proxy.port) as client:
                return client.ask(data).status

        for _ in range(2):
            for path in ("chat/completions", "completions"):
                assert ask(f"/openai/v1/{path}{query}", chat(stream=path == "completions")) == 200
                assert ask(f"/{token}/openai/v1/{path}{query}", chat("b")) == 200
        assert ask(f"/openai/v1/models{query}") == 200
        assert ask(f"/openai/v1/failing{query}", chat()) == 500
        assert ask("/openai/v1/files", chunked(b"x"), "Transfer-Encoding: chunked") == 200
        ask(f"/openai/v1/embeddings{query}", json_of({"model": "m", "input": "x"}))  # it breaks
        assert ask(f"/unknown/v1/models{query}") == 404
        assert (
            ask(
                f"/openai/v1/chat/completions{query}", chat("not there"), "x-cachewrap-mode: replay"
            )
            == 404
        )
        assert ask(f"/openai/v1/chat/completions{query}", chat(), "x-cachewrap-mode: x") == 400
        for data in (
            request(f"/openai/v1/models{query}", None, *HEADERS),
            request(f"/{key('token')[:-1]}x/openai/v1/models", None, *HEADERS),
            request(f"/openai/v1/models{query}", None, *HEADERS, "bad header", "x y: z"),
            request(f"/openai/{key('query')}\x01", None, *HEADERS),
        ):
            with Client(proxy.port) as client:
                pages += client.ask(data).head
        for page in ("/healthz", "/metrics"):
            with Client(proxy.port) as client:
                told = client.ask(request(page, None, f"x-cachewrap-token: {token}"))
                assert told.status == 200
                pages += told.head + told.body
        assert eventually(lambda: len(proxy.said) > 10)
        assert proxy.end() == 0
    seen = b"".join(asked.head for asked in upstream.asked)
    for place in ("bearer", "apikey", "azure", "google", "cookie", "query", "other", "custom"):
        assert key(place).encode() in seen, "it goes to the upstream"
    assert key("token").encode() not in seen
    assert key("basic").encode() not in seen
    kept = b"".join(file.read_bytes() for file in store.rglob("*") if file.is_file())
    assert kept
    assert set(FOUND.findall(kept)) == set()
    assert set(FOUND.findall("".join(proxy.said).encode())) == set()
    assert set(FOUND.findall(pages)) <= set()
    # Nor has what the stores hold packed.
    line = subprocess.run(
        [sys.executable, "-m", "cachewrap", "export", "--all-seeds", "--url", f"disk:{store}", "-"],
        capture_output=True,
        timeout=60,
    )
    assert line.stdout.count(b"\n") >= 3
    assert set(FOUND.findall(line.stdout + line.stderr)) == set()


@pytest.mark.parametrize("page", ["healthz", "unknown", "unknown/v1/models"])
def test_no_token_of_a_path_is_told(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Served] = []
    monkeypatch.setattr(Journal, "add", lambda self, served: told.append(served))
    with within(token=key("token")) as proxy:
        proxy.service.ending = True  # then its health, too, has a line
        proxy.ask(request(f"/{key('token')}/{page}"))
        assert eventually(lambda: told)
    assert key("token") not in repr(told)
