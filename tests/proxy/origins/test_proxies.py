"""Proxies between us and upstreams, as the environment names them."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from cachewrap.proxy.dialing import Dialer, is_excepted, read_proxy
from cachewrap.proxy.messages import Origin, UpstreamError
from cachewrap.proxy.origins import Origins
from cachewrap.proxy.settings import Limits
from proxy.origins.scripts import OK, Talk, Upstream, pieces, playing, run, stream, until

SECURE = Origin("https", "api.test", 443)
OPEN = Origin("http", "api.test", 80)
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy")
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An environment without proxies; sets some."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What an upstream and a proxy need, whose authority is trusted."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.test", "127.0.0.1").configure_cert(context)
    return context


async def answering(talk: Talk) -> None:
    while True:
        await talk.answer()


def leading_to(upstream: Upstream, authorization: str | None = None) -> Any:
    """The script of a proxy that leads to one upstream, whatever is asked."""

    async def script(talk: Talk) -> None:
        seen = await talk.head()
        if seen.value("proxy-authorization") != authorization:
            head = b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
            await talk.send(head)
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.origin.port)
        try:
            await talk.send(OPENED)
            await asyncio.gather(_pass(talk.reader, writer), _pass(reader, talk.writer))
        finally:
            writer.close()

    return script


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(100_000):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def opened(**limits: Any) -> AsyncIterator[Origins]:
    origins = Origins(Limits(**limits))
    try:
        yield origins
    finally:
        await origins.aclose()


@pytest.mark.parametrize("is_secure", [False, True], ids=["http-proxy", "https-proxy"])
@pytest.mark.parametrize("pair", [None, "me:top secret@1"], ids=["open", "credentials"])
def test_tunnel(
    pair: str | None, is_secure: bool, tls: ssl.SSLContext, environment: Callable[..., None]
) -> None:
    authorization = "Basic " + b64encode(pair.encode()).decode() if pair else None

    async def main() -> None:
        async with (
            playing(answering, tls) as upstream,
            playing(leading_to(upstream, authorization), tls if is_secure else None) as proxy,
            opened() as origins,
        ):
            user = "me:top%20secret%401@" if pair else ""
            scheme = proxy.origin.scheme
            environment(HTTPS_PROXY=f"{scheme}://{user}127.0.0.1:{proxy.origin.port}")
            for body in (b"a", stream(b"b" * 100_000), b"c" * 100_000):
                answer = await origins.send(SECURE, "POST", "/a?b", [], body)
                assert await pieces(answer) == [b"ok"]
            (connect,) = proxy.seen
            assert connect.line == "CONNECT api.test:443 HTTP/1.1"
            assert connect.value("host") == "api.test:443"
            for seen in upstream.seen:
                assert seen.line == "POST /a?b HTTP/1.1"
                assert dict(seen.headers)["Host"] == "api.test"
                assert not seen.value("proxy-authorization")

    run(main)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param(
            b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n", "wants other credentials", id="407"
        ),
        pytest.param(b"HTTP/1.1 403 No\r\n\r\n", "answered status 403", id="403"),
        pytest.param(b"HTTP/1.1 302 There\r\nLocation: x\r\n\r\n", "status 302", id="302"),
        pytest.param(b"SSH-2.0\r\n\r\n", r"answered what is not HTTP/1\.1", id="ssh"),
        pytest.param(OPENED + b"early", r"what is not HTTP/1\.1", id="more"),
        pytest.param(b"", "broke the connection", id="closed"),
        pytest.param(b"HTTP/1.1 200", "broke the connection", id="cut"),
        pytest.param(OPENED, "broke the connection before", id="closed-behind"),
    ],
)
def test_tunnel_that_is_none(
    sent: bytes, told: str, tls: ssl.SSLContext, environment: Callable[..., None]
) -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        await talk.send(sent)

    async def main() -> None:
        async with playing(script) as proxy, opened() as origins:
            environment(ALL_PROXY=f"http://me:secret@127.0.0.1:{proxy.origin.port}")
            with pytest.raises(UpstreamError, match=told) as error:
                await origins.send(SECURE, "POST", "/", [], b"a")
            message = str(error.value)
            assert error.value.status == 502
            assert "ALL_PROXY" in message
            assert "api.test" in message or "407" in message
            assert f"127.0.0.1:{proxy.origin.port}" in message
            assert "secret" not in message

    run(main)


def test_tunnel_that_takes_too_long(tls: ssl.SSLContext, environment: Callable[..., None]) -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        assert await talk.is_left()

    async def main() -> None:
        async with playing(script) as proxy, opened(connect_seconds=0.1) as origins:
            environment(https_proxy=f"127.0.0.1:{proxy.origin.port}")
            with pytest.raises(UpstreamError, match=r"within 0\.1 seconds") as error:
                await origins.send(SECURE, "GET", "/", [], None)
            assert error.value.status == 504

    run(main)


@pytest.mark.parametrize("wait", [0.0, 0.002, 0.01, 0.02])
def test_tunnel_that_is_cancelled(
    wait: float, tls: ssl.SSLContext, environment: Callable[..., None]
) -> None:
    is_left = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.reader.read()
        is_left.set()

    async def main() -> None:
        async with playing(script) as proxy, opened() as origins:
            environment(https_proxy=f"http://127.0.0.1:{proxy.origin.port}")
            task = asyncio.ensure_future(origins.send(SECURE, "GET", "/", [], None))
            await asyncio.sleep(wait)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await until(lambda: not proxy.talks or is_left.is_set())

    run(main)


def test_upstream_behind_a_tunnel_is_verified(
    authority: trustme.CA, tls: ssl.SSLContext, environment: Callable[..., None]
) -> None:
    other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.test").configure_cert(other)

    async def main() -> None:
        async with (
            playing(answering, other) as upstream,
            playing(leading_to(upstream)) as proxy,
            opened() as origins,
        ):
            environment(https_proxy=f"http://127.0.0.1:{proxy.origin.port}")
            with pytest.raises(UpstreamError, match=r"not valid for 'api\.test'"):
                await origins.send(SECURE, "GET", "/", [], None)

    run(main)


@pytest.mark.parametrize("pair", ["", "me:secret"], ids=["open", "credentials"])
def test_http_goes_to_the_proxy_as_it_is(pair: str, environment: Callable[..., None]) -> None:
    async def main() -> None:
        async with playing(answering) as proxy, opened() as origins:
            user = f"{pair}@" if pair else ""
            environment(http_proxy=f"http://{user}127.0.0.1:{proxy.origin.port}/")
            for target in ("/a?b", "/a?b", "*"):
                answer = await origins.send(OPEN, "OPTIONS", target, [(b"a", b"b")], None)
                assert await pieces(answer) == [b"ok"]
            assert len(proxy.talks) == 1
            assert [seen.line for seen in proxy.seen] == [
                "OPTIONS http://api.test/a?b HTTP/1.1",
                "OPTIONS http://api.test/a?b HTTP/1.1",
                "OPTIONS http://api.test HTTP/1.1",
            ]
            for seen in proxy.seen:
                assert seen.value("host") == "api.test"
                told = seen.value("proxy-authorization")
                assert told == ("Basic bWU6c2VjcmV0" if pair else None)

    run(main)


def test_proxy_of_http_that_wants_credentials(environment: Callable[..., None]) -> None:
    async def main() -> None:
        async with playing(lambda talk: talk.answer(OK.replace(b"200", b"407"))) as proxy:
            environment(http_proxy=f"http://me:secret@127.0.0.1:{proxy.origin.port}")
            async with opened() as origins:
                with pytest.raises(UpstreamError, match="wants other credentials") as error:
                    await origins.send(OPEN, "GET", "/", [], None)
                assert "secret" not in str(error.value)

    run(main)


def test_proxy_that_cannot_be_reached(environment: Callable[..., None]) -> None:
    environment(http_proxy="http://me:secret@127.0.0.1:9")

    async def main() -> None:
        async with opened() as origins:
            with pytest.raises(UpstreamError) as error:
                await origins.send(OPEN, "GET", "/", [], None)
            assert str(error.value) == (
                "api.test (through the proxy 127.0.0.1:9 of http_proxy) refused the connection"
            )

    run(main)


@pytest.mark.parametrize(
    ("variables", "origin", "expected"),
    [
        pytest.param({}, SECURE, None, id="nothing"),
        pytest.param({"https_proxy": "http://p:1"}, SECURE, ("https_proxy", "p", 1), id="lower"),
        pytest.param({"HTTPS_PROXY": "http://p:1"}, SECURE, ("HTTPS_PROXY", "p", 1), id="upper"),
        pytest.param({"ALL_PROXY": "p:1"}, SECURE, ("ALL_PROXY", "p", 1), id="all"),
        pytest.param({"http_proxy": "p"}, OPEN, ("http_proxy", "p", 80), id="bare"),
        pytest.param({"http_proxy": "https://p"}, OPEN, ("http_proxy", "p", 443), id="secure"),
        pytest.param({"http_proxy": "[::1]:3"}, OPEN, ("http_proxy", "::1", 3), id="ipv6"),
        pytest.param({"http_proxy": "p:1"}, SECURE, None, id="of-the-other-scheme"),
        pytest.param({"https_proxy": "p:1"}, OPEN, None, id="of-that-scheme"),
        pytest.param(
            {"https_proxy": "p:1", "all_proxy": "q:1"}, SECURE, ("https_proxy", "p", 1), id="before"
        ),
        pytest.param(
            {"https_proxy": "", "ALL_PROXY": "p:1"}, SECURE, ("ALL_PROXY", "p", 1), id="e"
        ),
        pytest.param({"https_proxy": "p:1", "no_proxy": "api.test"}, SECURE, None, id="excepted"),
        pytest.param({"ALL_PROXY": "p:1", "NO_PROXY": "*"}, SECURE, None, id="none"),
    ],
)
def test_choice_of_a_proxy(
    variables: dict[str, str],
    origin: Origin,
    expected: tuple[str, str, int] | None,
    environment: Callable[..., None],
) -> None:
    environment(**variables)
    found = Dialer(1.0)._proxy(origin)
    told = found and (found.variable, found.origin.host, found.origin.port)
    assert told == expected


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST", "a.localhost", "localhost."]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_this_machine_is_asked_directly(
    scheme: str, host: str, environment: Callable[..., None]
) -> None:
    environment(ALL_PROXY="http://p:1", HTTP_PROXY="http://p:1", HTTPS_PROXY="http://p:1")
    assert Dialer(1.0)._proxy(Origin(scheme, host, 1)) is None


def test_environment_is_read_once(environment: Callable[..., None]) -> None:
    dialer = Dialer(1.0)
    assert dialer._proxy(SECURE) is None
    environment(https_proxy="http://p:1")
    assert dialer._proxy(Origin("https", "b.test", 443)) is None


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("socks5://me:secret@p:1", "names a SOCKS proxy", id="socks5"),
        pytest.param("socks5h://p:1", "names a SOCKS proxy", id="socks5h"),
        pytest.param("SOCKS4://p:1", "names a SOCKS proxy", id="socks4"),
        pytest.param("ftp://me:secret@p:1", "names no proxy", id="ftp"),
        pytest.param("http://me:secret@p:port", "names no proxy", id="no-port"),
        pytest.param("http://me:secret@p:99999", "names no proxy", id="large-port"),
        pytest.param("http://me:secret@", "names no proxy", id="no-host"),
        pytest.param("http://[secret", "names no proxy", id="no-address"),
        pytest.param("://", "names no proxy", id="nothing"),
    ],
)
def test_proxy_that_is_none(url: str, told: str, environment: Callable[..., None]) -> None:
    environment(HTTPS_PROXY=url)

    async def main() -> None:
        async with opened() as origins:
            with pytest.raises(UpstreamError, match=f"HTTPS_PROXY {told}") as error:
                await origins.send(SECURE, "GET", "/", [], None)
            assert "secret" not in str(error.value)

    run(main)


@pytest.mark.parametrize(
    ("userinfo", "expected"),
    [
        pytest.param("a:b", b"a:b", id="both"),
        pytest.param("a", b"a:", id="name"),
        pytest.param(":b", b":b", id="password"),
        pytest.param("a%3a:b%40%25", b"a::b@%", id="quoted"),
        pytest.param("a:b:c", b"a:b:c", id="colons"),
        pytest.param("caf%C3%A9:%FF", "café:".encode() + b"\xff", id="bytes"),
    ],
)
def test_credentials_of_a_proxy(userinfo: str, expected: bytes) -> None:
    proxy = read_proxy(f"http://{userinfo}@p:1", "http_proxy")
    assert proxy.headers() == [(b"Proxy-Authorization", b"Basic " + b64encode(expected))]
    assert b64encode(expected).decode() not in repr(proxy)


@pytest.mark.parametrize(
    ("excepted", "host", "port", "expected"),
    [
        pytest.param("", "a.test", 80, False, id="nothing"),
        pytest.param("*", "a.test", 80, True, id="all"),
        pytest.param("a.test", "a.test", 80, True, id="host"),
        pytest.param("A.Test", "a.tEST", 80, True, id="case"),
        pytest.param("a.test", "b.a.test", 80, True, id="below"),
        pytest.param(".a.test", "b.a.test", 80, True, id="dot-below"),
        pytest.param(".a.test", "a.test", 80, True, id="dot-itself"),
        pytest.param("*.a.test", "b.a.test", 80, True, id="star-below"),
        pytest.param("a.test", "ba.test", 80, False, id="end-of-a-name"),
        pytest.param("b.a.test", "a.test", 80, False, id="above"),
        pytest.param("x, a.test ,y", "a.test", 80, True, id="list"),
        pytest.param("x a.test", "a.test", 80, True, id="blanks"),
        pytest.param(",,", "a.test", 80, False, id="commas"),
        pytest.param("a.test.", "a.test", 80, True, id="dot-behind"),
        pytest.param("a.test", "a.test.", 80, True, id="dot-behind-the-host"),
        pytest.param("a.test:80", "a.test", 80, True, id="port"),
        pytest.param("a.test:81", "a.test", 80, False, id="other-port"),
        pytest.param("10.1.2.3", "10.1.2.3", 80, True, id="address"),
        pytest.param("10.1.2.3", "110.1.2.3", 80, False, id="other-address"),
        pytest.param("10.0.0.0/8", "10.1.2.3", 80, True, id="network"),
        pytest.param("10.1.2.3/8", "10.9.9.9", 80, True, id="network-with-host"),
        pytest.param("10.0.0.0/8", "11.1.2.3", 80, False, id="other-network"),
        pytest.param("10.0.0.0/8", "a.test", 80, False, id="network-and-name"),
        pytest.param("10.1.2.3:80", "10.1.2.3", 80, True, id="address-with-port"),
        pytest.param("10.1.2.3:81", "10.1.2.3", 80, False, id="address-with-other-port"),
        pytest.param("fd00::1", "fd00::1", 80, True, id="ipv6"),
        pytest.param("[fd00::1]", "fd00::1", 80, True, id="ipv6-in-brackets"),
        pytest.param("[fd00::1]:80", "fd00::1", 80, True, id="ipv6-with-port"),
        pytest.param("[fd00::1]:81", "fd00::1", 80, False, id="ipv6-with-other-port"),
        pytest.param("fd00::/8", "fd12::1", 80, True, id="ipv6-network"),
        pytest.param("fd00::2", "fd00::1", 80, False, id="other-ipv6"),
    ],
)
def test_no_proxy(excepted: str, host: str, port: int, expected: bool) -> None:
    assert is_excepted(Origin("http", host, port), excepted) is expected
