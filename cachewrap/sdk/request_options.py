"""Request options of an SDK: copies of them, and what the client's own hook makes of them."""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import Any, Final

from cachewrap.http.request import is_given


def argument(index: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An argument of ``request``, by its place or its name."""
    return args[index] if len(args) > index else kwargs[name]


def copied(options: Any) -> Any:
    """Options that a hook may change, also in place, and those of the call stay as they are."""
    found = copy(options)
    if isinstance(options.json_data, dict):
        found.json_data = dict(options.json_data)
    if options.headers:
        found.headers = dict(options.headers)
    return found


def timeout_of(client: Any, options: Any) -> object:
    """The timeout of a call, which is its client's unless it has one of its own."""
    own = getattr(options, "timeout", None)
    return own if is_given(own) else getattr(client, "timeout", None)


_HOOK: Final = "_prepare_options"


def is_hooked(client: Any) -> bool:
    """Whether the program itself changes the options of a client's requests on their way out."""
    kind: Any = type(client)
    return _HOOK in vars(client) or _is_hooked(kind)


@lru_cache(maxsize=256)
def _is_hooked(cls: type) -> bool:
    places = [base.__module__.partition(".")[0] for base in cls.__mro__ if _HOOK in vars(base)]
    return bool(places) and places[0] != places[-1]


def as_sent(client: Any, options: Any) -> Any:
    """The options as the client's own hook sends them; as they are where it fails.

    Upstream it will fail again and say so; what it does to credentials alone is still served.
    """
    own = copied(options)
    try:
        changed = client._prepare_options(own)
    except Exception:
        return options
    return own if changed is None else changed


async def aas_sent(client: Any, options: Any) -> Any:
    own = copied(options)
    try:
        changed = await client._prepare_options(own)
    except Exception:
        return options
    return own if changed is None else changed
