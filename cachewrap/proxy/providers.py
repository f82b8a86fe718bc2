"""Providers that the proxy reaches: the way from a request to one, and from a library to it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from cachewrap.errors import ConfigurationError, printable
from cachewrap.patterns import later
from cachewrap.proxy.known import PROVIDERS, Provider
from cachewrap.proxy.messages import PORTS, Origin

_CALLS: Final = frozenset(
    "audio batches chat complete completions embeddings files fim fine_tuning images messages"
    " models moderations ocr rerank responses videos".split()
)
"""What a path below the version begins with."""

_AZURE: Final = later(r"/([a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?)(/openai(?:/.*)?)", re.I)
_REGION: Final = r"[a-z]{2,20}(?:-[a-z]{2,20}[0-9]{1,2})?"
_VERTEX: Final = later(rf"(?:/({_REGION}))?(/v[0-9]+[a-z0-9]*(?:/.*)?)")
_LOCATION: Final = later(rf"/v[0-9]+[a-z0-9]*/projects/[^/]+/locations/({_REGION})(?:/.*)?")

# -- the way to one ----------------------------------------------------------------------------

_RESERVED: Final = frozenset({"healthz", "metrics"})
_NAME: Final = later(r"[a-z0-9][a-z0-9_.-]*")
_VERSION: Final = later(r"v[0-9][a-z0-9]*")
_LONGEST: Final = 40
_HOST: Final = later(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|[0-9a-f:.]*:[0-9a-f:.]*")

# What needs no second look: neither encoded nor with parameters, and no part begins with a dot.
_PLAIN: Final = later(r"(?:/[\w~:@!$&'()*+,=-][\w~:@!$&'()*+,=.-]*)+/?", re.A)
_SHOWN: Final = later(r"[!-\"$-~]+")
_BROKEN: Final = later(r"%(?![0-9a-fA-F]{2})")
_ENCODED: Final = later(r"%[0-9a-fA-F]{2}")
_CONTROL: Final = later(r"[\x00-\x1f\x7f-\x9f]")
# Some servers cut parameters and blanks off a part before they look at it.
_DOTS: Final = later(r"(?<![^/])[ .]*(?:;[^/]*)?(?![^/])")


class NoUpstream(Exception):
    """A request that goes to no upstream.

    Args:
        message: why, and what to write.
        status: that tells the client so: 404, or 400 for what is no path.
    """

    def __init__(self, message: str, status: int = 404) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Upstream:
    """A place that requests are sent to.

    Args:
        name: the first part of the paths that lead there.
        origin: where it is.
        prefix: what its paths begin with, without a slash at the end.
        shape: of its errors.
    """

    name: str
    origin: Origin
    prefix: str
    shape: str


@dataclass(frozen=True, slots=True)
class Found:
    """An upstream, and what of a request's target is meant for it.

    Args:
        upstream: where to.
        target: path and query as they are sent.
        url: all of it, as the patch of httpx sees the same request.
        path: the path in that URL.
    """

    upstream: Upstream
    target: str
    url: str
    path: str


class Upstreams:
    """The upstreams that can be reached, and no others.

    Args:
        given: further ones, as ``NAME=URL``, or in place of known ones.

    Raises `ConfigurationError` for what names none.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._given: dict[str, Upstream] = {}
        for text in given:
            upstream = _parse(text)
            if upstream.name in self._given:
                raise ConfigurationError(f"the upstream {upstream.name} is given twice")
            self._given[upstream.name] = upstream
        self._known = {
            name: _upstream(name, provider.base, provider.shape)
            for name, provider in PROVIDERS.items()
            if "{" not in provider.base
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The first parts of paths that lead somewhere: those that are given, and the known."""
        return (*self._given, *(name for name in PROVIDERS if name not in self._given))

    def find(self, target: str) -> Found:
        """The upstream of a request, and what is sent to it.

        What is behind the name is sent as it is, or not at all. Refused is what a server might read
        as another path: empty parts and those of dots, also encoded; backslashes, control
        characters and broken or repeated encoding. An encoded slash stays, as it is in the names of
        models, if the same holds for the parts around it.

        Raises `NoUpstream`.
        """
        path, mark, query = target.partition("?")
        name, rest = _split(path, target)
        provider, upstream = PROVIDERS.get(name), self._given.get(name)
        if upstream is not None:
            if provider is not None and not upstream.prefix:
                rest = _versioned(provider, rest)
            if version := _ends_in_version(upstream.prefix):
                rest = _once(version, rest)
        elif provider is None:
            raise NoUpstream(self._unknown(name))
        elif name in _PLACED:
            upstream, rest = _PLACED[name](provider, rest)
        else:
            upstream, rest = self._known[name], _versioned(provider, rest)
            if rest in provider.moved:
                base, rest = provider.moved[rest]
                upstream = _upstream(name, base, provider.shape)
        if upstream.shape == "ollama" and rest.startswith("/v1/"):
            # There it speaks as OpenAI does.
            upstream = replace(upstream, shape="openai")
        sent = f"{upstream.prefix}{rest}"
        origin = upstream.origin
        shown = quote(sent, safe=_PATH)
        url = f"{origin.scheme}://{origin.authority}{shown}{mark}{quote(query, safe=_QUERY)}"
        return Found(upstream, f"{sent}{mark}{query}", url, shown)

    @property
    def places(self) -> dict[str, str]:
        """Where the names lead to, as URLs."""
        return {
            name: f"{found.origin.scheme}://{found.origin.authority}{found.prefix}"
            if (found := self._given.get(name)) is not None
            else PROVIDERS[name].base
            for name in self.names
        }

    def _unknown(self, name: str) -> str:
        names, meant = self.names, ""
        if name in _CALLS or _VERSION.fullmatch(name):
            meant = " (the base URL names the provider first, as in http://HOST:PORT/openai/v1)"
        elif near := get_close_matches(name[:_LONGEST], names, 1, 0.75):
            meant = f" (did you mean {near[0]}?)"
        return (
            f"no upstream is named {printable(name, _LONGEST)!r}{meant}: a path begins with one of "
            f"{', '.join(names)}, as in /openai/v1/chat/completions; another one is added "
            "with --upstream NAME=URL"
        )


# As httpx shows a URL: what it encodes is not among these.
_PATH: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"#<>?`{}')
_QUERY: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"#<>')


def _upstream(name: str, url: str, shape: str) -> Upstream:
    """The upstream of a URL that is known to be one."""
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    origin = Origin(parts.scheme, parts.hostname or "", port)
    return Upstream(name, origin, parts.path.rstrip("/"), shape)


def _parse(text: str) -> Upstream:
    """The upstream that a user names. Raises `ConfigurationError`."""
    name, mark, url = text.partition("=")
    name, url = name.strip().lower(), url.strip()
    if not mark or "://" in name:
        shown = printable(re.sub(r"[^/@]*@", "…@", text), 80)  # what may be a password
        raise ConfigurationError(
            f"an upstream is named like local=http://127.0.0.1:8000, got {shown!r}"
        )
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the name of an upstream has letters, digits, -, _ and . alone, got"
            f" {printable(name, 40)!r}"
        )
    if name in _RESERVED:
        raise ConfigurationError(
            f"/{name} is a page of the proxy's own: name the upstream otherwise"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").lower()
    except ValueError as error:  # without the URL, which may hold a password
        raise ConfigurationError(f"the URL of the upstream {name} is none: {error}") from None
    wrong = ""
    if "@" in parts.netloc:
        wrong = "has no user and password: clients send their own"
    elif parts.scheme not in ("http", "https"):
        wrong = "begins with http:// or https://"
    elif not _HOST.fullmatch(host) or port == 0:
        wrong = "names a host, and a port if need be, in ASCII"
    elif parts.query or parts.fragment or url.endswith(("?", "#")):
        wrong = "has no query and no fragment"
    elif reason := _trick(parts.path):
        wrong = f"has a plain path: this one has {reason}"
    if wrong:
        raise ConfigurationError(
            f"the URL of the upstream {name} {wrong}, as in {name}=http://host:8000"
        )
    provider = PROVIDERS.get(name)
    return _upstream(name, url, provider.shape if provider is not None else "openai")


def _versioned(provider: Provider, path: str) -> str:
    """The path of a call, with the version that its base URL may have been without, or have too."""
    version = provider.version
    if not version:
        return path
    if path.startswith(f"{version}{version}/"):
        return path.removeprefix(version)
    return f"{version}{path}" if path.split("/", 2)[1] in _CALLS else path


def _ends_in_version(prefix: str) -> str:
    """The version at the end of an upstream's URL, with its slash; "" where there is none."""
    last = prefix.rpartition("/")[2]
    return f"/{last}" if _VERSION.fullmatch(last) else ""


def _once(version: str, path: str) -> str:
    """The path of a call, without the version that the upstream's URL has already."""
    return path.removeprefix(version) if path.startswith(f"{version}/") else path


def _azure(provider: Provider, path: str) -> tuple[Upstream, str]:
    found = _AZURE.fullmatch(path)
    if found is None:
        raise NoUpstream(
            "Azure is asked as /azure/RESOURCE/openai/…, for https://RESOURCE.openai.azure.com; "
            "another place is named with --upstream azure=URL"
        )
    url = provider.base.replace("{resource}", found[1].lower())
    return _upstream(provider.name, url, provider.shape), found[2]


def _vertex(provider: Provider, path: str) -> tuple[Upstream, str]:
    found = _VERTEX.fullmatch(path)
    if found is None:
        raise NoUpstream(
            "Vertex AI is asked as /vertex/v1/projects/PROJECT/locations/REGION/… or"
            " /vertex/REGION/v1/…; another place is named with --upstream vertex=URL"
        )
    located = _LOCATION.fullmatch(found[2])
    region = found[1] or (located[1] if located else "global")
    # As anthropic and google-genai choose it.
    if region == "global":
        url = "https://aiplatform.googleapis.com"
    elif "-" not in region:
        url = f"https://aiplatform.{region}.rep.googleapis.com"
    else:
        url = provider.base.replace("{region}", region)
    return _upstream(provider.name, url, provider.shape), found[2]


_PLACED: Final = {"azure": _azure, "vertex": _vertex}
"""Those whose place is in the path."""


def _split(path: str, target: str) -> tuple[str, str]:
    """The name in a path, in lower case, and what is behind it, from its slash on."""
    if not path.startswith("/"):
        raise NoUpstream(
            "the target of a request is a path, as in /openai/v1/chat/completions: this is no proxy"
            " for whole URLs",
            400,
        )
    if not _SHOWN.fullmatch(target):
        raise NoUpstream("a path is of printable ASCII without #: the rest is to be encoded", 400)
    if not _PLAIN.fullmatch(path) and (reason := _trick(path)):
        raise NoUpstream(f"the path has {reason}", 400)
    name, slash, rest = path[1:].partition("/")
    if not _NAME.fullmatch(name.lower()):
        raise NoUpstream("a path begins with a name, as /openai/v1/chat/completions does", 400)
    return name.lower(), f"{slash}{rest}" or "/"


def _trick(path: str) -> str:
    """What a server might read as another path; "" where there is nothing of that kind."""
    if not path.isascii() or not path.isprintable() or "\\" in path or " " in path:
        return "what is to be encoded"
    if "//" in path:
        return "two slashes in a row: a base URL has none at its end"
    if _BROKEN.search(path):
        return "a broken encoding"
    try:
        # Strictly: some servers take what is longer than it need be for a dot, too.
        plain = unquote(path.removesuffix("/"), errors="strict")
    except UnicodeDecodeError:
        return "a broken encoding"
    if _ENCODED.search(plain):
        return "what is encoded twice"
    if "\\" in plain or _CONTROL.search(plain):
        return "an encoded backslash or control character"
    if not plain.isascii() and _ambiguous(plain):
        return "an encoded letter that some take for a dot or a slash"
    return "a part of dots, or an empty one" if _DOTS.search(plain[1:]) and plain else ""


def _ambiguous(text: str) -> bool:
    common = unicodedata.normalize("NFKC", text)
    return any(common.count(mark) != text.count(mark) for mark in "./\\%;")


# -- the environment ----------------------------------------------------------------------------

_OWN_HOSTS: Final = {
    "together": frozenset({"api.together.ai", "api.together.xyz"}),
    "cohere": frozenset({"api.cohere.com", "api.cohere.ai"}),
}
"""The hosts that are the provider's own, where it has more than one."""


def base_urls(
    root: str,
    token: str = "",
    environ: Mapping[str, str] | None = None,
    given: Iterable[str] = (),
) -> dict[str, str]:
    """The variables that lead libraries to a proxy, and their values.

    One that leads elsewhere already, and is no upstream by `upstreams_of`, is left as it is.

    Args:
        root: the proxy's address, without a slash at the end.
        token: what clients must know; it becomes the first part of the paths.
        environ: the variables that are there.
        given: upstreams that the user names.
    """
    environ, given = environ or {}, tuple(given)
    base = f"{root}/{quote(token, safe='')}" if token else root
    named = {_parse(text).name for text in given}
    kept = _kept(environ, named)
    found = {}
    for provider, variable, behind in _variables():
        name, value = provider.name, environ.get(variable, "").strip()
        if name == "openai" and _uses_azure(environ):
            # Clients for Azure read this one too, and refuse to have both.
            continue
        if name == "azure" and name not in named:
            if place := _of_azure(value):
                found[variable] = f"{base}/azure/{place}"
        elif name in named or not value or _is_own(provider, variable, value):
            if name not in kept:
                found[variable] = f"{base}/{name}{behind}"
        elif kept.get(name) == _url_in(variable, value):
            found[variable] = f"{base}/{name}"
    return found


def upstreams_of(environ: Mapping[str, str], given: Iterable[str] = ()) -> tuple[str, ...]:
    """The upstreams that a user names, and those to which his variables lead already.

    So who asks a gateway of his own by ``OPENAI_BASE_URL`` goes on asking it, by the proxy.
    """
    given = tuple(given)
    kept = _kept(environ, {_parse(text).name for text in given})
    return (*given, *(f"{name}={url}" for name, url in kept.items()))


def _kept(environ: Mapping[str, str], named: set[str]) -> dict[str, str]:
    """The places, by provider, to which variables lead that are none of the provider's own."""
    kept: dict[str, str] = {}
    for provider, variable, _ in _variables():
        value = environ.get(variable, "").strip()
        name = provider.name
        if not value or name in named or name in kept or name in _PLACED:
            continue
        if name == "openai" and _uses_azure(environ):
            continue
        if _is_own(provider, variable, value):
            continue
        url = _url_in(variable, value)
        try:
            _parse(f"{name}={url}")
        except ConfigurationError:
            continue
        kept[name] = url
    return kept


def _variables() -> Iterator[tuple[Provider, str, str]]:
    for provider in PROVIDERS.values():
        for variable, behind in provider.variables.items():
            yield provider, variable, behind


def _uses_azure(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"))


def _of_azure(value: str) -> str:
    """The resource and path of an address of Azure OpenAI; "" for any other."""
    found = re.fullmatch(r"https://([a-z0-9-]+)\.openai\.azure\.com(?::443)?(/.*)?", value, re.I)
    return f"{found[1].lower()}{(found[2] or '').rstrip('/')}" if found else ""


def _url_in(variable: str, value: str) -> str:
    """The URL in a variable; Ollama's may be a host alone."""
    if variable == "OLLAMA_HOST" and "://" not in value:
        host, colon, port = value.rstrip("/").rpartition(":")
        host, port = (host, port) if colon and port.isdigit() else (value.rstrip("/"), "11434")
        value = f"http://{host or '127.0.0.1'}:{port}"
    return value.rstrip("/").replace("//0.0.0.0:", "//127.0.0.1:")


def _is_own(provider: Provider, variable: str, value: str) -> bool:
    """Whether an address is the provider's own."""
    try:
        parts = urlsplit(_url_in(variable, value))
        own = urlsplit(provider.base)
        if provider.name == "ollama":
            local = parts.hostname in ("127.0.0.1", "localhost")
            return local and (parts.scheme, parts.port) == (own.scheme, own.port)
        host = parts.hostname or ""
        return host == own.hostname or host in _OWN_HOSTS.get(provider.name, ())
    except ValueError:
        return False
