"""The routes of questions to a model: the hosts that are known, and the paths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Final

_OPENAI: Final = tuple(
    f"*/{path}"
    for path in (
        *("chat/completions", "fim/completions", "completions", "responses", "embeddings"),
        *("moderations", "chat/moderations", "classifications", "chat/classifications", "rerank"),
        *("images/generations", "audio/speech", "ocr", "messages", "messages/count_tokens"),
    )
)
_GOOGLE: Final = tuple(
    f"*/models/*:{method}"
    for method in (
        *("generateContent", "streamGenerateContent", "countTokens", "computeTokens"),
        *("embedContent", "batchEmbedContents", "predict", "rawPredict", "streamRawPredict"),
    )
)
_COHERE: Final = tuple(
    f"/v[12]/{path}"
    for path in (
        *("chat", "generate", "embed", "rerank", "classify", "summarize"),
        *("tokenize", "detokenize"),
    )
)
_OLLAMA: Final = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings")

HOSTS: Final = (
    *("api.openai.com", "*.openai.azure.com", "*.services.ai.azure.com", "api.anthropic.com"),
    *("api.mistral.ai", "api.groq.com", "api.together.ai", "api.together.xyz", "api.deepseek.com"),
    *("openrouter.ai", "api.x.ai", "api.fireworks.ai", "api.perplexity.ai", "api.cerebras.ai"),
    *("generativelanguage.googleapis.com", "*aiplatform.googleapis.com"),
    *("api.cohere.com", "api.cohere.ai", "ollama.com", "*:11434"),
)
"""The hosts of known providers; the last one is Ollama's port, on any host."""

PATHS: Final = (*_OPENAI, *_GOOGLE, *_COHERE, *_OLLAMA)
"""The paths of questions, as the known providers have them."""


class Routes:
    """A match of requests by host and path, where ``*`` stands for any text.

    Args:
        hosts: patterns of ``host`` or ``host:port``; None matches every host.
        paths: patterns of whole paths; None is `PATHS`.
    """

    def __init__(self, hosts: Iterable[str] | None, paths: Iterable[str] | None) -> None:
        self._hosts = None if hosts is None else _any(hosts)
        self._paths = _any(PATHS if paths is None else paths)

    def match(self, host: str, port: int, path: str) -> bool:
        """Whether a request goes to one of the hosts and one of the paths."""
        if self._paths.match(path) is None:
            return False
        hosts = self._hosts
        return hosts is None or bool(hosts.match(host) or hosts.match(f"{host}:{port}"))


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    if isinstance(patterns, str):
        patterns = (patterns,)
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")


def is_stream(path: str, body: object, accept: str) -> bool:
    """Whether the answer to a request will be read piece by piece."""
    if "stream" in path.rpartition("/")[2].lower() or "event-stream" in accept:
        return True
    if not isinstance(body, dict):
        return False
    # Ollama streams unless it is told not to.
    return bool(body.get("stream", path in ("/api/chat", "/api/generate")))
