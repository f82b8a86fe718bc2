"""Uploads as they are sent: a multipart body's fields and files, as an SDK's request has them.

A body that is written in any other way than the common clients write it has no reading here, and
is not cached: two readers of one body could make two requests of it.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
from itertools import pairwise
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

Form: TypeAlias = tuple[dict[str, Any], list[dict[str, str]]]
"""The fields of a form, and of each of its files what `fingerprints` says of one."""

_MOST_PARTS: Final = 1000
_LONGEST_HEAD: Final = 8192
_DEEPEST: Final = 8

# RFC 2046 allows less, and clients have more than 70 of them.
_BOUNDARY: Final = re.compile(
    r"multipart/form-data *(?:; *charset=utf-8 *)?; *"
    r"boundary=(?:\"([^\"\\]{1,200})\"|([^\s;\"]{1,200}))(?: *; *charset=utf-8)? *",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~\w-]+):([^\r\n\0]*)", re.ASCII)
_PARAMETER: Final = re.compile(
    r";[ \t]*([\w*-]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]+))[ \t]*", re.ASCII
)
_ESCAPED: Final = re.compile(r"\\([\"\\])|%(22|0[DdAa])")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_NAMES: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_INNER: Final = re.compile(r"\[([^\[\]]*)\]")

# A form has nothing but text. These are numbers and truths where it is an SDK that has them, by
# the references of the audio and image endpoints of OpenAI, Groq, Together and Mistral.
_NUMBERS: Final = frozenset(
    """
    max_speakers min_speakers n output_compression partial_images prefix_padding_ms
    silence_duration_ms temperature threshold
    """.split()
)
_TRUTHS: Final = frozenset({"diarize", "stream"})
_TRUTH: Final = {"true": True, "false": False}

# What clients say of a file that nobody has given a type: from its name, each by its own table, or
# nothing in particular. The SDKs' own requests have no type then, and no name for bytes alone.
_UNTYPED: Final = "application/octet-stream"
_UNNAMED: Final = "upload"
_USUAL: Final = {
    ending: frozenset(types.split())
    for endings, types in {
        "wav": "audio/wav audio/x-wav audio/wave audio/vnd.wave",
        "mp3 mpga mpeg": "audio/mpeg audio/mp3 video/mpeg",
        "m4a mp4": "audio/mp4 audio/m4a audio/x-m4a audio/mp4a-latm video/mp4",
        "webm": "audio/webm video/webm",
        "ogg oga opus": "audio/ogg audio/opus video/ogg application/ogg",
        "flac": "audio/flac audio/x-flac",
        "png": "image/png",
        "jpg jpeg": "image/jpeg image/jpg",
        "webp": "image/webp",
    }.items()
    for ending in endings.split()
}


def parse_multipart(content_type: str, body: bytes) -> Form:
    """The fields and files of a form, as the canonical request of an SDK's call has them.

    Args:
        content_type: the header of that name.
        body: the whole body, without any coding.

    Raises `ValueError` for what is no form, or one that is not written as clients write them.
    """
    told = _BOUNDARY.fullmatch(content_type.strip())
    if told is None:
        raise ValueError("no multipart/form-data with a boundary")
    mark = b"--" + (told[1] or told[2]).encode("latin-1", "strict")
    fields: dict[str, Any] = {}
    files: list[dict[str, str]] = []
    position, view = len(mark), memoryview(body)
    if not body.startswith(mark):
        raise ValueError("the body does not begin with its boundary")
    for _ in range(_MOST_PARTS):
        if body.startswith(b"--", position):
            if body[position + 2 :] not in (b"", b"\r\n"):
                raise ValueError("something follows the last part")
            return fields, files
        start = body.find(b"\r\n\r\n", position, position + _LONGEST_HEAD)
        if not body.startswith(b"\r\n", position) or start < 0:
            raise ValueError("a part has no head")
        end = body.find(b"\r\n" + mark, start + 4)
        if end < 0:
            raise ValueError("a part does not end")
        _take(body[position + 2 : start], view[start + 4 : end], fields, files)
        position = end + 2 + len(mark)
    raise ValueError(f"more than {_MOST_PARTS} parts")


def _take(
    head: bytes, content: memoryview, fields: dict[str, Any], files: list[dict[str, str]]
) -> None:
    headers = _headers(head)
    told = _parameters(headers.pop("content-disposition", ("", ""))[1])
    kind = headers.pop("content-type", ("", ""))[1]
    headers.pop("content-length", None)
    if headers.pop("content-transfer-encoding", ("", "binary"))[1].lower() not in _PLAIN:
        raise ValueError("a part is encoded")
    field, name = told["name"], told.get("filename")
    if name is None and _TEXT.fullmatch(kind):
        _put(fields, field, str(content, "utf-8"))
        return
    found = {"field": field}
    if name is not None and name != _UNNAMED:
        found["name"] = name
    if kind and not _is_usual(name or "", kind):
        found["type"] = kind
    if headers:
        found["headers"] = "\n".join(sorted(f"{name}: {value}" for name, value in headers.values()))
    found["sha256"] = hashlib.sha256(content).hexdigest()
    files.append(found)


_PLAIN: Final = ("binary", "7bit", "8bit")
_TEXT: Final = re.compile(r"(?:text/plain *(?:; *charset=\"?(?:utf-8|us-ascii)\"? *)?)?", re.I)


def _headers(head: bytes) -> dict[str, tuple[str, str]]:
    """The headers of a part by their names in lower case: each as it was written."""
    found: dict[str, tuple[str, str]] = {}
    for line in str(head, "utf-8").split("\r\n"):
        told = _HEADER.fullmatch(line)
        if told is None or told[1].lower() in found:
            raise ValueError("a part has no proper headers")
        found[told[1].lower()] = told[1], told[2].strip(" \t")
    return found


def _parameters(disposition: str) -> dict[str, str]:
    found: dict[str, str] = {}
    kind, position = disposition[:9].lower(), 9
    while position < len(disposition):
        told = _PARAMETER.match(disposition, position)
        if told is None or told[1].lower() in found:
            break
        quoted, token = told[2], told[3]
        found[told[1].lower()] = token if quoted is None else _ESCAPED.sub(_meant, quoted)
        position = told.end()
    if kind != "form-data" or position < len(disposition) or not found.get("name"):
        raise ValueError("a part does not say what field it is")
    if (extended := found.pop("filename*", None)) is not None:
        charset, _, name = extended.partition("''")
        if charset.lower() != "utf-8":
            raise ValueError("a file has a name in an unknown character set")
        found["filename"] = unquote(name, errors="strict")
    return found


def _meant(told: re.Match[str]) -> str:
    return told[1] or chr(int(told[2], 16))


def _is_usual(name: str, kind: str) -> bool:
    """Whether a type says no more of a file than its name does."""
    kind = kind.lower()
    ending = name.rpartition(".")[2].lower()
    return (
        kind == _UNTYPED
        or kind in _USUAL.get(ending, ())
        or kind == mimetypes.guess_type(name, strict=False)[0]
    )


# -- fields ----------------------------------------------------------------------------------------


def _put(fields: dict[str, Any], path: str, text: str) -> None:
    """Put a value at its place: ``a``, ``a[b]`` is one in an object, ``a[]`` one of a list."""
    told = _NAMES.fullmatch(path)
    names = [path] if told is None else [told[1], *_INNER.findall(told[2])]
    if len(names) > _DEEPEST or "" in names[:-1]:
        raise ValueError(f"the field {path!r} has no place")
    place: Any = fields
    for name, inner in pairwise(names):
        below: Any = {} if inner else []
        place = place.setdefault(name, below) if isinstance(place, dict) else None
    last = names[-1]
    if isinstance(place, list) and not last:
        place.append(text)
    elif isinstance(place, dict) and last and last not in place:
        place[last] = _value(last, text)
    else:
        raise ValueError(f"the field {path!r} is there twice")


def _value(name: str, text: str) -> Any:
    if name in _NUMBERS and _NUMBER.fullmatch(text):
        return json.loads(text)
    return _TRUTH.get(text, text) if name in _TRUTHS else text
