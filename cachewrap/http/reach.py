"""The reach of a request that no cache answers: a model, or only what upstream keeps or tells."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

# Some SDKs have the API's version in their base URL, others in each path.
_VERSION: Final = re.compile(r"(?:openai/)?(?:v\d+\w*/)?")

_KEEPS: Final = re.compile(
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
    path = urlsplit(url).path.strip("/")
    below = path[match.end() :] if (match := _VERSION.match(path)) else path
    return _KEEPS.fullmatch(below) is None
