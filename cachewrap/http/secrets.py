"""Credentials and names of accounts: never hashed, never stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit

_LAST: Final = (
    "key|token|auth|authorization|bearer|secret|password|passwd|passphrase|pwd|sig|cookie|apikey"
    "|assertion|dpop|otp"
)
_CREDENTIAL: Final = re.compile(
    rf"(^|[-_.])({_LAST})$"  # x-api-key, helicone-auth, x-amz-security-token, ?sig=
    r"|(^|[-_.])(set-cookie2?|credentials?|secret|password|jwt|signature|hmac)([-_.]|$)"
    r"|(api|app|auth|access|bearer|client|csrf|private|refresh|secret|session)(key|token)$"
    r"|authorization|authenticat|api[-_]?key|access[-_]?token|client[-_]cert|access[-_]?key"
    r"|^code$"  # of an Azure function
    r"|^x-amzn-oidc-|^x-ms-client-principal",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"\s*(bearer|basic|digest|negotiate)\s", re.IGNORECASE)
_ACCOUNT: Final = frozenset(
    {
        "anthropic-organization-id",
        "anthropic-workspace-id",
        "openai-organization",
        "openai-project",
    }
)
# What gateways take in the body, to call a provider with the caller's own account.
_BODY: Final = re.compile(
    r"(?:.*_)?api_?key|(?:.*_)?(?:access|auth|ad|session|credit)_token|aws_access_key_id"
    r"|(?:.*_)?(?:secret|password|credentials|secret_access_key)",
    re.IGNORECASE,
)
_KEEPS: Final = frozenset({"type", "managed_identity_resource_id"})


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether a header or query parameter of this name carries a credential or an account."""
    return name.lower() in _ACCOUNT or _CREDENTIAL.search(name) is not None


def is_secret_value(value: object) -> bool:
    """Whether a header's value is a credential by its scheme, whatever the header is called."""
    return isinstance(value, str) and _SCHEME.match(value) is not None


def without_secrets(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request body without the credentials that some APIs take in it.

    They are a remote MCP tool's ``authorization`` and headers, the ``authorization_token`` of
    Anthropic's MCP servers, user and secret parameters in the address of either, the
    ``authentication`` of Azure's data sources, and parameters like ``api_key`` that a gateway
    takes. The body itself is left as it is.
    """
    found: dict[str, Any] = {}
    if any(map(_is_account, body)):
        body = {name: value for name, value in body.items() if not _is_account(name)}
    tools = body.get("tools")
    if isinstance(tools, (list, tuple)) and any(_is_remote(tool) for tool in tools):
        found["tools"] = [_tool(tool) for tool in tools]
    servers = body.get("mcp_servers")
    if isinstance(servers, (list, tuple)):
        found["mcp_servers"] = [_server(server) for server in servers]
    sources = body.get("data_sources")
    if isinstance(sources, (list, tuple)):
        found["data_sources"] = [_source(source) for source in sources]
    return {**body, **found} if found else body


@lru_cache(maxsize=1024)
def _is_account(name: object) -> bool:
    return isinstance(name, str) and _BODY.fullmatch(name) is not None


def _is_remote(tool: Any) -> bool:
    return isinstance(tool, Mapping) and tool.get("type") == "mcp"


def _tool(tool: Any) -> Any:
    if not _is_remote(tool):
        return tool
    clean = _remote(tool, "server_url", "authorization")
    headers = clean.get("headers")
    if isinstance(headers, Mapping):
        clean["headers"] = {
            name: value
            for name, value in headers.items()
            if not is_secret(str(name)) and not is_secret_value(value)
        }
    return clean


def _server(server: Any) -> Any:
    if not isinstance(server, Mapping):
        return server
    return _remote(server, "url", "authorization_token")


def _remote(server: Mapping[str, Any], address: str, token: str) -> dict[str, Any]:
    return {
        name: _address(value) if name == address else value
        for name, value in server.items()
        if name != token
    }


def _address(url: Any) -> Any:
    """The address without its user, and without the parameters that are credentials."""
    try:
        parts = urlsplit(url)
        query = "&".join(p for p in parts.query.split("&") if not is_secret(_name(p)))
        clean = parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query)
    except (ValueError, TypeError, AttributeError):  # what the API will refuse
        return url
    return url if clean == parts else clean.geturl()


def _name(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0])


def _source(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: {n: v for n, v in inner.items() if n in _KEEPS}
            if name == "authentication" and isinstance(inner, Mapping)
            else _source(inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_source(inner) for inner in value]
    return value
