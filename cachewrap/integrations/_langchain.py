"""Requests of LangChain to a model, in canonical form: without ids, credentials and transport."""

from __future__ import annotations

import ast
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from cachewrap.errors import ConfigurationError, MissingTypeError
from cachewrap.http.request import without_secrets
from cachewrap.secrets import is_secret, is_secret_value
from cachewrap.telemetry.reading import usage_of
from cachewrap.telemetry.usage import NO_DETAILS, Usage, both_details

# Fields of a message that are never sent to a model, or name one run of it.
_VOLATILE: Final = frozenset({"id", "usage_metadata", "response_metadata", "artifact"})
# What LangChain itself reads of an answer's metadata when it sends the answer back.
_TELLING: Final = frozenset({"model_provider", "output_version"})
# Settings of a call that the model reads itself.
_ASKED: Final = frozenset({"functions", "response_format", "tool_choice", "tools"})
# Fields of a model that change how it is reached, not what it is asked.
_TRANSPORT: Final = frozenset(
    """
    cache callbacks client async_client default_request_timeout http_async_client
    http_client http_socket_options max_retries rate_limiter request_timeout
    root_async_client root_client timeout verbose
    """.split()
)
_CUT: Final = "---"  # between a model and the parameters of a call
# A credential is all of its text: a tool may well be described as "A basic adder".
_SECRET_TEXT: Final = re.compile(
    r"(?i)(?P<quote>['\"])\s*(?:bearer|basic|digest|negotiate)\s+[^\s'\"]+\s*(?P=quote)"
    r"|['\"][\w-]*(?:api[-_]?key|authorization|_token|secret|password)['\"]\s*:\s*['\"][^'\"]*['\"]"
)


MODEL_CALL: Final = "langchain:model"
"""The source of what a cache of LangChain is asked; it salts the keys."""


def call_request(prompt: str, llm_string: str) -> dict[str, Any]:
    """What a cache of LangChain is asked, as a canonical request."""
    return {"prompt": prompt_request(prompt), "llm": model_request(llm_string)}


def prompt_request(prompt: str) -> Any:
    """A prompt as a cache of LangChain gets it: text, or the JSON of messages."""
    try:
        messages = json.loads(prompt)
    except (ValueError, RecursionError):
        return prompt
    # Text that happens to be JSON stays text: `"1"` and `"1.0"` are not one prompt.
    if isinstance(messages, list) and messages and all(map(_is_message, messages)):
        return clean(messages)
    return prompt


def model_request(llm_string: str) -> Any:
    """A model's settings as a cache of LangChain gets them: JSON and parameters, or either."""
    try:
        model, end = json.JSONDecoder().raw_decode(llm_string)
    except (ValueError, RecursionError):
        model, end = None, 0
    # Dashes may be in the parameters as well: in a docstring that describes a tool, for one.
    if not isinstance(model, dict) or not llm_string.startswith(_CUT, end):
        return {"params": _params(llm_string)}
    return {"model": clean(model), "params": _params(llm_string[end + len(_CUT) :])}


def clean(plain: Any, *, asked: bool = False) -> Any:
    """Plain data as `langchain_core.load.dumpd` gives it, without what may not be in a key.

    Args:
        plain: the data.
        asked: whether it is a part of what the model is asked, such as a message or a tool: that
            has no settings in it, and stays whole, whatever its parts are called.
    """
    if isinstance(plain, list):
        return [clean(item, asked=asked) for item in plain]
    if isinstance(plain, str):
        return plain if asked else _without_user(plain)
    if not isinstance(plain, dict):
        return plain
    if plain.get("lc") == 1 and plain.get("type") == "constructor":
        kwargs = plain.get("kwargs") or {}
        kept = _message(kwargs) if _is_message(plain) else _settings(kwargs)
        return {"id": plain.get("id"), "kwargs": kept}
    if plain.get("lc") == 1 and plain.get("type") == "not_implemented":
        return {"id": plain.get("id")}  # its text names an address in memory
    if asked:
        return {name: clean(value, asked=True) for name, value in plain.items()}
    return {
        name: _headers(value) if _names_headers(name) else clean(value, asked=name in _ASKED)
        for name, value in without_secrets(plain).items()
    }


def _is_message(plain: Any) -> bool:
    if not isinstance(plain, dict) or plain.get("type") != "constructor":
        return False
    path = plain.get("id") or [""]
    return str(path[-1]).endswith(("Message", "MessageChunk"))


def _message(kwargs: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name: clean(value, asked=True) for name, value in kwargs.items() if name not in _VOLATILE
    }
    metadata = kwargs.get("response_metadata") or {}
    telling = {name: metadata[name] for name in sorted(_TELLING & set(metadata))}
    return kept | {"response_metadata": telling} if telling else kept


def _settings(kwargs: dict[str, Any]) -> Any:
    return clean({name: value for name, value in kwargs.items() if name not in _TRANSPORT})


def _names_headers(name: str) -> bool:
    return name.endswith(("headers", "query"))


def _headers(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return clean(value)
    return {
        name: clean(item)
        for name, item in value.items()
        if not is_secret(str(name)) and not is_secret_value(item)
    }


def _without_user(text: str) -> str:
    if not text.startswith(("http://", "https://")) or "@" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _params(text: str) -> Any:
    """The parameters of a call, which LangChain gives as the text of a list of pairs."""
    try:
        pairs = ast.literal_eval(text)
        given = dict(pairs)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _SECRET_TEXT.sub("", text)  # it holds an object
    return _settings(given) if all(isinstance(name, str) for name in given) else text


def usage_of_messages(messages: Iterable[Any]) -> Usage:
    """The model and the tokens that messages tell of."""
    models, asked, said, details = [""], 0, 0, NO_DETAILS
    for message in messages:
        metadata = getattr(message, "response_metadata", None) or {}
        usage = usage_of({"usage": getattr(message, "usage_metadata", None)})
        models.append(str(metadata.get("model_name") or metadata.get("model") or ""))
        asked += usage.tokens_in
        said += usage.tokens_out
        details = both_details(details, usage.details)
    return Usage(next(filter(None, models), ""), asked, said, details)


def reviver() -> Callable[[str], Any]:
    """LangChain's own reading of what it writes, which builds whatever class that names.

    Raises `ConfigurationError` where langchain-core is not installed.
    """
    try:
        from langchain_core.load import loads
    except ImportError:
        raise ConfigurationError(
            "LangChain's answers are read with its own classes: pip install langchain-core"
        ) from None

    def revive(text: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LangChain calls its `loads` a beta
            return loads(text)

    return revive


# -- the codec of the text that LangChain 1 keeps in its generations: a `str` that can be called -


def to_plain(value: Any) -> str:
    return str.__str__(value)


def from_plain(plain: Any) -> Any:
    if type(plain) is not str:
        raise ValueError("text expected")
    base = sys.modules.get("langchain_core.messages.base")
    if base is None:
        raise MissingTypeError("the stored value is LangChain's: import langchain_core")
    return base.TextAccessor(plain)
