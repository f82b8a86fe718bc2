"""The codec of the text that LangChain 1 keeps in its generations: a `str` that can be called."""

from __future__ import annotations

import sys
from typing import Any

from cachewrap.errors import MissingTypeError


def to_plain(value: Any) -> str:
    return str.__str__(value)


def from_plain(plain: Any) -> Any:
    if type(plain) is not str:
        raise ValueError("text expected")
    base = sys.modules.get("langchain_core.messages.base")
    if base is None:
        raise MissingTypeError("the stored value is LangChain's: import langchain_core")
    return base.TextAccessor(plain)
