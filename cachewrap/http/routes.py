"""The routes of questions to a model: the hosts that are known, and the paths."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache
from ipaddress import ip_address, ip_network
from posixpath import normpath
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from cachewrap.errors import ConfigurationError
from cachewrap.patterns import later

VARIABLE: Final = "CACHEWRAP_HOSTS"
"""Patterns of further hosts of models, with commas between them."""

Body: TypeAlias = Callable[[], object]
"""Gives the JSON of a request. Raises `ValueError` or `RuntimeError` where there is none."""

# -- hosts -------------------------------------------------------------------------------------

HOSTS: Final = (
    *("api.openai.com", "*.openai.azure.com", "*.services.ai.azure.com", "api.anthropic.com"),
    *("api.mistral.ai", "codestral.mistral.ai", "api.groq.com", "api.deepseek.com"),
    *("api.together.ai", "api.together.xyz", "api-inference.together.ai"),
    *("openrouter.ai", "api.x.ai", "api.fireworks.ai", "api.perplexity.ai", "api.cerebras.ai"),
    *("generativelanguage.googleapis.com", "*aiplatform.googleapis.com"),
    "aiplatform.*.rep.googleapis.com",
    *("api.cohere.com", "api.cohere.ai", "api.ai21.com", "inference.baseten.co"),
    *("dashscope-intl.aliyuncs.com", "dashscope.aliyuncs.com", "api.deepinfra.com"),
    *("api.featherless.ai", "api.friendli.ai", "models.github.ai", "router.huggingface.co"),
    *("api.hyperbolic.xyz", "api.jina.ai", "api.llama.com", "api.minimax.io", "api.moonshot.ai"),
    *("api.studio.nebius.ai", "api.novita.ai", "integrate.api.nvidia.com", "api.sambanova.ai"),
    *("api.scaleway.ai", "ai-gateway.vercel.sh", "ark.cn-beijing.volces.com", "api.voyageai.com"),
    *("api.inference.wandb.ai", "api.z.ai", "ollama.com", "*:11434"),
)
"""The hosts of known providers; the last one is Ollama's port, on any host."""

_PRIVATE: Final = tuple(
    map(
        ip_network,
        (
            *("127.0.0.0/8", "::1/128"),  # the machine itself
            *("0.0.0.0/32", "::/128"),  # it as well, where a server says that it listens on all
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
            "100.64.0.0/10",  # RFC 6598, which Tailscale gives out
            *("169.254.0.0/16", "fe80::/10"),  # of one link
            "fc00::/7",  # RFC 4193
        ),
    )
)
# What the resolver, RFC 6761, Docker and Podman call the machine itself.
_ITSELF: Final = later(r"(.+\.)?(localhost|docker\.internal)|host\.containers\.internal")


@lru_cache(maxsize=256)
def is_private(host: str) -> bool:
    """Whether a host is this machine, has a private address, or a name without a dot.

    Names without a dot are those of Docker Compose and of local networks. Any other name, such as
    ``model.internal``, may be anybody's: it is for its owner to say that a model is there.
    """
    host = host.rstrip(".").lower()
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return bool(host) and ("." not in host or _ITSELF.fullmatch(host) is not None)
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in _PRIVATE)


_NO_HOST: Final = later(r"[/,@\s]")


def patterns_of(hosts: Iterable[str]) -> tuple[str, ...]:
    """Patterns of hosts, as they are compared.

    Raises `ConfigurationError` for one that no host can be like.
    """
    found = []
    for given in (hosts,) if isinstance(hosts, str) else hosts:
        pattern = given.strip().lower()
        if not pattern or _NO_HOST.search(pattern):
            shown = re.sub(r"[^/@]*@", "…@", given)  # what may be a password
            raise ConfigurationError(
                "a host is named like model.internal, model.internal:8000 or *.internal, without "
                f"scheme, user and path: got {shown!r}"
            )
        if pattern.startswith("["):  # of IPv6: a bracket is no set of letters here
            pattern = pattern[1:-1] if pattern.endswith("]") else f"[[]{pattern[1:]}"
        found.append(pattern)
    return tuple(found)


def hosts_of_environment() -> tuple[str, ...]:
    """The patterns in ``CACHEWRAP_HOSTS``. Raises `ConfigurationError` for what is none."""
    found = tuple(os.environ.get(VARIABLE, "").replace(",", " ").split())
    try:
        patterns_of(found)
    except ConfigurationError as error:
        raise ConfigurationError(f"{VARIABLE}: {error}") from None
    return found


def name_of(host: str, port: int) -> str:
    """A host and its port, as a pattern that matches them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- paths -------------------------------------------------------------------------------------

# No other API has these: the path alone tells that a model is asked.
_PLAIN: Final = (
    *("*/chat/completions", "*/fim/completions"),
    *(
        f"*/models/*:{method}"
        for method in (
            *("generateContent", "streamGenerateContent", "countTokens", "computeTokens"),
            *("embedContent", "batchEmbedContents"),
        )
    ),
)
_OPENAI: Final = tuple(
    f"*/{path}"
    for path in (
        *("completions", "responses", "responses/input_tokens", "embeddings", "moderations"),
        "chat/moderations",
        *("classifications", "chat/classifications", "rerank", "images/generations"),
        *("audio/speech", "ocr", "messages", "messages/count_tokens"),
    )
)
_GOOGLE: Final = tuple(
    f"*/models/*:{method}" for method in ("predict", "rawPredict", "streamRawPredict")
)
_COHERE: Final = tuple(
    f"/v[12]/{path}"
    for path in (
        *("chat", "generate", "embed", "rerank", "classify", "summarize"),
        *("tokenize", "detokenize"),
    )
)
_OLLAMA: Final = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings")

PATHS: Final = (*_PLAIN, *_OPENAI, *_GOOGLE, *_COHERE, *_OLLAMA)
"""The paths of questions, as the known providers have them."""

_SELF_HOSTED: Final = (
    *("*/completion", "*/infill", "*/embedding", "*/reranking"),  # llama.cpp
    *("*/score", "*/pooling", "*/classify", "*/tokenize", "*/detokenize"),  # vLLM
    *("*/generate", "*/generate_stream", "*/embed"),  # TGI and TEI, SGLang
    "/api/v1/chat",  # LM Studio
)
"""Further ones of servers for models of one's own, whose bodies are looked at on every host."""

_UPLOADS: Final = (
    *("*/audio/transcriptions", "*/audio/translations", "*/images/edits", "*/images/variations"),
)
"""Those of questions with files. Plain HTTP has them as a body that no library gives twice."""

_NEVER_STORED: Final = (
    *_UPLOADS,
    *(
        f"*/{path}"
        for path in (
            *("batches", "messages/batches", "batch/jobs", "videos", "responses/compact"),
            *("conversations", "fine_tuning/jobs", "evals/*/runs"),
            *("vector_stores/*/search", "threads/runs", "threads/*/runs"),
        )
    ),
    *(
        f"*/models/*:{method}"
        for method in ("predictLongRunning", "batchGenerateContent", "asyncBatchEmbedContent")
    ),
)
"""Those that make a model of a known provider work, and whose answers plain HTTP never stores."""

_KEPT: Final = ("*/threads/*/messages",)
"""Those of them with which known providers only keep data."""

_TELLING: Final[dict[str, tuple[frozenset[str], ...]]] = {
    path: tuple(frozenset(one.split()) for one in told)
    for path, told in {
        "completions": ("model", "prompt"),
        "completion": ("model", "prompt"),
        "infill": ("model", "input_prefix", "input_suffix"),
        "embeddings": ("model", "input"),
        "embedding": ("model", "content"),
        "embed": ("model", "inputs"),
        "rerank": ("model", "query texts"),
        "generate": ("model", "inputs parameters", "sampling_params"),
        "generate_stream": ("model", "inputs"),
        "messages": ("model messages",),
        "score": ("model text_1", "model data_1", "model queries"),
    }.items()
}
"""The members of which one, or a pair, tells that a request of this path asks a model."""

_MODEL: Final = (frozenset({"model"}),)


class Routes:
    """A match of requests by host and path, where ``*`` stands for any text.

    Args:
        hosts: patterns of ``host`` or ``host:port``; None matches every host.
        paths: patterns of whole paths; None is `PATHS`, and those of servers of one's own.
        private: whether private hosts match too, where a request tells that it asks a model.

    Raises `ConfigurationError` for a pattern that no host can be like.
    """

    def __init__(
        self, hosts: Iterable[str] | None, paths: Iterable[str] | None, *, private: bool = False
    ) -> None:
        self._hosts = None if hosts is None else _any(patterns_of(hosts))
        self._paths = _any(PATHS if paths is None else _bare(paths))
        self._own = _any(_SELF_HOSTED if paths is None else ())
        self._files = _any(_UPLOADS if paths is None else ())
        self._never = _any(_NEVER_STORED if paths is None and hosts is not None else ())
        self._kept = _any(_KEPT if paths is None else ())
        self._private = private

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Routes) and self._said() == other._said()

    def __hash__(self) -> int:
        return hash(self._said())

    def _said(self) -> tuple[object, ...]:
        return self._hosts, self._paths, self._own, self._private

    def match(self, host: str, port: int, path: str, body: Body) -> bool:
        """Whether a request goes to one of the hosts and one of the paths.

        On a host that nobody has named, a path that other APIs have as well needs a body that tells
        that a model is asked.
        """
        is_path = self._paths.match(path) is not None and not self._kept.match(path)
        if not is_path and self._own.match(path) is None:
            return False
        if self._named(host, port):
            return is_path or asks_model(path, body)
        return self._private and is_private(host) and asks_model(path, body)

    def takes_files(self, host: str, port: int, path: str) -> bool:
        """Whether a request to such a path, on one of the hosts, asks with files."""
        return self._files.match(path) is not None and self._named(host, port)

    def has_path(self, path: str) -> bool:
        """Whether a path is one of those, on whatever host."""
        return bool(self._paths.match(path) or self._own.match(path))

    def is_never_stored(self, host: str, port: int, path: str) -> bool:
        """Whether one of the hosts makes a model work for this path, but for no stored answer."""
        return self._never.match(path) is not None and self._named(host, port)

    def _named(self, host: str, port: int) -> bool:
        hosts, host = self._hosts, host.rstrip(".")
        return hosts is None or bool(hosts.match(host) or hosts.match(name_of(host, port)))


def known(paths: Iterable[str] | None, hosts: Iterable[str] = ()) -> Routes:
    """The routes to the known providers, to private hosts, and to what the environment names.

    Args:
        paths: as of `Routes`.
        hosts: patterns of further ones.
    """
    hosts = (hosts,) if isinstance(hosts, str) else hosts
    return Routes((*HOSTS, *hosts_of_environment(), *hosts), paths, private=True)


def asks_model(path: str, body: Body) -> bool:
    """Whether a request to such a path asks a model, whoever has the host."""
    if _plain.match(path):
        return True
    try:
        asked = body()
    except (ValueError, RuntimeError):
        return False
    told = _TELLING.get(path.rpartition("/")[2], _MODEL)
    return isinstance(asked, dict) and any(one <= asked.keys() for one in told)


def is_stream(path: str, body: object, accept: str) -> bool:
    """Whether the answer to a request will be read piece by piece."""
    if "stream" in path.rpartition("/")[2].lower() or "event-stream" in accept.lower():
        return True
    if not isinstance(body, dict):
        return False
    # Ollama streams unless it is told not to.
    return bool(body.get("stream", path in ("/api/chat", "/api/generate")))


def _bare(paths: Iterable[str]) -> list[str]:
    """Patterns of paths as a `Wire` has paths: without a slash at the end."""
    return [path.rstrip("/") for path in ((paths,) if isinstance(paths, str) else paths)]


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(_translated, patterns)) or r"(?!)")


_translated: Final = lru_cache(maxsize=1024)(translate)


_plain: Final = _any(_PLAIN)


# -- what asks no model --------------------------------------------------------------------------

# Some SDKs have the API's version in their base URL, others in each path.
_PREFIX: Final = later(r"(?:upload/|openai/|api/)?(?:v\d+\w*/)?")

_KEEPS: Final = later(
    r"(?:files|uploads|conversations|containers|assistants|skills|vaults|memory_stores"
    r"|user_profiles|organizations?|projects|webhook_endpoints|audio/voice_consents)(?:/.*)?"
    r"|threads(?:/(?!runs\b)[^/]+(?:/messages(?:/[^/]+)?)?)?"
    r"|chat/completions/[^/]+"
    r"|.+/(?:cancel|archive|pause|stop|hangup|reject)"
)
"""The paths of the POST requests that only keep data, change it, or end something."""


def reaches_model(method: str, url: str) -> bool:
    """Whether a request of an SDK makes a model work, as far as its method and path tell.

    What is not known to keep data alone may well ask a model: a batch, a search among vectors.

    Args:
        method: the HTTP method.
        url: the whole address, or its path below the base URL.
    """
    if method.upper() != "POST":
        return False
    path = normpath(f"/{unquote(urlsplit(url).path).strip('/')}")[1:]  # where `..` leads
    below = path[match.end() :] if (match := _PREFIX.match(path)) else path
    return _KEEPS.fullmatch(below) is None
