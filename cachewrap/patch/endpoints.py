"""Which requests may be cached at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_DEPLOYMENT: Final = re.compile(r"^(?:openai/)?deployments/[^/]+/")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint whose answers may be cached.

    Args:
        path: its path below the base URL, without slashes at the ends.
        media: whether it may answer with something else than JSON or events (sound, text).
        status: the values of a JSON answer's ``status`` that may be stored; empty: it has none.
        wire: whether nothing is known of its API but what passes over the wire.
    """

    path: str
    media: bool = False
    status: frozenset[str] = frozenset()
    wire: bool = False

    @property
    def source(self) -> str:
        """How messages and facts name it."""
        return f"POST /{self.path}"


@dataclass(frozen=True, slots=True)
class Bypass:
    """A request that no cache serves: what was called, and why it is left alone."""

    source: str
    reason: str


def classify(
    endpoints: Mapping[str, Endpoint], client: Any, options: Any, body: Any
) -> Endpoint | Bypass:
    """The endpoint of a request that may be cached, else why not.

    Args:
        endpoints: those that may be cached, by path.
        client: the SDK's client.
        options: its request options.
        body: the JSON body as it will be sent.
    """
    method = options.method.upper()
    path = _path(client, options.url)
    endpoint = endpoints.get(path) if method == "POST" else None
    if endpoint is None:
        return Bypass(f"{method} /{path}", "endpoint" if method == "POST" else "method")
    # Only some versions of the SDKs know a body that is not JSON.
    if getattr(options, "content", None) is not None or not isinstance(body, (Mapping, type(None))):
        return Bypass(endpoint.source, "raw body")
    if body and body.get("background"):
        return Bypass(endpoint.source, "background")
    if body and body.get("conversation") is not None:
        return Bypass(endpoint.source, "conversation")
    return endpoint


def _path(client: Any, url: str) -> str:
    path = url.partition("?")[0]
    if "://" in path:
        base = str(client.base_url).partition("?")[0]
        if not path.startswith(base):
            return path
        path = path[len(base) :]
    return _DEPLOYMENT.sub("", path.strip("/"))
