"""The canonical request that is hashed and stored, from an SDK's client and request options."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from itertools import chain
from operator import is_
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from cachewrap.errors import UnkeyableError
from cachewrap.http.tracking import BETAS, counted_betas, is_idle, is_usual
from cachewrap.keyed import NONE_KEYED, Keyed
from cachewrap.loops import aside, is_watched
from cachewrap.request.canonical import NO_NAMES, canonical_body, canonical_json
from cachewrap.secrets import (
    GONE,
    Walk,
    is_account,
    is_named,
    is_secret,
    is_secret_value,
    is_telling,
)
from cachewrap.urls import bare, unsigned

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
            found["headers"] = "\n".join(
                sorted(f"{k}: {v}" for k, v in dict(more[1]).items() if not is_secret(str(k)))
            )
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
_JSON: Final = "application/json"
_WANTED: Final = frozenset({"accept", "accept-charset", "accept-language"})


def canonical_request(
    client: Any,
    options: Any,
    path: str,
    body: Any,
    *,
    stream: bool,
    keyed: Keyed = NONE_KEYED,
    unkeyed: frozenset[str] = NO_NAMES,
    taken: list[str] | None = None,
) -> dict[str, Any]:
    """The request as plain JSON-like values, independent of the SDK's objects.

    Args:
        client: the SDK's client.
        options: its request options.
        path: where the request goes, below the client's base URL.
        body: the JSON body as it will be sent, see `merged_body`.
        stream: whether the answer is asked for as a stream.
        keyed: names of what is counted by a hash of its value, see `CacheOptions`.
        unkeyed: names of what is left out, in lower case.
        taken: is given the credentials that are left out.

    ``method`` and ``url`` (base and path, without credentials) are always there; ``query``,
    ``headers``, ``body``, ``files`` and ``stream`` where there are any.

    Raises `UnkeyableError` for a body or an upload that has no canonical form.
    """
    url, url_query = split_url(str(client._prepare_url(path)))
    request: dict[str, Any] = {"method": options.method.upper(), "url": url}
    if query := _query(client, options, url_query, keyed, unkeyed):
        request["query"] = query
    layers = _layers(client, options)
    if keyed:
        layers = chain(_authorization(client), layers)
    if headers := canonical_headers(layers, keyed, taken, unkeyed):
        request["headers"] = headers
    if taken is not None and type(secret := vars(client).get("api_key")) is str:
        taken.append(secret)
    if body is not None:
        if isinstance(body, Mapping):
            body = without_secrets(body, keyed, taken)
        request["body"] = canonical_body(body, keyed, unkeyed)
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
        parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    )


def _query(
    client: Any,
    options: Any,
    url_query: Iterable[tuple[str, str]],
    keyed: Keyed,
    unkeyed: frozenset[str],
) -> dict[str, Any]:
    transport = getattr(client._client, "params", None)
    fixed = [*(transport.multi_items() if transport else ()), *url_query]
    found = canonical_query(fixed, keyed, unkeyed) if fixed else {}
    query: dict[str, Any] = {
        name: values[0] if len(values) == 1 else values for name, values in found.items()
    }
    for params in (client.default_query, options.params):
        for name, value in (params or {}).items():
            if not is_given(value):
                query.pop(name, None)
            elif name.lower() in unkeyed:
                continue
            elif (mark := keyed.mark(name, value)) is not None:
                query[name] = mark
            elif not (is_secret(name) or is_secret_value(value)):
                query[name] = value
    canonical: dict[str, Any] = canonical_json(query) if query else {}
    return canonical


def canonical_query(
    pairs: Iterable[tuple[str, str]],
    keyed: Keyed = NONE_KEYED,
    unkeyed: frozenset[str] = NO_NAMES,
) -> dict[str, list[str]]:
    """The parameters of a query that are no credentials, each with its values."""
    query: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.lower() in unkeyed:
            continue
        mark = keyed.mark(name, value) if keyed else None
        if mark or not (is_secret(name) or is_secret_value(value)):
            query.setdefault(name, []).append(mark or value)
    return query


def canonical_headers(
    pairs: Iterable[tuple[str, Any]],
    keyed: Keyed = NONE_KEYED,
    taken: list[str] | None = None,
    unkeyed: frozenset[str] = NO_NAMES,
) -> dict[str, str]:
    """The headers that can change an answer, by lower-case name; later ones win.

    Args:
        pairs: names and values.
        keyed: names of what is counted by a hash of its value.
        taken: is given the credentials that are left out.
        unkeyed: names of what is left out, in lower case.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        if name not in keyed and (is_idle(name) or is_secret(name)):
            if taken is not None and isinstance(value, str) and not is_idle(name):
                taken.append(value)
            continue
        if name in unkeyed:
            if taken is not None and is_secret_value(value):
                taken.append(value)
        elif (
            # First what costs no call.
            (name in _WANTED and name not in keyed and type(value) is str and is_usual(name, value))
            or not is_given(value)
            or value is None
        ):
            found.pop(name, None)
        elif mark := keyed.mark(name, value) if keyed else None:
            found[name] = mark
            if taken is not None:
                taken.append(str(value))
        elif name == BETAS and (counted := counted_betas(str(value))) != value:
            if counted:
                found[name] = counted
            else:
                found.pop(name, None)
        elif name == "content-type":
            if value.startswith(_MULTIPART):
                found[name] = _MULTIPART
            elif value == _JSON or is_usual(name, value):
                found.pop(name, None)
            else:
                found[name] = value
        elif is_secret_value(value):
            if taken is not None:
                taken.append(value)
        else:
            found[name] = _header(str(value), taken)
    return found


def _header(value: str, taken: list[str] | None) -> str:
    """The value of a header; of the JSON that some gateways take in one without credentials."""
    if value[:1] not in ("{", "["):
        return value
    walk = Walk(GONE, address=bare)
    new: str = walk.of(value, ())
    if taken is not None:
        taken += [one.value for one in walk.found]
    return new


def _layers(client: Any, options: Any) -> Iterable[tuple[str, Any]]:
    transport = getattr(client._client, "headers", None) or {}
    own = options.headers or {}
    return chain(transport.items(), client.default_headers.items(), own.items())


def _authorization(client: Any) -> Iterable[tuple[str, Any]]:
    """The headers in which an SDK sends the credentials of its client."""
    try:
        return list(client.auth_headers.items())
    except Exception:  # the SDK tells what is wrong with them, when it sends the request
        return ()


def is_given(value: object) -> bool:
    """Whether a value is more than an SDK's own mark for "not given" or "leave out"."""
    # Every SDK of the family has classes of its own, of these names.
    return type(value).__name__ not in ("Omit", "NotGiven")


# -- credentials in a body -----------------------------------------------------------------------


# What a model reads counts as it is; so do numbers and the well-known words of an API.
_READ: Final = frozenset(
    """
    audio audio_url chat_history content contents conversation document document_url documents
    examples file file_url function_call functions generationConfig generation_config history image
    image_url images include input inputs instances instructions logit_bias messages modalities
    model output_format parameters prediction preamble prompt prompts query reasoning
    reasoning_effort requests response_format safetySettings seed service_tier stop stop_sequences
    stream stream_options suffix system systemInstruction system_instruction system_prompt template
    text texts thinking tool_choice tool_config toolConfig truncate verbosity video video_url voice
    """.split()
)
_SPOKEN: Final = frozenset({"messages", "input", "contents", "instances"})
_FUNCTIONS: Final = frozenset({"function", "custom"})
_TOLD_TO_A_MODEL: Final = frozenset(
    """
    description format function functionDeclarations function_declarations inputSchema input_schema
    name parameters server_description toolSpec
    """.split()
)


def without_secrets(
    body: Mapping[str, Any], keyed: Keyed = NONE_KEYED, taken: list[str] | None = None
) -> Mapping[str, Any]:
    """The request body without the credentials in its settings; the very body if it has none.

    Settings are all that no model reads: what gateways take beside a request, remote tools and
    their servers, sources of data. What a model reads stays as it is, but for the signatures of
    the addresses of images and files.

    Args:
        body: the body. It is left as it is.
        keyed: names of settings that are counted by a hash of their value.
        taken: is given the credentials.
    """
    doubtful: list[str] = []
    for name, value in body.items():
        kind = type(value)
        if type(name) is not str:
            continue
        if name in _READ:
            if kind is not list or name not in _SPOKEN:
                if name not in _PLACES and name not in _WAYS:
                    continue
            else:
                for message in value:
                    if type(message) is not dict or type(message.get("content")) is not str:
                        break
                else:
                    continue
        elif kind in _NUMBERS:
            if not is_account(name):
                continue
        elif kind is str:
            if not (is_named(name) or is_account(name) or name in keyed or is_telling(value)):
                continue
        elif name == "tools" and kind is list:
            for tool in value:
                if type(tool) is not dict or tool.get("type") not in _FUNCTIONS:
                    break
            else:
                continue
        elif name == "metadata" and kind is dict and not keyed:
            for key, text in value.items():
                if type(text) is not str or is_named(str(key)) or is_telling(text):
                    break
            else:
                continue
        doubtful.append(name)
    return _without(body, doubtful, keyed, taken) if doubtful else body


def _without(
    body: Mapping[str, Any], doubtful: list[str], keyed: Keyed, taken: list[str] | None
) -> Mapping[str, Any]:
    walk = Walk(GONE, keyed.mark if keyed else None, bare)
    clean = dict(body)
    for name in doubtful:
        value = new = body[name]
        if name in _READ:
            new = _unsigned_part({"content": value} if name in _SPOKEN else {name: value}, walk)
            (new,) = new.values()
        elif name in _NEVER and isinstance(value, (list, tuple)):
            new = _tools(value, walk, name)
        elif is_account(name) and name.lower() not in keyed:
            walk.note(value, (name,))
            new = GONE
        else:
            new = walk.member(name, value, ())
        if new is GONE:
            del clean[name]
        elif new is not value:
            clean[name] = new
    if taken is not None:
        taken += [one.value for one in walk.found]
    return clean


_NUMBERS: Final = frozenset({bool, int, float, type(None)})


# What is a credential there, whatever it holds.
_NEVER: Final = {"tools": "authorization", "mcp_servers": "authorization_token"}


def _tools(tools: Iterable[Any], walk: Walk, name: str) -> list[Any]:
    """Tools of the provider's and of remote servers, or such servers, without credentials."""
    return [
        _tool(tool, walk, name)
        if isinstance(tool, Mapping) and tool.get("type") not in _FUNCTIONS
        else tool
        for tool in tools
    ]


def _tool(tool: Mapping[str, Any], walk: Walk, kind: str) -> dict[str, Any]:
    clean: dict[str, Any] = {}
    for name, value in tool.items():
        new = value if name in _TOLD_TO_A_MODEL else walk.member(name, value, (kind,))
        if new is not GONE:
            clean[name] = new
    if kind != "tools" or tool.get("type") == "mcp":
        clean.pop(_NEVER[kind], None)
    return clean


# The places of addresses in what a model reads, and the ways there. What a tool is called with is
# none of them: there an address is text like any other.
_PLACES: Final = frozenset(
    "audio_url document_url file_uri fileUri file_url image_url uri url video_url".split()
)
_WAYS: Final = frozenset(
    """
    audio_url content document document_url file fileData file_data file_url image image_url output
    parts source video video_url
    """.split()
)


def _unsigned(value: Any, walk: Walk) -> Any:
    """What a model reads, whose addresses of images and files have neither signature nor user."""
    if isinstance(value, list):
        items = [_unsigned(item, walk) for item in value]
        return value if all(map(is_, items, value)) else items
    return _unsigned_part(value, walk) if type(value) is dict else value


def _unsigned_part(part: dict[str, Any], walk: Walk) -> dict[str, Any]:
    clean: dict[str, Any] | None = None
    for name, value in part.items():
        new = value
        if type(value) is not str:
            new = _unsigned(value, walk) if name in _WAYS else value
        elif name in _PLACES and value[:5] != "data:" and (new := unsigned(value)) != value:
            walk.note(value, (name,))
        if new is not value and new != value:
            clean = dict(part) if clean is None else clean
            clean[name] = new
    return part if clean is None else clean
