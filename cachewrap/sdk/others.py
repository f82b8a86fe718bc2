"""The patch of any SDK of the Stainless family, and of all that are known."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.http.aiohttp import AIOHTTP
from cachewrap.http.dspy import DSPY
from cachewrap.http.exchange import Endpoint, When
from cachewrap.http.httpx import HTTPX
from cachewrap.http.patcher import Handle
from cachewrap.http.requests import REQUESTS
from cachewrap.policy import Same
from cachewrap.sdk.anthropic import ANTHROPIC
from cachewrap.sdk.openai import ENDPOINTS, OPENAI
from cachewrap.sdk.patcher import Patch, Patcher, Sdk
from cachewrap.systems import files

_CREATE: Final = ("create",)
_GENERATE: Final = ("generate",)

_METHODS: Final[Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]]] = {
    "groq": {
        "groq.resources.chat.completions": {"Completions": _CREATE},
        "groq.resources.embeddings": {"Embeddings": _CREATE},
        "groq.resources.audio.speech": {"Speech": _CREATE},
        "groq.resources.audio.transcriptions": {"Transcriptions": _CREATE},
        "groq.resources.audio.translations": {"Translations": _CREATE},
    },
    "together": {
        "together.resources.chat.completions": {"CompletionsResource": _CREATE},
        "together.resources.completions": {"CompletionsResource": _CREATE},
        "together.resources.embeddings": {"EmbeddingsResource": _CREATE},
        "together.resources.images": {"ImagesResource": _GENERATE},
        "together.resources.rerank": {"RerankResource": _CREATE},
        "together.resources.audio.speech": {"SpeechResource": _CREATE},
        "together.resources.audio.transcriptions": {"TranscriptionsResource": _CREATE},
        "together.resources.audio.translations": {"TranslationsResource": _CREATE},
    },
}
"""For each SDK the methods that take ``cache=`` and ``cache_seed=``, see `Sdk`."""

_SOCKETS: Final = {"together": ("together.lib.realtime._connection",)}

_ALIKE: Final = (
    *ENDPOINTS,
    Endpoint("messages"),
    Endpoint("messages/count_tokens"),
    Endpoint("rerank"),
)
# Some SDKs have the API's version in their base URL, others in each path.
_PREFIXES: Final = ("", "v1/", "openai/v1/")

_BY_NAME: Final = {"openai": OPENAI, "anthropic": ANTHROPIC}
_HTTP_PATCHERS: Final = (HTTPX, REQUESTS, AIOHTTP, DSPY)

_lock = threading.Lock()
_patchers: Final[dict[str, Patcher]] = {**_BY_NAME}
_endpoints: Final[dict[str, dict[str, Endpoint]]] = {}


def _patcher(package: str) -> Patcher:
    with _lock:
        if package not in _patchers:
            alike = [replace(e, path=prefix + e.path) for e in _ALIKE for prefix in _PREFIXES]
            endpoints = _endpoints[package] = {endpoint.path: endpoint for endpoint in alike}
            _patchers[package] = Patcher(
                Sdk(
                    name=package,
                    client_module=f"{package}._base_client",
                    endpoints=endpoints,
                    methods=_METHODS.get(package, {}),
                    sockets=_SOCKETS.get(package, ()),
                    front=package in _METHODS,
                )
            )
        return _patchers[package]


def patch(
    package: str,
    cache: Cache | None = None,
    *,
    paths: Iterable[str] = (),
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> Patch:
    """Make an SDK cacheable that is built like OpenAI's: of the family that Stainless generates.

    Its calls to endpoints that have an OpenAI-like or Anthropic-like path are cached: chat,
    completions, responses, messages, embeddings, reranking, moderations, pictures and sound.
    An SDK that is known by name (openai, anthropic, groq, together) also takes ``cache=`` and
    ``cache_seed=`` with each call.

    Args:
        package: the SDK's top-level package, such as ``"cerebras.cloud.sdk"``. It is not imported.
        cache: serves the calls outside any block. Without it they are not cached.
        paths: further paths below the base URL whose POST requests may be cached; for this package
            they stay so.
        when: takes what a call returned and says whether to store it, see `patch_openai`.
        split: whether lists are served element by element, see `patch_openai`.
        same: rules of equality for these calls, see `patch_openai`.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block; see `patch_openai`.

    Raises `ConfigurationError` for a package that is not installed or not of the family.
    """
    if package not in _BY_NAME:
        _check(package)
    patcher = _patcher(package)
    more = [path.strip("/") for path in paths]
    if more and package not in _endpoints:
        raise ConfigurationError(f"paths= has no use for {package}: all of its paths are known")
    _endpoints.get(package, {}).update({path: Endpoint(path) for path in more})
    return patcher.patch(cache, when, split=split, same=same, carry=threads)


def _check(package: str) -> None:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise ConfigurationError(f"no package {package!r} is installed")
    folders = spec.submodule_search_locations or ()
    if not any(files.is_file(os.path.join(folder, "_base_client.py")) for folder in folders):
        raise ConfigurationError(
            f"{package!r} is not of the family that `patch` knows: it has no module "
            f"{package}._base_client; an SDK that speaks plain httpx is served by `patch_httpx`"
        )


def unpatch(package: str) -> None:
    """Undo every `patch` of the package. Without one it does nothing."""
    if package in _patchers:
        _patchers[package].undo()


def patch_groq(
    cache: Cache | None = None,
    *,
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> Patch:
    """Make the Groq SDK cacheable, as `patch_openai` does for OpenAI's."""
    return patch("groq", cache, when=when, split=split, same=same, threads=threads)


def unpatch_groq() -> None:
    """Undo every `patch_groq`. Without one it does nothing."""
    unpatch("groq")


def patch_together(
    cache: Cache | None = None,
    *,
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> Patch:
    """Make the Together SDK cacheable, from version 2 on, as `patch_openai` does for OpenAI's."""
    return patch("together", cache, when=when, split=split, same=same, threads=threads)


def unpatch_together() -> None:
    """Undo every `patch_together`. Without one it does nothing."""
    unpatch("together")


class Patches(Handle):
    """One application of several patches; use it as a block, or call `undo`."""

    def __init__(self, patches: Iterable[Handle]) -> None:
        self._patches = tuple(patches)
        self.cache = self._patches[0].cache if self._patches else None

    @property
    def active(self) -> bool:
        """Whether any of them still holds."""
        return any(patch.active for patch in self._patches)

    @property
    def libraries(self) -> tuple[str, ...]:
        return tuple(name for patch in self._patches for name in patch.libraries)

    def undo(self) -> None:
        for patch in self._patches:
            patch.undo()


def patch_all(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] = (),
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> Patches:
    """Make cacheable all that is known: the SDKs of openai, anthropic, groq and together, and what
    speaks plain httpx, requests or aiohttp, or DSPy's engine, to known hosts: those of providers,
    and servers for models of one's own on loopback and private addresses (see `patch_httpx`).

    What is imported is patched now, anything else when it is imported, and what is not installed
    costs nothing.

    Args:
        cache: serves the calls outside any block. Without it they are not cached.
        hosts: patterns of further hosts, beside the known ones and those in ``CACHEWRAP_HOSTS``.
        when: takes what a call returned and says whether to store it, see `patch_openai` and
            `patch_httpx`.
        split: whether lists are served element by element, see `patch_openai`.
        same: rules of equality for these calls, see `patch_openai`.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block.

    Raises `ConfigurationError` if an imported SDK lacks what is to be wrapped, or a pattern names
    no host, and patches none. An aiohttp without middlewares is left out with a `CacheWarning`.
    """
    hosts = (hosts,) if isinstance(hosts, str) else tuple(hosts)
    patches: list[Handle] = []
    try:
        for package in (*_BY_NAME, *_METHODS):
            patches.append(
                _patcher(package).patch(cache, when, split=split, same=same, carry=threads)
            )
        for http in _HTTP_PATCHERS:
            patch = http.patch(
                cache,
                when,
                None,
                None,
                more_hosts=hosts,
                split=split,
                same=same,
                carry=threads,
                strict=False,
            )
            patches.append(patch)
    except BaseException:
        Patches(patches).undo()
        raise
    return Patches(patches)


def unpatch_all() -> None:
    """Undo every patch of every SDK and of plain HTTP, whoever applied it."""
    for patcher in list(_patchers.values()):
        patcher.undo()
    for http in _HTTP_PATCHERS:
        http.undo()
