"""One store, in process and through the proxy: an entry of the one is a hit of the other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from standin import Upstream as Standin

import cachewrap
from proxy.conftest import KINDS, Serve, url_of
from proxy.node import Call, Node
from proxy.raw import Message, ask, request
from proxy.running import Within

SAY = {"model": "m", "messages": [{"role": "user", "content": "Say: Grüße 世界"}]}
CASES = {
    "chat": ("openai", "/v1/chat/completions", SAY),
    "chat stream": ("openai", "/v1/chat/completions", {**SAY, "stream": True}),
    "responses": ("openai", "/v1/responses", {"model": "m", "input": "hi"}),
    "responses stream": ("openai", "/v1/responses", {"model": "m", "input": "hi", "stream": True}),
    "embeddings": (
        "openai",
        "/v1/embeddings",
        {"model": "m", "input": ["a", "b"], "encoding_format": "base64"},
    ),
    "messages": ("anthropic", "/v1/messages", {**SAY, "max_tokens": 9}),
    "messages stream": ("anthropic", "/v1/messages", {**SAY, "max_tokens": 9, "stream": True}),
}
METHODS = {
    "/v1/chat/completions": "chat.completions.create",
    "/v1/responses": "responses.create",
    "/v1/embeddings": "embeddings.create",
    "/v1/messages": "messages.create",
}
Asker = Callable[[str, str, dict[str, Any]], Any]


def plain(value: Any) -> Any:
    """A model of an SDK as JSON, without what an SDK adds."""
    if hasattr(value, "model_dump"):
        return json.loads(value.model_dump_json(exclude_unset=True))
    return value


def by_sdk(base: str) -> Asker:
    """The Python SDKs, at this address."""

    def ask(name: str, path: str, body: dict[str, Any]) -> Any:
        sdk = pytest.importorskip(name)
        made = sdk.OpenAI if name == "openai" else sdk.Anthropic
        root = base.format(name=name) + ("/v1" if name == "openai" else "")
        with made(base_url=root, api_key="k", max_retries=0) as client:
            call = client
            for step in METHODS[path].split("."):
                call = getattr(call, step)
            told = call(**body)
            return [plain(one) for one in told] if body.get("stream") else plain(told)

    return ask


def by_httpx(base: str) -> Asker:
    """httpx, at this address: JSON, or the events."""

    def ask(name: str, path: str, body: dict[str, Any]) -> Any:
        httpx = pytest.importorskip("httpx")
        told = httpx.post(base.format(name=name) + path, json=body, headers=headers_of(name))
        return read(told.content, body)

    return ask


def headers_of(name: str) -> dict[str, str]:
    """What the SDKs of Anthropic say beside the body, which is a part of the question."""
    if name != "anthropic":
        return {}
    client = pytest.importorskip("anthropic").Anthropic(api_key="k")
    return {"anthropic-version": str(client.default_headers["anthropic-version"])}


def lines_of(name: str) -> list[str]:
    """The same as lines."""
    return [f"{header}: {value}" for header, value in headers_of(name).items()]


def read(content: bytes, body: dict[str, Any]) -> Any:
    """JSON, or the data of events."""
    if not body.get("stream"):
        return json.loads(content)
    lines = content.decode().splitlines()
    told = [line[6:] for line in lines if line.startswith("data: ")]
    return [json.loads(one) for one in told if one != "[DONE]"]


@contextmanager
def patched(url: str, name: str) -> Iterator[None]:
    """What the process asks goes through a cache."""
    patch: Any = {
        "openai": cachewrap.patch_openai,
        "anthropic": cachewrap.patch_anthropic,
        "httpx": lambda: cachewrap.patch_httpx(hosts=["127.0.0.1:*"]),
    }[name]
    with cachewrap.Cache.from_url(url), patch():
        yield


def through(proxy: Within, case: str) -> Message:
    """What a raw client of the proxy gets."""
    name, path, body = CASES[case]
    return ask(proxy.port, request(f"/{name}{path}", json.dumps(body).encode(), *lines_of(name)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("patch", ["the SDK's", "httpx"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "memory"])
class TestBothWays:
    """The same question, in process and through the proxy."""

    def sides(self, case: str, patch: str, root: str) -> tuple[Asker, str]:
        if patch == "httpx":
            return by_httpx(root), "httpx"
        return by_sdk(root), CASES[case][0]

    def test_recorded_in_process(
        self,
        serve: Serve,
        place: Callable[[str], str],
        standin: Standin,
        case: str,
        patch: str,
        kind: str,
    ) -> None:
        url = place(kind)
        asker, name = self.sides(case, patch, standin.root_url)
        with patched(url, name):
            recorded = asker(*CASES[case])
        told = through(serve(url, upstreams=url_of(standin)), case)
        assert (told.status, told.mark) == (200, "hit")
        assert standin.calls == 1
        assert _shared(read(told.body, CASES[case][2]), recorded)

    def test_recorded_by_the_proxy(
        self,
        serve: Serve,
        place: Callable[[str], str],
        standin: Standin,
        case: str,
        patch: str,
        kind: str,
    ) -> None:
        url = place(kind)
        told = through(serve(url, upstreams=url_of(standin)), case)
        assert told.mark == "miss"
        asker, name = self.sides(case, patch, standin.root_url)
        with patched(url, name):
            found = asker(*CASES[case])
        assert standin.calls == 1
        assert _shared(read(told.body, CASES[case][2]), found)


def _shared(one: Any, other: Any) -> bool:
    """Whether two answers are of the same call: the SDKs add members, and decode some."""
    if isinstance(one, list) and isinstance(other, list):
        one, other = (
            [each for each in events if each.get("type") != "ping"] for events in (one, other)
        )
        return len(one) == len(other) and all(map(_shared, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        same = [name for name in ("id", "created", "model") if name in one]
        return all(one[name] == other.get(name) for name in same)
    return bool(one == other)


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("stream")])
def test_a_stream_has_the_same_chunks_on_both_sides(
    serve: Serve, place: Callable[[str], str], standin: Standin, case: str
) -> None:
    """In the boundaries that it came in, whoever recorded it."""
    httpx = pytest.importorskip("httpx")
    name, path, body = CASES[case]
    standin.behave(gap=0.002)
    seen = []
    for recorder in ("httpx", "proxy"):
        url = place("disk") + f"?cache_seed={recorder}"
        proxy = serve(url, upstreams=url_of(standin))

        def in_process() -> list[bytes]:
            with (
                patched(url, "httpx"),
                httpx.stream(
                    "POST",
                    standin.root_url + path,
                    content=json.dumps(body),
                    headers=headers_of(name),
                ) as told,
            ):
                return list(told.iter_raw())

        def by_proxy() -> list[bytes]:
            return through(proxy, case).pieces

        first = in_process() if recorder == "httpx" else by_proxy()
        assert by_proxy() == in_process() == first
        seen.append(len(first))
    assert standin.calls == 2
    assert seen[0] == seen[1] > 3


def test_node_and_curl_hit_what_the_sdks_recorded(
    serve: Serve, place: Callable[[str], str], standin: Standin, node: Node
) -> None:
    url = place("disk")
    recorded = {}
    for case, (name, path, body) in CASES.items():
        with patched(url, name):
            recorded[case] = by_sdk(standin.root_url)(name, path, body)
    calls = standin.calls
    proxy = serve(url, upstreams=url_of(standin))
    told = node.run(
        *(
            Call(
                name,
                f"{proxy.url}/{name}" + ("/v1" if name == "openai" else ""),
                METHODS[path],
                body,
            )
            for name, path, body in CASES.values()
        )
    )
    for case, outcome in zip(CASES, told, strict=True):
        assert outcome.error is None, (case, outcome.error)
        assert outcome.mark == "hit", case
        assert _shared(outcome.value, recorded[case]), case
    if shutil.which("curl"):
        for case, (name, path, body) in CASES.items():
            line = ["curl", "-sS", "-D", "/dev/stderr", f"{proxy.url}/{name}{path}"]
            line += ["-H", "content-type: application/json", "-d", json.dumps(body)]
            line += [part for header in lines_of(name) for part in ("-H", header)]
            done = subprocess.run(line, capture_output=True, timeout=30)
            assert b"x-cachewrap: hit" in done.stderr.lower(), case
            assert _shared(read(done.stdout, body), recorded[case]), case
    assert standin.calls == calls


def test_the_sdks_hit_what_node_recorded(
    serve: Serve, place: Callable[[str], str], standin: Standin, node: Node
) -> None:
    url = place("disk")
    proxy = serve(url, upstreams=url_of(standin))
    told = node.run(
        *(
            Call(
                name,
                f"{proxy.url}/{name}" + ("/v1" if name == "openai" else ""),
                METHODS[path],
                body,
            )
            for name, path, body in CASES.values()
        )
    )
    assert [one.mark for one in told] == ["miss"] * len(CASES)
    for (case, (name, path, body)), outcome in zip(CASES.items(), told, strict=True):
        with patched(url, name):
            found = by_sdk(standin.root_url)(name, path, body)
        assert _shared(outcome.value, found), case
    assert standin.calls == len(CASES)


def test_python_sdks_through_the_proxy(
    serve: Serve, place: Callable[[str], str], standin: Standin
) -> None:
    """Not patched, they are clients like others, of both protocols at once."""
    proxy = serve(place("disk"), upstreams=url_of(standin))
    for case in CASES.values():
        first, second = (by_sdk(proxy.url + "/{name}")(*case) for _ in range(2))
        assert first == second
    assert standin.calls == len(CASES)
