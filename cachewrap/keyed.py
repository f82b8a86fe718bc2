"""Names of what counts in keys although it would not, and of what does not although it would."""

from __future__ import annotations

import hmac
import json
import os
import re
from collections.abc import Collection
from typing import Final

from cachewrap.errors import ConfigurationError
from cachewrap.secrets import KEYED

UNKEYED_VARIABLE: Final = "CACHEWRAP_UNKEYED"
"""The environment variable with what is left out of the keys of a cache that is not told it."""

_NO_NAME: Final = re.compile(r"[\s,*]")


class Keyed(frozenset[str]):
    """Names, in lower case, whose values are counted and stored as a keyed hash."""

    secret: bytes = b"cachewrap: a value that decides the answer"

    def mark(self, name: str, value: object) -> str | None:
        """What stands for the value of one of the names; None for that of any other."""
        if (name := name.lower()) not in self:
            return None
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=repr)
        digest = hmac.digest(self.secret, f"{name}\0{text}".encode(errors="replace"), "sha256")
        return f"{KEYED}{digest.hex()})"


NONE_KEYED: Final = Keyed()


def read_keyed(names: str | Collection[str], keys: tuple[bytes, ...]) -> Keyed:
    found = Keyed(_lowered("keyed", names))
    if keys:
        found.secret = keys[0]
    return found


def _lowered(option: str, names: object) -> list[str]:
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, Collection) or not all(isinstance(n, str) and n for n in given):
        raise ConfigurationError(f"{option} takes the names of headers and fields, got {names!r}")
    if unlike := next((name for name in given if _NO_NAME.search(name)), None):
        raise ConfigurationError(
            f'{option} takes whole names, each by itself as in ["x-a", "x-b"], got {unlike!r}'
        )
    return [str(name).lower() for name in given]


QUESTION: Final = frozenset(
    """
    audio chat_history content contents conversation document documents file files functions history
    image images input inputs instances instruction instructions message messages model
    previous_response_id prompt prompts query requests stream suffix system system_instruction
    system_prompt systeminstruction template text texts tools
    """.split()
)
"""Names of what is asked: without one of them, all questions would have the first one's answer."""


def read_unkeyed(names: Collection[str] | None, keyed: Keyed) -> frozenset[str]:
    told = "unkeyed="
    if names is None:
        names, told = listed(os.environ.get(UNKEYED_VARIABLE, "")), UNKEYED_VARIABLE
    found = frozenset(_lowered("unkeyed", names))
    if asked := sorted(found & QUESTION):
        raise ConfigurationError(
            f"{told} cannot leave out {asked[0]!r}: it is what is asked, and every question would "
            "get the answer to the first one"
        )
    if both := sorted(found & keyed):
        raise ConfigurationError(
            f"keyed= and {told} both name {both[0]!r}, which either counts or does not: name it "
            "in one of them"
        )
    return found


def listed(text: str) -> list[str]:
    """The names in a text that has commas between them."""
    return [name for part in text.split(",") if (name := part.strip())]
