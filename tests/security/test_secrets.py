"""Secrets in every place where one can be, and then a search for them in all that is left behind.

Every secret is a marker that names its place. The calls are real ones, of a patched client against
the stand-in upstream, and each case shows first that its markers did arrive there.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import openai
import pytest
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME
from standin import SECRET_HEADERS, Upstream

from cachewrap import Cache, CacheWarning, llm_cached
from cachewrap.errors import CachewrapError
from cachewrap.format.envelope import unseal
from cachewrap.stores.base import Store
from security.conftest import Dump

pytestmark = pytest.mark.store

MARK = "s3cr3t"


def marked(names: str) -> dict[str, str]:
    """A secret for each name."""
    return {name: f"{MARK}-{name}" for name in names.split()}


HEADERS = marked(
    "api-key x-api-key x-goog-api-key ocp-apim-subscription-key helicone-auth x-auth-token "
    "cf-aig-authorization proxy-authorization x-amz-security-token x-litellm-key x-client-secret "
    "x-functions-key x-hub-signature-256 x-forwarded-client-cert x-csrf-token cookie"
) | {"x-anything": f"Bearer {MARK}-by-its-scheme", "x-other": f"Basic {MARK}-by-its-scheme"}
QUERY = marked("api-key key sig token access_token X-Amz-Signature X-Amz-Credential auth code")
ANSWERED = (
    *SECRET_HEADERS,
    *marked(
        "set-cookie2 www-authenticate proxy-authenticate authentication-info x-auth-token "
        "x-amzn-oidc-data openai-project x-csrf-token proxy-authorization api-key"
    ).items(),
    ("set-cookie", f"session={MARK}-cookie; HttpOnly"),
)
TOOL = {
    "type": "mcp",
    "server_label": "s",
    "server_url": f"https://me:{MARK}-tool-user@tools.example/mcp?key={MARK}-tool-query",
    "authorization": f"{MARK}-tool",
    "headers": {"x-api-key": f"{MARK}-tool-header"},
}
SOURCE = {
    "type": "azure_search",
    "parameters": {
        "index_name": "i",
        "authentication": {"type": "api_key", "key": f"{MARK}-source"},
    },
}

Options = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Where the secrets of a client and of its call are.

    Args:
        client: options of the client.
        more: options of the call.
        kind: of the client.
        transport: options of the client's own HTTP client.
        user: whether the URL has a user and a password in it.
        arrives: the markers that upstream must have seen, so that the case is known to be one.
    """

    client: Options = field(default_factory=dict)
    more: Options = field(default_factory=dict)
    kind: str = "openai"
    transport: Options | None = None
    user: bool = False
    arrives: tuple[str, ...] = ()


CASES = {
    "account": Case(
        {"api_key": f"sk-{MARK}", "organization": f"org-{MARK}", "project": f"proj-{MARK}"},
        arrives=(f"Bearer sk-{MARK}", f"org-{MARK}", f"proj-{MARK}"),
    ),
    "default headers": Case({"default_headers": HEADERS}, arrives=tuple(HEADERS.values())),
    "extra headers": Case(more={"extra_headers": HEADERS}, arrives=tuple(HEADERS.values())),
    "authorization of the call's own": Case(
        more={"extra_headers": {"Authorization": f"Custom {MARK}"}}, arrives=(f"Custom {MARK}",)
    ),
    "default query": Case({"default_query": QUERY}, arrives=tuple(QUERY.values())),
    "extra query": Case(more={"extra_query": QUERY}, arrives=tuple(QUERY.values())),
    "URL": Case(user=True, arrives=("Basic " + base64.b64encode(b"me:s3cr3t-url").decode(),)),
    "transport": Case(
        transport={
            "headers": HEADERS,
            "params": QUERY,
            "cookies": {"session": f"{MARK}-jar"},
            "auth": ("me", f"{MARK}-basic"),
        },
        arrives=(
            *(value for name, value in HEADERS.items() if name != "cookie"),
            *QUERY.values(),
            "Basic " + base64.b64encode(b"me:s3cr3t-basic").decode(),
        ),
    ),
    "Azure's key": Case({"api_key": f"{MARK}-azure"}, kind="azure", arrives=(f"{MARK}-azure",)),
    "Azure's token": Case(
        {"api_key": None, "azure_ad_token": f"{MARK}-ad"}, kind="azure", arrives=(f"{MARK}-ad",)
    ),
    "body": Case(
        more={
            "extra_body": {
                "api_key": f"{MARK}-body",
                "aws_secret_access_key": f"{MARK}-aws",
                "tools": [TOOL],
                "data_sources": [SOURCE],
            }
        },
        arrives=(f"{MARK}-body", f"{MARK}-aws", f"{MARK}-tool", f"{MARK}-source"),
    ),
}

SHAPES = ("chat", "chat-stream", "chat-raw")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def client(case: Case, colour: Colour, up: Upstream, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The case's client. It does not retry."""
    options = dict(case.client)
    if case.user:
        options["base_url"] = up.base_url.replace("://", f"://me:{MARK}-url@")
    if case.transport is not None:
        sync = colour.name == "sync"
        make = openai.DefaultHttpxClient if sync else openai.DefaultAsyncHttpxClient
        options["http_client"] = make(**case.transport)
    return colour.client(up, case.kind, max_retries=0, **options)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Callable[[], str]:
    """All that was logged by cachewrap, and all warnings, as text."""
    caplog.set_level(logging.DEBUG, logger="cachewrap")
    warnings.simplefilter("always")

    def text() -> str:
        logged = [r for r in caplog.records if r.name.startswith("cachewrap")]
        lines = [caplog.handler.format(record) for record in logged]
        return "\n".join([*lines, *(str(warned.message) for warned in recwarn)])

    return text


def received(up: Upstream) -> str:
    """All that upstream was sent last, as text."""
    last = up.last
    sent = [*last.headers.values(), unquote(last.query), last.body.decode("latin-1")]
    return "\n".join(sent)


def transport_error() -> type[Exception]:
    """What the client's HTTP library raises for an answer that breaks off."""
    library = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
    error: type[Exception] = library.TransportError
    return error


def opened(store: Store) -> dict[str, bytes]:
    """Every entry as its reader sees it: decompressed, with its record."""
    found = {}
    for key in list(store.keys()):
        entry = unseal(store.get(key) or b"")
        record = entry.read_record()
        found[f"{key}, opened"] = b"\0".join(
            (entry.answer, record["request"], record["source"].encode(), record["model"].encode())
        )
    return found


def leaks(places: dict[str, bytes], secrets: Iterable[str] = ()) -> list[str]:
    """Where a secret is found, and around which bytes."""
    patterns = [MARK.encode(), b"upstream-secret", *(s.encode() for s in secrets)]
    patterns += [base64.b64encode(f"me:{MARK}".encode())[:10]]
    found = []
    for place, content in places.items():
        for pattern in patterns:
            start = content.lower().find(pattern.lower())
            if start >= 0:
                found.append(f"{place}: {content[max(0, start - 60) : start + 60]!r}")
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_is_left_behind(
    case: Case,
    shape: str,
    client: Any,
    colour: Colour,
    up: Upstream,
    store: Store,
    dump: Dump,
    told: Callable[[], str],
) -> None:
    up.behave(headers=ANSWERED)
    with Cache(store) as cache:
        colour.ask(client, BY_NAME[shape], **case.more)
        sent = received(up)
        hit = colour.ask(client, BY_NAME[shape], **case.more)
        while_open = dump()
        seen = opened(store)
    assert [marker for marker in case.arrives if marker not in sent] == []
    assert (cache.stats.hits, len(seen)) == (1, 1)
    left = while_open | {f"{name}, closed": held for name, held in dump().items()} | seen
    left |= {"log and warnings": told().encode(), "cache": f"{cache!r} {cache.stats!r}".encode()}
    left |= {"headers of the hit": str(hit.get("headers")).encode()}
    assert leaks(left, case.arrives) == []


def test_secrets_are_no_part_of_the_key(
    case: Case, client: Any, colour: Colour, up: Upstream, store: Store
) -> None:
    plain = Case(kind=case.kind, more={"extra_body": {}})
    if "extra_body" in case.more:
        without = {"tools": [], "data_sources": []}
        tool = {"type": "mcp", "server_label": "s", "server_url": "https://tools.example/mcp"}
        without["tools"] = [tool | {"headers": {}}]
        without["data_sources"] = [
            {
                "type": SOURCE["type"],
                "parameters": {"index_name": "i", "authentication": {"type": "api_key"}},
            }
        ]
        plain = Case(more={"extra_body": without})
    with Cache(store) as cache:
        colour.ask(client, BY_NAME["chat"], **case.more)
        colour.ask(colour.client(up, case.kind), BY_NAME["chat"], **plain.more)
    assert (up.calls, cache.stats.hits) == (1, 1)


# -- what goes wrong ------------------------------------------------------------------------------

FAULTS: dict[str, Options] = {
    "refused": {"status": 401, "body": f'{{"error": "wrong key sk-{MARK}"}}'.encode()},
    "an error with status 200": {"body": f'{{"error": "wrong key sk-{MARK}"}}'.encode()},
    "no JSON": {"body": f"wrong key sk-{MARK}".encode()},
    "dropped": {"drop": True},
    "cut off": {"cut_after": 2},
    "an error in the stream": {"error_after": 2},
}


@pytest.mark.parametrize("shape", ["chat", "chat-stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_call_leaves_no_secret_behind(
    fault: str,
    shape: str,
    colour: Colour,
    up: Upstream,
    store: Store,
    dump: Dump,
    told: Callable[[], str],
) -> None:
    client = colour.client(
        up, api_key=f"sk-{MARK}", organization=MARK, default_headers=HEADERS, max_retries=0
    )
    up.behave(headers=ANSWERED, **FAULTS[fault])
    with Cache(store):
        with contextlib.suppress(openai.OpenAIError, ValueError, transport_error()):
            colour.ask(client, BY_NAME[shape], extra_query=QUERY)
        held = dump() | opened(store)
    assert up.calls == 1
    assert leaks(held | {"log and warnings": told().encode()}) == []


def test_the_warning_of_a_damaged_entry_tells_no_secret(
    case: Case, client: Any, colour: Colour, up: Upstream, store: Store, told: Callable[[], str]
) -> None:
    with Cache(store):
        colour.ask(client, BY_NAME["chat"], **case.more)
        (key,) = store.keys()
        store.set(key, b"damaged")
        colour.ask(client, BY_NAME["chat"], **case.more)
    assert "cannot be read" in told()
    assert leaks({"log and warnings": told().encode()}, case.arrives) == []


def test_the_warning_of_a_request_without_a_key_tells_no_secret(
    colour: Colour, up: Upstream, store: Store, told: Callable[[], str]
) -> None:
    client = colour.client(up, api_key=f"sk-{MARK}", default_headers=HEADERS)
    with Cache(store):
        asked = {"extra_headers": HEADERS, "extra_query": QUERY, "extra_body": {"seed": {1, 2}}}
        with pytest.raises(TypeError):
            colour.ask(client, BY_NAME["chat"], **asked)
    assert "not cached" in told()
    assert leaks({"log and warnings": told().encode()}) == []


URLS = {
    "password": "redis://me:s3cr3t-url@127.0.0.1:1/0",
    "query": "redis://127.0.0.1:1/0?password=s3cr3t-url",
    "TLS": "rediss://:s3cr3t-url@127.0.0.1:1/0",
}


@pytest.mark.stores("redis")
@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_a_store_that_is_down_tells_nothing_of_its_url(url: str, told: Callable[[], str]) -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return "answer"

    cache = Cache.from_url(url)
    with cache:
        complete("hi")
    with pytest.raises(CachewrapError) as caught:
        cache.clear()
    errors = f"{caught.value!r} {caught.value.__cause__!r} {cache!r} {cache.url}"
    assert "went on without the cache" in told()
    assert leaks({"log and warnings": told().encode(), "errors": errors.encode()}) == []


def test_the_search_finds_a_secret_that_is_there(store: Store, dump: Dump) -> None:
    with Cache(store) as cache:
        cache.set("key", f"{MARK} " * 1000)
        assert leaks(opened(store))
        cache.set("key", MARK)
        assert leaks(dump())


def test_a_disk_store_writes_nowhere_but_in_its_folder(tmp_path: Path) -> None:
    with Cache.disk(1, tmp_path / "cache") as cache:
        cache.set("key", "value")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_warnings_are_the_ones_that_are_searched(store: Store, told: Callable[[], str]) -> None:
    warnings.warn("a marked warning", CacheWarning, stacklevel=1)
    logging.getLogger("cachewrap").debug("a marked line")
    assert "a marked warning" in told() and "a marked line" in told()
