"""The way to an origin: directly or through a proxy of the environment, and whom TLS trusts."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import import_module
from ipaddress import ip_address, ip_network
from itertools import zip_longest
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import h11

from cachewrap.proxy.messages import PORTS, Origin, UpstreamError

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)

_EYEBALLS_SECONDS: Final = 0.25
_SHUTDOWN_SECONDS: Final = 2.0
_UNREAD_BYTES: Final = 256 * 1024
_KEPT_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy between us and upstreams.

    Args:
        variable: of the environment, that names it.
        origin: its place.
        authorization: what it is to know; ``b""`` for nothing.
    """

    variable: str
    origin: Origin
    authorization: bytes = field(default=b"", repr=False)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What is told to it alone."""
        return [(b"Proxy-Authorization", self.authorization)] if self.authorization else []

    def refused(self, origin: Origin, status: int) -> UpstreamError:
        """What it means that it does not lead to an origin."""
        name = f"The proxy {self.origin.authority} of {self.variable}"
        if status == 407:
            told = (
                "wants other credentials (status 407): give them as http://NAME:PASSWORD@HOST:PORT"
            )
            return UpstreamError(f"{name} {told}")
        told = f"status {status}" if status else "what is not HTTP/1.1"
        return UpstreamError(f"{name} does not lead to {origin.authority}: it answered {told}")


class Dialer:
    """Connections to origins, each within a time.

    Args:
        seconds: for the name, the connection, the proxy and TLS together.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._proxy = lru_cache(maxsize=256)(self._choose)

    @cached_property
    def _proxies(self) -> dict[str, str]:
        return urllib.request.getproxies()

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        context = trust()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def forwarder(self, origin: Origin) -> Proxy | None:
        """The proxy that is given an origin's requests, with whole URLs. Raises `UpstreamError`."""
        return self._proxy(origin) if origin.scheme == "http" else None

    async def dial(self, origin: Origin, build: Callable[[], _Protocol]) -> _Protocol:
        """A protocol with a connection on which the origin is spoken to.

        Raises `UpstreamError`.
        """
        proxy = None if origin.scheme == "unix" else self._proxy(origin)
        place = origin.authority
        if proxy:
            place = f"{place} (through the proxy {proxy.origin.authority} of {proxy.variable})"
        try:
            async with asyncio.timeout(self._seconds):
                if proxy and origin.scheme == "https":
                    return await self._through(proxy, origin, build)
                return await self._connect(proxy.origin if proxy else origin, build)
        except (OSError, ValueError) as error:
            raise self._explained(place, error) from None

    async def _connect(self, origin: Origin, build: Callable[[], _Protocol]) -> _Protocol:
        options: dict[str, Any] = {}
        if origin.scheme == "https":
            options = {
                "ssl": self._trust,
                "server_hostname": origin.host,
                "ssl_shutdown_timeout": _SHUTDOWN_SECONDS,
            }
        loop = asyncio.get_running_loop()
        if origin.scheme == "unix":
            _, protocol = await loop.create_unix_connection(build, origin.host)
            return protocol
        place = await reach(origin.host, origin.port)
        _keep_alive(place)
        try:
            _, protocol = await loop.create_connection(build, sock=place, **options)
        except ValueError:
            place.close()
            raise
        return protocol

    async def _through(
        self, proxy: Proxy, origin: Origin, build: Callable[[], _Protocol]
    ) -> _Protocol:
        tunnel = await self._connect(proxy.origin, _Tunnel)
        try:
            await tunnel.open(proxy, origin)
            transport = await asyncio.get_running_loop().start_tls(
                tunnel.transport,
                tunnel,
                self._trust,
                server_hostname=origin.host,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
            if transport is None or transport.is_closing():
                raise ConnectionResetError
        except BaseException:
            tunnel.transport.abort()
            raise
        protocol = build()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return protocol

    def _explained(self, place: str, error: OSError | ValueError) -> UpstreamError:
        if isinstance(error, TimeoutError):
            told = f"{place} could not be reached within {self._seconds:g} seconds"
            return UpstreamError(told, status=504)
        if isinstance(error, socket.gaierror):
            return UpstreamError(f"{place} cannot be found: {error.strerror}")
        if isinstance(error, ssl.SSLCertVerificationError):
            return UpstreamError(
                f"{place} has a certificate that is not trusted: {error.verify_message}."
                " SSL_CERT_FILE names a file of the authorities that are"
            )
        if isinstance(error, ssl.SSLError):
            return UpstreamError(f"{place} speaks no TLS that we know: {error.reason or 'broken'}")
        if isinstance(error, ConnectionRefusedError):
            return UpstreamError(f"{place} refused the connection")
        if isinstance(error, ConnectionError):
            return UpstreamError(f"{place} broke the connection before it was asked")
        reason = error.strerror if isinstance(error, OSError) else "that is no name of a host"
        return UpstreamError(f"{place} cannot be reached: {reason or error}")

    def _choose(self, origin: Origin) -> Proxy | None:
        scheme = origin.scheme if self._proxies.get(origin.scheme) else "all"
        url = self._proxies.get(scheme)
        if not url or _is_loopback(origin.host) or self._is_excepted(origin):
            return None
        return read_proxy(url, _variable(scheme))

    def _is_excepted(self, origin: Origin) -> bool:
        if is_excepted(origin, self._proxies.get("no", "")):
            return True
        of_system = not urllib.request.getproxies_environment()
        return of_system and bool(urllib.request.proxy_bypass(origin.host))


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy, until that has one to the origin."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._h11 = h11.Connection(h11.CLIENT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    async def open(self, proxy: Proxy, origin: Origin) -> None:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        target = f"{host}:{origin.port}"
        headers = [(b"Host", target.encode()), *proxy.headers()]
        data = self._h11.send(h11.Request(method="CONNECT", target=target, headers=headers))
        data += self._h11.send(h11.EndOfMessage())
        self.transport.write(data)
        status = await self._opened
        if status < 0:
            raise ConnectionResetError
        if not 200 <= status < 300:
            raise proxy.refused(origin, status)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_result(-1)

    def data_received(self, data: bytes) -> None:
        if self._opened.done():
            return
        self._h11.receive_data(data)
        try:
            while (event := self._h11.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    is_early = event.status_code < 300 and self._h11.trailing_data[0]
                    self._opened.set_result(0 if is_early else event.status_code)
                    return
        except h11.RemoteProtocolError:
            self._opened.set_result(0)


def trust() -> ssl.SSLContext:
    """Whom we trust: those that the environment names, else those of the system.

    As HTTPX has it, and curl and Requests for what is only theirs. Raises `UpstreamError`.
    """
    environ = os.environ
    named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)]
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if environ.get(name) and not named:
            named = [name]
    if not named:
        context = ssl.create_default_context()
        if _has_none(context):
            with suppress(ImportError):
                context.load_verify_locations(import_module("certifi").where())
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in named:
        place = environ[name]
        try:
            if os.path.isdir(place):
                context.load_verify_locations(capath=place)
            else:
                context.load_verify_locations(cafile=place)
        except OSError:
            told = f"{name} names no certificates that can be read: {place}"
            raise UpstreamError(told) from None
    return context


def _has_none(context: ssl.SSLContext) -> bool:
    """Whether the system has no authorities: those in a folder are read when they are needed."""
    folder = ssl.get_default_verify_paths().capath
    return not context.cert_store_stats()["x509_ca"] and not (folder and os.listdir(folder))


def read_proxy(url: str, variable: str) -> Proxy:
    """The proxy that a variable of the environment names. Raises `UpstreamError`."""
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    scheme = parts.scheme.lower()
    if scheme.startswith("socks"):
        raise UpstreamError(
            f"{variable} names a SOCKS proxy, which is not supported:"
            " name one of http:// or https://, or except the host by NO_PROXY"
        )
    if not host or scheme not in PORTS:
        raise UpstreamError(f"{variable} names no proxy: write it as http://HOST:PORT")
    authorization = b""
    if parts.username is not None or parts.password is not None:
        pair = unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or "")
        authorization = b"Basic " + b64encode(b":".join(pair))
    place = Origin(scheme, host, port or PORTS[scheme])
    return Proxy(variable=variable, origin=place, authorization=authorization)


def is_excepted(origin: Origin, excepted: str) -> bool:
    """Whether ``NO_PROXY`` names an origin: a host, a domain, an address, a network, each
    with a port or without, or ``*``.
    """
    host = origin.host.lower().rstrip(".")
    for entry in excepted.lower().replace(" ", ",").split(","):
        name = entry.strip().removeprefix("*.").removeprefix(".")
        if entry == "*":
            return True
        if not name:
            continue
        if _is_in_network(host, name):
            return True
        place, colon, port = name.rpartition(":")
        if colon and port.isdigit() and not (":" in place and not place.startswith("[")):
            if int(port) != origin.port:
                continue
            name = place
        name = name.strip("[]").rstrip(".")
        if host == name or host.endswith(f".{name}"):
            return True
    return False


def _is_in_network(host: str, network: str) -> bool:
    with suppress(ValueError):
        return ip_address(host) in ip_network(network, strict=False)
    return False


def _is_loopback(host: str) -> bool:
    """Whether it is this machine, of which no proxy elsewhere knows."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _variable(scheme: str) -> str:
    """The variable that names the proxy of a scheme, as it is written in the environment."""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), names[1])


async def reach(host: str, port: int) -> socket.socket:
    """A socket that is connected to the first address of a host that answers: RFC 8305.

    The event loop's own way leaves sockets open where it is cancelled.
    """
    waits: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        addresses = await _addresses(host, port)
        while addresses or waits:
            if addresses:
                waits.add(asyncio.create_task(_connected(*addresses.pop(0))))
            seconds = _EYEBALLS_SECONDS if addresses else None
            done, _ = await asyncio.wait(
                waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    waits.discard(task)
                    return task.result()
                errors.append(error)
            waits -= done
        raise errors[0] if errors else OSError(f"{host} has no address")
    finally:
        for task in waits:
            task.cancel()
            task.add_done_callback(_close)


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """The addresses of a host, those of either kind in turn."""
    with suppress(ValueError):
        if ip_address(host).version == 4:
            return [(socket.AF_INET, (host, port))]
        return [(socket.AF_INET6, (host, port, 0, 0))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first = [(family, place) for family, _, _, _, place in found if family == found[0][0]]
    others = [(family, place) for family, _, _, _, place in found if family != found[0][0]]
    return [each for pair in zip_longest(first, others) for each in pair if each]


async def _connected(family: int, address: Any) -> socket.socket:
    # The protocol is named: the loop sends without delay on sockets of TCP alone.
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        place.setblocking(False)
        await asyncio.get_running_loop().sock_connect(place, address)
    except BaseException:
        place.close()
        raise
    return place


def _close(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and not task.exception():
        task.result().close()


def _keep_alive(place: socket.socket) -> None:
    """Let the system notice a peer that has vanished, while an answer is waited for."""
    with suppress(OSError):
        place.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEPT_ALIVE.items():
            if hasattr(socket, name):
                place.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_readable(transport: asyncio.Transport) -> bool:
    """Whether something came that the event loop has not read yet."""
    place = transport.get_extra_info("socket")
    if place is None or place.fileno() < 0:
        return False
    if sys.platform == "win32" or not hasattr(select, "poll"):
        return bool(select.select([place], [], [], 0)[0])
    poll = select.poll()
    poll.register(place, select.POLLIN)
    return bool(poll.poll(0))


def unread(transport: asyncio.Transport) -> bytes:
    """What came before a write failed, which the event loop leaves behind.

    So an upstream that refuses a body and closes the connection is heard. TLS keeps it for itself.
    """
    place = transport.get_extra_info("socket")
    if transport.get_extra_info("sslcontext") or place is None:
        return b""
    with suppress(OSError), place.dup() as twin:
        twin.setblocking(False)
        return bytes(twin.recv(_UNREAD_BYTES))
    return b""
