"""The canonical request that is hashed and stored, from an SDK's client and request options."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from cachewrap.errors import UnkeyableError
from cachewrap.http.secrets import is_secret, is_secret_value, without_secrets
from cachewrap.loops import aside, is_watched
from cachewrap.request.canonical import canonical_body, canonical_json

_BLOCK: Final = 1 << 20


def fingerprints(files: Any) -> list[dict[str, str]]:
    """One plain dictionary for each upload, in the order in which they are sent.

    Args:
        files: uploads as an SDK holds them: a mapping or pairs of a field's name and bytes, a
            path, a seekable binary file, or a tuple of name, content, type and headers.

    A file is read from its start, because that is what is sent, and left where it was.
    Raises `UnkeyableError` for content that cannot be read twice.
    """
    pairs: Iterable[Any] = files.items() if isinstance(files, Mapping) else files
    return [_fingerprint(str(field), upload) for field, upload in pairs]


def _fingerprint(field: str, upload: Any) -> dict[str, str]:
    found = {"field": field}
    if isinstance(upload, tuple):
        name, content, *more = upload
        if name is not None:
            found["name"] = str(name)
        if more and more[0] is not None:
            found["type"] = str(more[0])
        if len(more) > 1 and more[1]:
            found["headers"] = "\n".join(sorted(f"{k}: {v}" for k, v in dict(more[1]).items()))
    else:
        content = upload
        name = upload if isinstance(upload, os.PathLike) else getattr(upload, "name", None)
        if name is not None:
            found["name"] = Path(os.fsdecode(name) if not isinstance(name, int) else str(name)).name
    read = partial(_hash, field, content)
    found["sha256"] = aside(read) if is_watched() else read()
    return found


def _hash(field: str, content: Any) -> str:
    if isinstance(content, str):
        return hashlib.sha256(content.encode()).hexdigest()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return hashlib.sha256(content).hexdigest()
    if isinstance(content, os.PathLike):
        with open(content, "rb") as file:
            return _hash_file(field, file)
    return _hash_file(field, content)


def _hash_file(field: str, file: Any) -> str:
    digest = hashlib.sha256()
    try:
        position = file.tell()
        file.seek(0)
        try:
            while block := file.read(_BLOCK):
                digest.update(block)
        finally:
            file.seek(position)
    except (AttributeError, TypeError, ValueError, io.UnsupportedOperation, OSError) as error:
        raise UnkeyableError(
            f"the upload {field!r} ({type(file).__name__}) cannot be read twice, so it has no key; "
            "pass bytes, a path, or a seekable file opened in binary mode"
        ) from error
    return digest.hexdigest()


RAW_RESPONSE: Final = "x-stainless-raw-response"
"""The header in which the SDKs carry what kind of response the caller wants."""

_MULTIPART: Final = "multipart/form-data"

# They differ from call to call or from program to program, and change no answer.
_IDLE_HEADERS: Final = frozenset(
    # Of HTTP itself: how the answer is sent, RFC 9110 and RFC 9112; when it may be sent again, the
    # IETF's draft of Idempotency-Key.
    """
    accept accept-charset accept-encoding connection content-length date host idempotency-key
    keep-alive te trailer transfer-encoding upgrade user-agent x-idempotency-key
    """.split()
    # What a request was signed at and of, beside its signature: AWS's Signature Version 4.
    + ["x-amz-content-sha256", "x-amz-date"]
    # Numbers of a request, of its trace and of those that belong together: W3C's Trace Context and
    # Baggage, Zipkin's B3, Jaeger, and the documentation of each that bears its maker's name.
    + """
    amz-sdk-invocation-id amz-sdk-request b3 baggage correlation-id elastic-apm-traceparent
    langsmith-trace newrelic request-id sentry-trace traceparent tracestate uber-trace-id
    x-amzn-trace-id x-client-name x-client-request-id x-cloud-trace-context x-correlation-id
    x-goog-api-client x-ms-client-request-id x-newrelic-id x-newrelic-transaction
    x-ot-span-context x-request-id x-span-id x-trace-id
    """.split()
    # inspect_ai numbers its requests with it, to tell retries in its log (its `HttpHooks`).
    + ["x-irid"]
    # Which machine has the conversation in its prompt cache: "Prompt caching" of Fireworks and of
    # Cloudflare's Workers AI.
    + ["x-session-affinity"]
)
_IDLE_PREFIXES: Final = (
    "x-stainless-",  # the SDK, its language and its system
    "x-fern-",
    "x-b3-",
    "x-datadog-",
    "____stainless",
    "x-cachewrap",
)


def canonical_request(
    client: Any,
    options: Any,
    path: str,
    body: Any,
    *,
    stream: bool,
    keyed: Collection[str] = (),
) -> dict[str, Any]:
    """The request as plain JSON-like values, independent of the SDK's objects.

    Args:
        client: the SDK's client.
        options: its request options.
        path: where the request goes, below the client's base URL.
        body: the JSON body as it will be sent, see `merged_body`.
        stream: whether the answer is asked for as a stream.
        keyed: headers and query parameters that are never left out, see `CacheOptions`.

    ``method`` and ``url`` (base and path, without credentials) are always there; ``query``,
    ``headers``, ``body``, ``files`` and ``stream`` where there are any.

    Raises `UnkeyableError` for a body or an upload that has no canonical form.
    """
    url, url_query = split_url(str(client._prepare_url(path)))
    request: dict[str, Any] = {"method": options.method.upper(), "url": url}
    if query := _query(client, options, url_query, keyed):
        request["query"] = query
    if headers := canonical_headers(_layers(client, options), keyed):
        request["headers"] = headers
    if body is not None:
        request["body"] = canonical_body(
            without_secrets(body) if isinstance(body, Mapping) else body
        )
    if options.files:
        request["files"] = fingerprints(options.files)
    if stream:
        request["stream"] = True
    return request


def merged_body(options: Any) -> Any:
    """The JSON body with the caller's ``extra_body`` merged in, as the SDK merges it."""
    body, extra = options.json_data, options.extra_json
    if extra is None:
        return body
    if body is None:
        return extra
    if isinstance(body, Mapping):
        return {**body, **extra}
    raise UnkeyableError(f"extra_body cannot be merged into a body of type {type(body).__name__}")


def header(headers: Any, name: str) -> Any:
    """The value of a header (its name in lower case) in a mapping of any case, or None."""
    if not headers:
        return None
    for given, value in headers.items():
        if given.lower() == name:
            return value
    return None


@lru_cache(maxsize=256)
def split_url(url: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The URL without user, query and fragment, and the pairs of its query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}", tuple(
        parse_qsl(parts.query, keep_blank_values=True)
    )


def _query(
    client: Any, options: Any, url_query: Iterable[tuple[str, str]], keyed: Collection[str]
) -> dict[str, Any]:
    transport = getattr(client._client, "params", None)
    fixed = [*(transport.multi_items() if transport else ()), *url_query]
    query: dict[str, Any] = {}
    for name, value in fixed:
        if name.lower() in keyed or not is_secret(name):
            query.setdefault(name, []).append(value)
    query = {name: values[0] if len(values) == 1 else values for name, values in query.items()}
    for params in (client.default_query, options.params):
        for name, value in (params or {}).items():
            if not is_given(value):
                query.pop(name, None)
            elif name.lower() in keyed or not is_secret(name):
                query[name] = value
    canonical: dict[str, Any] = canonical_json(query) if query else {}
    return canonical


def canonical_headers(
    pairs: Iterable[tuple[str, Any]], keyed: Collection[str] = ()
) -> dict[str, str]:
    """The headers that can change an answer, by lower-case name; later ones win."""
    found: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        if name not in keyed and (is_idle(name) or is_secret(name)):
            continue
        if not is_given(value) or value is None:
            found.pop(name, None)
        elif name == "content-type":
            if value.startswith(_MULTIPART):
                found[name] = _MULTIPART
            elif value.startswith("application/json"):
                found.pop(name, None)
            else:
                found[name] = value
        elif not is_secret_value(value):
            found[name] = str(value)
    return found


@lru_cache(maxsize=1024)
def is_idle(name: str) -> bool:
    """Whether a header of this name (in lower case) is of transport or tracing alone."""
    return name in _IDLE_HEADERS or name.startswith(_IDLE_PREFIXES)


def _layers(client: Any, options: Any) -> Iterable[tuple[str, Any]]:
    transport = getattr(client._client, "headers", None) or {}
    own = options.headers or {}
    return chain(transport.items(), client.default_headers.items(), own.items())


def is_given(value: object) -> bool:
    """Whether a value is more than an SDK's own mark for "not given" or "leave out"."""
    # Every SDK of the family has classes of its own, of these names.
    return type(value).__name__ not in ("Omit", "NotGiven")
