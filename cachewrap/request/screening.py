"""A screening of encoded requests: which ones are to be looked through for credentials.

Every miss asks, and most requests hold none. So what rules a credential out is looked for by what
the machine does at once to all bytes; a pattern is tried only at the few places that are left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from cachewrap.patterns import later
from cachewrap.secrets import BEGINNINGS, LONG, PARAMETERS, WRITTEN

_LEAST: Final = 15
"""Bytes of the shortest shape that is a long run: of a key of Slack's."""
_BEFORE: Final = len("Bearer    ")  # stands in front of such a run, and is no part of it
_HEADER: Final = 6  # of a text in MessagePack, or the longest escape in JSON
_LONG: Final = 256
"""Bytes of a run in which a beginning is looked for first: it is data, as of a picture."""
_BACKSLASH: Final = b"\\"  # may stand for letters of a shape, in JSON that is a text

# How names of credentials end, and of what holds some. Behind one stands in MessagePack what begins
# its value, in JSON a quotation mark.
_ENDINGS: Final = (
    "key id string value secret token zation cation auth header bearer jwt pat otp password passwd "
    "phrase passcode pwd pw pass pin pem hmac srf hook k_url r_url server code begin constant "
    "tuple credential ret.text rettext cookie dsn json bedrock env environ ronment riable var byok"
).split()


def _table(sort: str, becomes: bytes, others: bytes) -> bytes:
    """A table for `bytes.translate`: what bytes of a sort become, and what the others do."""
    ours = re.compile(sort.encode("latin-1"))
    each = (bytes((byte,)) for byte in range(256))
    return b"".join(becomes if ours.fullmatch(one) else others or one.lower() for one in each)


_RUNS: Final = _table(r"[\w.~+/=\\-]", b"a", b" ")
_LONG_RUN: Final = _LEAST * b"a"
_NAMES: Final = _table(r"""[\x80-\xbf\xd9-\xdf"'\\]""", b"\xff", b"")


def _reversed(words: Iterable[str]) -> str:
    """A pattern for any of the words read backwards, which looks at each letter once."""
    return _branches({word[::-1] for word in words})


def _branches(words: set[str]) -> str:
    firsts = sorted({word[0] for word in words if word})
    found = [
        first + _branches({word[1:] for word in words if word[:1] == first}) for first in firsts
    ]
    return f"(?:{'|'.join(found)}){'?' * ('' in words)}" if found else ""


_LONGEST: Final = max(map(len, _ENDINGS)) + len("s")
_NAME: Final = rf"\xff(?=[a-z])(?s:s?{_reversed(_ENDINGS)})"
_name_ends: Final = later(_NAME.encode("latin-1"))
_long: Final = later(rb"(?<![\w-])" + LONG.encode())
_long_near: Final = later(rb"(?s:.{0,%d}?)" % (_BEFORE + _HEADER) + LONG.encode())
_begins: Final = later(BEGINNINGS.encode())
_private_key: Final = later(rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY")
_address: Final = later(rb"://[^/\s]{0,384}@")
_VALUE: Final = r"""(?=[ \t\\"']*+(?i:token[ \t])?[\w.~+/=@!#%^*$\\-]{12})"""
# Each is looked for by itself: one that begins with one sign is found much faster.
_SIGNS: Final = {
    sign: later(pattern.encode())
    for sign, pattern in {
        b"?": rf"\?(?i:{PARAMETERS})=",
        b"&": rf"&(?i:{PARAMETERS})=",
        b"=": rf"={_VALUE}(?is:{WRITTEN}|(?<=accountkey.)|(?<=sharedaccesskey.))",
        b":": rf":(?:AA[\w-]{{30}}|{_VALUE}(?is:{WRITTEN}))",
    }.items()
}


def has_shape(request: bytes) -> bool:
    """Whether there may be the shape of a credential in an encoded request."""
    if _BACKSLASH in request and rb"\u00" in request:  # letters may be written as their numbers
        return _begins.search(request) is not None
    runs = request.translate(_RUNS)
    end = 0
    while (start := runs.find(_LONG_RUN, end)) >= 0:
        end = runs.find(b" ", start)
        if end < 0:
            end = len(runs)
        if _has_long(request, start, end):
            return True
    for sign, pattern in _SIGNS.items():
        if sign in request and pattern.search(request) is not None:
            return True
    if b"@" in request and _address.search(request) is not None:
        return True
    return b"-----BEGIN" in request and _private_key.search(request) is not None


def _has_long(request: bytes, start: int, end: int) -> bool:
    """Whether a shape begins in a long run, or just before it."""
    begin = max(0, start - _BEFORE)
    before = max(0, begin - _HEADER)
    escaped = request.find(_BACKSLASH, before, end) >= 0
    if (escaped or end - start > _LONG) and _begins.search(request, begin, end) is None:
        return False
    if escaped or _long.search(request, begin, end) is not None:
        return True
    # Where a text begins, its length may look like a letter in front of the shape.
    return not request[before:start].isascii() and _long_near.match(request, begin) is not None


def has_name(request: bytes, start: int = 0) -> bool:
    """Whether a name in an encoded request may be of a credential, or of what holds some.

    Args:
        request: the request.
        start: where what stands behind a name is first looked for.
    """
    begin = max(0, start - _LONGEST)
    # Read backwards a name comes behind what ends it, and is compared letter by letter.
    backwards = request[begin:].translate(_NAMES)[::-1]
    found = _name_ends.search(backwards)  # of several the last one, as the request goes
    return found is not None and len(request) - found.start() > start
