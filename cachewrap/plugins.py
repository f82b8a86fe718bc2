"""Plug-ins of installed packages, by entry point: stores by URL scheme, codecs by type."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from cachewrap.errors import CachewrapError, ConfigurationError
from cachewrap.loops import aside, is_watched

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

STORES: Final = "cachewrap.stores"
"""The group of stores: a URL scheme, and a function of URL and seed that makes a `Store`."""

CODECS: Final = "cachewrap.codecs"
"""The group of codecs: the full name of a type, and a `ValueCodec`."""

# Codecs of the package's own for types of others, found without being installed.
_OWN: Final = {
    "langchain_core.messages.base.TextAccessor": "cachewrap.integrations._langchain",
}


class ValueCodec(Protocol):
    """A codec for one type, as a module, a class or an object with these two functions.

    A third, ``cache_key``, may give what identifies a value in a request; without it that is what
    ``to_plain`` gives.
    """

    def to_plain(self, value: Any, /) -> Any:
        """The value's content, as anything that cachewrap stores already."""

    def from_plain(self, plain: Any, /) -> Any:
        """A new value of exactly the type, from what ``to_plain`` gave.

        What is stored may have been damaged or forged: check it, and raise `ValueError`.
        """


class PluginError(CachewrapError):
    """A plug-in that cannot be loaded or used; the message names its package."""


def store_schemes() -> list[str]:
    """The URL schemes for which an installed package has a store."""
    return sorted(_declared(STORES))


def make_store(scheme: str, url: str, seed: str) -> Any:
    """The store that an installed package makes of a URL.

    Raises `ConfigurationError` where none is installed, or it cannot be made.
    """
    point = _declared(STORES)[scheme]
    try:
        factory: Callable[[str, str], Any] = _load(STORES, scheme)
        return factory(url, seed)
    except PluginError as error:
        raise ConfigurationError(str(error)) from error
    except CachewrapError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{_name(point)} could not make a store for {scheme}: {error!r}"
        ) from error


def codec_of(kind: type) -> tuple[str, ValueCodec] | None:
    """The name and the codec of a type for which an installed package has one.

    Raises `PluginError` where it cannot be loaded.
    """
    name = type_name(kind)
    codec = codec_named(name)
    return None if codec is None else (name, codec)


def codec_named(name: str) -> ValueCodec | None:
    """The codec for the type of this name, if there is one. Raises `PluginError`."""
    if name in _OWN:
        own: Any = import_module(_OWN[name])
        return own  # type: ignore[no-any-return]
    if name not in _declared(CODECS):
        return None
    codec: ValueCodec = _load(CODECS, name)
    return codec


def type_name(kind: type) -> str:
    """The full name of a type, as an entry point spells it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def describe(name: str) -> str:
    """Which codec serves a type, for messages."""
    return _OWN[name] if name in _OWN else _name(_declared(CODECS)[name])


def _entry_points(group: str) -> list[EntryPoint]:
    # Imported at the first need of it: few have one, and it is a fifth of what cachewrap imports.
    def look() -> list[EntryPoint]:
        from importlib.metadata import entry_points

        return list(entry_points(group=group))

    try:
        return aside(look) if is_watched() else look()
    except OSError as error:
        raise PluginError(f"what is installed for {group} cannot be read: {error}") from error


@functools.cache
def _declared(group: str) -> dict[str, EntryPoint]:
    # One look for each group and process, at the first need of it.
    return {point.name: point for point in reversed(_entry_points(group))}


@functools.cache
def _load(group: str, name: str) -> Any:
    rivals = {_name(point) for point in _entry_points(group) if point.name == name}
    if len(rivals) > 1:
        raise PluginError(f"{name!r} is declared by {' and by '.join(sorted(rivals))}")
    point = _declared(group)[name]
    try:
        loaded = aside(point.load) if is_watched() else point.load()
    except Exception as error:  # whatever the package does when it is imported
        raise PluginError(f"{_name(point)} cannot be loaded: {error!r}") from error
    wanted = ("to_plain", "from_plain") if group == CODECS else ("__call__",)
    for attribute in wanted:
        if not callable(getattr(loaded, attribute, None)):
            raise PluginError(f"{_name(point)} has no {attribute}()")
    return loaded


def _name(point: EntryPoint) -> str:
    package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"the plug-in {point.value}{package}"
