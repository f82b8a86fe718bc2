"""Secrets planted in bodies and headers of real calls, and then a search in all that is left."""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from cli.filling import CommandLine
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME
from standin import Upstream

from cachewrap import Cache, Event, ReplayMissError, llm_cached, patch_httpx
from cachewrap.format.envelope import unseal
from cachewrap.stores.base import Store
from security.conftest import Dump

httpx: Any = importlib.import_module("httpx" if importlib.util.find_spec("httpx") else "httpx2")

pytestmark = pytest.mark.store

SECRET = "pl4nt3d-Q7zt9Lw8"
OTHER = "an0th3r-Q7zt9Lw8"
SHAPE = "ghp_pl4nt3dQ7zt9Lw8abcdefghijklmnopqrstuv"
OTHER_SHAPE = "ghp_an0th3rQ7zt9Lw8abcdefghijklmnopqrstuv"
MARKS = (b"pl4nt3d", b"an0th3r")

Options = dict[str, Any]


def mcp(secret: str) -> Options:
    return {
        "type": "mcp",
        "server_label": "s",
        "server_url": f"https://me:{secret}@tools.example/mcp?key={secret}",
        "authorization": secret,
        "headers": {"X-PAT": secret, "X-Custom": f"Token {secret}"},
    }


def shell(secret: str) -> Options:
    secrets = [{"domain": "d.example", "name": "N", "value": secret}]
    policy = {"type": "allowlist", "allowed_domains": ["d.example"], "domain_secrets": secrets}
    return {"type": "code_interpreter", "container": {"type": "auto", "network_policy": policy}}


SETTINGS: dict[str, Callable[[str, str], Options]] = {
    "names at the top": lambda a, b: {
        "extra_body": {"api_key": a, "token": a, "bearer_token": a, "hf_token": a, "password": a}
    },
    "parameters of a gateway": lambda a, b: {
        "extra_body": {
            "litellm_params": {"aws_secret_access_key": a, "private_key": a, "model": "m"},
            "model_list": [{"litellm_params": {"apiKey": a, "headers": {"X-Session-Id": a}}}],
            "fallbacks": [{"api-key": a}],
            "byok": {"openai": {"key": a}},
            "guardrail_config": {"auth": {"type": "b", "value": a}},
        }
    },
    "metadata": lambda a, b: {
        "metadata": {"langfuse_secret_key": a, "anything": b, "text": f"with {b} in it"}
    },
    "an environment": lambda a, b: {
        "extra_body": {"mcp_servers": [{"env": {"A_TOKEN": a}, "args": ["--api-key", a]}]}
    },
    "remote tools": lambda a, b: {"extra_body": {"tools": [mcp(a), shell(a)]}},
    "headers": lambda a, b: {
        "extra_headers": {
            "X-Custom": f"Token {a}",
            "X-Session-Id": a,
            "X-PAT": a,
            "x-honeycomb-team": a,
            "x-anything": b,
            "x-portkey-config": json.dumps({"provider": "openai", "api_key": a}),
        }
    },
    "a query": lambda a, b: {"extra_query": {"sig": a, "anything": b}},
    "an address in a message": lambda a, b: {"extra_body": {"messages": [seen(a)]}},
}

READ: dict[str, Callable[[str, str], Options]] = {
    "a prompt": lambda a, b: said({"role": "user", "content": f"is {b} a key?"}),
    "the arguments of a call": lambda a, b: said(
        {"role": "user", "content": "log in"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "login", "arguments": json.dumps({"password": a})},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": f"the token is {b}"},
    ),
    "an address that is text": lambda a, b: said(
        {"role": "user", "content": f"fetch https://me:{a}@h.example/a?sig={a}"}
    ),
}


def said(*messages: Options) -> Options:
    return {"extra_body": {"messages": list(messages)}}


def seen(secret: str) -> Options:
    url = f"https://h.example/a.png?X-Amz-Date=1&X-Amz-Signature={secret}&X-Amz-Credential={secret}"
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "no"},
            "finish_reason": "stop",
        }
    ],
}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Callable[[], bytes]:
    """All that was logged by cachewrap, and all warnings."""
    caplog.set_level(logging.DEBUG, logger="cachewrap")
    warnings.simplefilter("always")

    def text() -> bytes:
        lines = [caplog.handler.format(record) for record in caplog.records]
        return "\n".join([*lines, *(str(warned.message) for warned in recwarn)]).encode()

    return text


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def cache(store: Store, events: list[Event]) -> Cache:
    return Cache(store, on_event=events.append)


def opened(store: Store) -> Iterator[bytes]:
    """Every entry as its reader sees it."""
    for key in list(store.keys()):
        entry = unseal(store.get(key) or b"")
        yield b"\0".join((entry.answer, *(str(v).encode() for v in entry.read_record().values())))


def leaks(*places: bytes) -> list[bytes]:
    """What stands around each secret that is found."""
    found = []
    for content in places:
        for mark in MARKS:
            if (at := content.find(mark)) >= 0:
                found.append(content[max(0, at - 60) : at + 40])
    return found


def left(store: Store, dump: Dump, *more: Any) -> list[bytes]:
    return leaks(*dump().values(), *opened(store), *(repr(one).encode() for one in more))


def arrived(up: Upstream) -> bool:
    last = up.last
    sent = [*last.headers.values(), last.query, last.body.decode()]
    return any(SECRET in text or SHAPE in text for text in sent)


@pytest.mark.parametrize("shape", ["chat", "chat-stream"])
@pytest.mark.parametrize("plant", SETTINGS.values(), ids=SETTINGS)
def test_in_settings_a_secret_is_neither_stored_nor_counted(
    plant: Callable[[str, str], Options],
    shape: str,
    colour: Colour,
    up: Upstream,
    store: Store,
    cache: Cache,
    dump: Dump,
    told: Callable[[], bytes],
    events: list[Event],
) -> None:
    client = colour.client(up, max_retries=0)
    with cache:
        colour.ask(client, BY_NAME[shape], **plant(SECRET, SHAPE))
        assert arrived(up)
        colour.ask(client, BY_NAME[shape], **plant(OTHER, OTHER_SHAPE))
        changed = {**plant(SECRET, SHAPE), "temperature": 0.25}
        with cache.mode("replay"), pytest.raises(ReplayMissError) as missed:
            colour.ask(client, BY_NAME[shape], **changed)
    assert (up.calls, cache.stats.hits) == (1, 1)
    error = missed.value
    shown = (told(), events, cache, cache.stats, error, error.nearest, error.diff)
    assert left(store, dump, *shown) == []
    assert "temperature added (0.25)" in error.diff


@pytest.mark.parametrize("plant", READ.values(), ids=READ)
def test_where_a_model_reads_a_secret_counts_and_is_not_stored(
    plant: Callable[[str, str], Options],
    colour: Colour,
    up: Upstream,
    store: Store,
    cache: Cache,
    dump: Dump,
    told: Callable[[], bytes],
    events: list[Event],
) -> None:
    up.behave(body=json.dumps(COMPLETION).encode())  # usually it says again what it was asked
    client = colour.client(up, max_retries=0)
    with cache:
        for secret, shape in ((SECRET, SHAPE), (OTHER, OTHER_SHAPE)) * 2:
            colour.ask(client, BY_NAME["chat"], **plant(secret, shape))
            assert arrived(up) == (up.calls == 1)
        changed = plant("th1rd-Q7zt9Lw8abcd", OTHER_SHAPE.replace("an0th3r", "thIrd34"))
        with cache.mode("replay"), pytest.raises(ReplayMissError) as missed:
            colour.ask(client, BY_NAME["chat"], **changed)
    assert (up.calls, cache.stats.hits) == (2, 2)
    assert left(store, dump, told(), events, missed.value, missed.value.nearest) == []
    assert "(or it differs in a credential, which is never stored)" in str(missed.value)


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_what_an_answer_tells_again_reaches_its_caller_and_not_the_store(
    kind: str, colour: Colour, up: Upstream, store: Store, cache: Cache, dump: Dump
) -> None:
    message = {"role": "assistant", "content": f"you sent {SECRET}, and password: hunter-2"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    completion = {**COMPLETION, "choices": choices, "tools": [mcp("5h0rt")]}
    up.behave(body=json.dumps(completion).encode(), headers=(("x-echo", SECRET),))
    more: Options = {"extra_body": {"litellm_params": {"api_key": SECRET}}}
    client = colour.client(up, max_retries=0, api_key=f"sk-{SECRET}")
    shape = BY_NAME["chat" if kind == "whole" else "chat-open"]
    with cache:
        first = colour.ask(client, shape, **more)
        again = colour.ask(client, shape, **more)
    assert SECRET in str(first)
    again.pop("request", None)  # the caller's own, with what his client sends
    assert SECRET not in str(again)
    assert "password: hunter-2" in str(again)
    assert (up.calls, left(store, dump)) == (1, [])
    assert b"5h0rt" not in b"".join(opened(store))


PIECE = {"choices": [{"index": 0, "delta": {"content": f"a {SECRET} b"}}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
STREAM = "".join(f"data: {json.dumps(one)}\n\n" for one in (PIECE, LAST)) + "data: [DONE]\n\n"


class Pieces(BaseHTTPRequestHandler):
    """An upstream whose streams are cut anywhere."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for at in range(0, len(STREAM), 5):
            piece = STREAM[at : at + 5].encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def pieces() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pieces) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        server.shutdown()


def test_a_secret_that_a_stream_tells_in_pieces_is_not_stored(
    pieces: str, store: Store, cache: Cache, dump: Dump
) -> None:
    said = {"model": "m", "stream": True, "messages": [], "api_key": SECRET}
    seen = []
    with patch_httpx(hosts=["127.0.0.1"]), cache, httpx.Client() as client:
        for _ in range(2):
            with client.stream("POST", pieces, json=said) as response:
                seen.append(b"".join(response.iter_bytes()))
    assert seen[0] == STREAM.encode()
    assert len(seen[1]) == len(STREAM)
    assert seen[1].count(b"(hidden)") == 1
    assert (cache.stats.hits, left(store, dump)) == (1, [])


@llm_cached
def log_in(prompt: str, *, api_key: str, headers: dict[str, str]) -> str:
    return "done"


@llm_cached
def words(prompt: str, password: str = "") -> Iterator[str]:
    yield from prompt.split()


def test_the_arguments_of_a_function_count_and_are_hidden(
    store: Store, cache: Cache, dump: Dump, told: Callable[[], bytes], events: list[Event]
) -> None:
    with cache:
        for secret in (SECRET, OTHER) * 2:
            log_in(f"hi {SHAPE}", api_key=secret, headers={"X-PAT": secret})
            list(words("a b", password=secret))
        told_why = str(cache.explain(lambda: log_in("hi", api_key=SECRET, headers={})))
    assert (cache.stats.hits, cache.stats.misses) == (4, 4)
    assert left(store, dump, told(), events, told_why) == []


def test_a_key_of_the_callers_own_is_hidden_and_still_found(
    store: Store, cache: Cache, dump: Dump
) -> None:
    cache.set(SHAPE, "value")
    cache.set({"token": SECRET}, "another")
    assert (cache.get(SHAPE), cache.get({"token": SECRET})) == ("value", "another")
    assert left(store, dump, list(cache.keys())) == []
    assert sorted(cache.get(key) for key in cache.keys()) == ["another", "value"]


def test_names_that_are_keyed_count_and_are_stored_as_a_hash(
    colour: Colour, up: Upstream, store: Store, dump: Dump
) -> None:
    cache = Cache(store, keyed=["authorization", "api_key", "sig"])
    with cache:
        for secret in (SECRET, OTHER) * 2:
            client = colour.client(up, max_retries=0, api_key=secret)
            colour.ask(client, BY_NAME["chat"])
            client = colour.client(up, max_retries=0)
            for more in (
                {"extra_body": {"litellm_params": {"api_key": secret}}},
                {"extra_body": {"api_key": secret}},
                {"extra_query": {"sig": secret}},
            ):
                colour.ask(client, BY_NAME["chat"], **more)
    assert (up.calls, cache.stats.hits) == (8, 8)
    assert left(store, dump) == []
    assert b"(keyed " in b"".join(opened(store))


def everything(url: str, run: CommandLine, folder: Path) -> list[bytes]:
    """What every command that shows entries says of them."""
    page, lines = folder / "page.html", folder / "lines.jsonl"
    assert run("report", "--url", url, "--output", str(page)).status == 0
    assert run("export", "--url", url, str(lines)).status == 0
    said = [run("ls", "--url", url, "--json").out]
    for line in said[0].splitlines():
        said += [
            run("show", json.loads(line)["key"], "--url", url, *j).out for j in ([], ["--json"])
        ]
    return [page.read_bytes(), lines.read_bytes(), *(text.encode() for text in said)]


@pytest.mark.shared
def test_no_command_shows_a_secret(
    colour: Colour, up: Upstream, cache: Cache, capsys: Any, tmp_path: Path
) -> None:
    up.behave(body=json.dumps(COMPLETION).encode())
    client = colour.client(up, max_retries=0)
    run = CommandLine(capsys)
    with cache:
        for plant in (*SETTINGS.values(), *READ.values()):
            colour.ask(client, BY_NAME["chat"], **plant(SECRET, SHAPE))
        log_in(f"hi {SHAPE}", api_key=SECRET, headers={"X-PAT": SECRET})
    cache.close()
    assert leaks(*everything(cache.url, run, tmp_path)) == []
    assert run("verify", "--secrets", "--url", cache.url).status == 0
    assert run("verify", "--url", cache.url).status == 0


def test_the_search_finds_a_secret_that_is_there(store: Store, cache: Cache, dump: Dump) -> None:
    cache.set("key", SECRET)
    assert left(store, dump)


def test_the_calls_are_those_of_the_sdk(up: Upstream) -> None:
    client = openai.OpenAI(base_url=up.base_url, api_key=SECRET, max_retries=0)
    client.chat.completions.create(model="m", messages=[seen(SECRET)])  # type: ignore[list-item]
    assert arrived(up)
