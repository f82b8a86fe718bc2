"""TLS to upstreams: whom we trust, and what is said of others."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from cachewrap.proxy.dialing import trust
from cachewrap.proxy.messages import Origin, UpstreamError
from proxy.origins.scripts import CHUNKED, OK, Asking, Talk, asking, pieces, run, stream

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def file(authority: trustme.CA, tmp_path: Path) -> Path:
    """A file with the authority."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


def served(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """What a server of these names needs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no authorities."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def answering(talk: Talk) -> None:
    while True:
        await talk.answer()


@pytest.mark.parametrize("variable", [name for name in VARIABLES if name != "SSL_CERT_DIR"])
def test_authority_of_the_environment(
    variable: str, authority: trustme.CA, file: Path, alone: pytest.MonkeyPatch
) -> None:
    alone.setenv(variable, str(file))

    async def main() -> None:
        async with asking(answering, served(authority, LOCAL)) as client:
            assert await client.read("POST", body=b"a" * 300_000) == b"ok"
            assert await client.read("POST", body=stream(b"a", b"b" * 100_000)) == b"ok"
            (talk,) = client.upstream.talks
            (connection,) = client.origins.connections
            for transport in (talk.writer.transport, connection.transport):
                found = transport.get_extra_info("ssl_object")
                assert found.selected_alpn_protocol() == "http/1.1"

    run(main)


def test_first_one_that_is_named_counts(
    authority: trustme.CA, file: Path, alone: pytest.MonkeyPatch
) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))
    alone.setenv("REQUESTS_CA_BUNDLE", str(file.parent / "missing"))
    assert len(trust().get_ca_certs()) == 1


def test_folder_of_authorities(tmp_path: Path, alone: pytest.MonkeyPatch) -> None:
    alone.setenv("SSL_CERT_DIR", str(tmp_path))
    context = trust()
    assert context.get_ca_certs() == []
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_those_of_the_system(alone: pytest.MonkeyPatch) -> None:
    context = trust()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_those_of_certifi_where_the_system_has_none(
    tmp_path: Path, alone: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("certifi")
    none = ssl.DefaultVerifyPaths(None, str(tmp_path), "", "", "", "")  # type: ignore[call-arg]
    alone.setattr(ssl, "get_default_verify_paths", lambda: none)
    alone.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)
    assert trust().cert_store_stats()["x509_ca"] > 100


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "nothing"], ids=["missing", "broken"])
def test_file_that_is_none(
    variable: str, content: str | None, tmp_path: Path, alone: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "any.pem"
    if content:
        file.write_text(content)
    alone.setenv(variable, str(file))

    async def main() -> None:
        async with asking(answering) as client:
            client.upstream.origin = Origin("https", LOCAL, client.upstream.origin.port)
            with pytest.raises(UpstreamError, match=f"{variable} names no certificates"):
                await client.send()

    run(main)


@pytest.mark.parametrize(
    ("names", "is_known", "told"),
    [
        pytest.param(["other.test"], True, "not valid for '127.0.0.1'", id="other-name"),
        pytest.param([LOCAL], False, "unable to get local issuer", id="unknown-authority"),
    ],
)
def test_certificate_that_is_not_trusted(
    names: list[str],
    is_known: bool,
    told: str,
    authority: trustme.CA,
    file: Path,
    alone: pytest.MonkeyPatch,
) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))
    issuer = authority if is_known else trustme.CA()

    async def main() -> None:
        async with asking(answering, served(issuer, *names)) as client:
            with pytest.raises(UpstreamError, match=told) as error:
                await client.send("GET", "/", [(b"Authorization", b"secret")])
            assert error.value.status == 502
            assert "SSL_CERT_FILE" in str(error.value)
            assert client.upstream.seen == []

    run(main)


def test_upstream_without_tls(file: Path, alone: pytest.MonkeyPatch) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))

    async def script(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async def main() -> None:
        async with asking(script) as client:
            client.upstream.origin = Origin("https", LOCAL, client.upstream.origin.port)
            with pytest.raises(UpstreamError, match="speaks no TLS"):
                await client.send()

    run(main)


def test_upstream_that_closes_instead(file: Path, alone: pytest.MonkeyPatch) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))

    async def script(talk: Talk) -> None:
        await talk.reader.read(10)

    async def main() -> None:
        async with asking(script) as client:
            client.upstream.origin = Origin("https", LOCAL, client.upstream.origin.port)
            with pytest.raises(UpstreamError, match="broke the connection before"):
                await client.send()

    run(main)


async def _over_tls(client: Asking) -> bytes | str:
    try:
        return b"".join(await pieces(await client.send()))
    except UpstreamError as error:
        return str(error).removeprefix(client.upstream.origin.authority).strip()


CUT = "closed the connection before its answer was whole"


@pytest.mark.parametrize("is_polite", [True, False], ids=["told", "cut"])
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(OK, b"ok", id="length"),
        pytest.param(OK[:-1], CUT, id="cut-length"),
        pytest.param(CHUNKED + b"1\r\na\r\n", CUT, id="cut-chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end", id="to-the-end"),
        pytest.param(b"", "closed the connection without an answer", id="nothing"),
    ],
)
def test_end_of_a_connection(
    sent: bytes,
    expected: bytes | str,
    is_polite: bool,
    authority: trustme.CA,
    file: Path,
    alone: pytest.MonkeyPatch,
) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))

    async def script(talk: Talk) -> None:
        await talk.answer(sent)
        await asyncio.sleep(0.01)
        if not is_polite:
            # As many do: without the alert that says that this is the end.
            talk.writer.transport.abort()

    async def main() -> None:
        async with asking(script, served(authority, LOCAL)) as client:
            assert await _over_tls(client) == expected

    run(main)


def test_much_over_tls_waits_for_its_reader(
    authority: trustme.CA, file: Path, alone: pytest.MonkeyPatch
) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))
    sent = 0

    async def script(talk: Talk) -> None:
        nonlocal sent
        await talk.answer(CHUNKED)
        while sent < 40_000_000:
            await talk.send(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            sent += 65536
        await talk.send(b"0\r\n\r\n")

    async def main() -> None:
        async with asking(script, served(authority, LOCAL)) as client:
            answer = await client.send()
            last = -1
            while sent != last:
                last = sent
                await asyncio.sleep(0.2)
            assert last < 16_000_000
            assert sum(map(len, await pieces(answer))) == sent

    run(main)


def test_cancelled_handshake(authority: trustme.CA, file: Path, alone: pytest.MonkeyPatch) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))

    async def main() -> None:
        async with asking(answering, served(authority, LOCAL)) as client:
            for wait in (0.0, 0.001, 0.002, 0.004, 0.008):
                task = asyncio.ensure_future(client.read())
                await asyncio.sleep(wait)
                task.cancel()
                await asyncio.wait([task])
            assert await client.read() == b"ok"

    run(main)


def test_name_that_is_asked_for(
    authority: trustme.CA, file: Path, alone: pytest.MonkeyPatch
) -> None:
    alone.setenv("SSL_CERT_FILE", str(file))
    asked: list[str | None] = []
    context = served(authority, "localhost")
    context.sni_callback = lambda _, name, __: asked.append(name)

    async def main() -> None:
        async with asking(answering, context) as client:
            client.upstream.origin = replace(client.upstream.origin, host="localhost")
            assert await client.read() == b"ok"
            assert asked == ["localhost"]

    run(main)
