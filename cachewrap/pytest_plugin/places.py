"""Places of cassettes: where that of a test is, and what its marker says of it."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest

FOLDER: Final = "cassettes"
FIXTURES: Final = "fixtures.jsonl"
"""The cassette of fixtures that outlive a test."""

_LONGEST: Final = 100
_ODD: Final = re.compile(r"[^A-Za-z0-9_.=+-]+")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the markers of a test ask for; the closest one decides.

    Args:
        cassette: the cassette's name; None for the test's own.
        mode: the mode; None for the mode of the run.
        seed: the seed of the entries.
        options: any other `CacheOptions`.
    """

    cassette: str | None
    mode: str | None
    seed: Any
    options: dict[str, Any]


def wish_of(item: pytest.Item) -> Wish:
    """What the markers ask for. Raises `pytest.UsageError` for what they cannot."""
    given: dict[str, Any] = {}
    for marker in item.iter_markers("llm_cache"):
        if len(marker.args) > 1:
            raise pytest.UsageError("@pytest.mark.llm_cache takes one name of a cassette")
        named = dict(zip(("cassette",), marker.args, strict=False))
        given = {**named, **marker.kwargs, **given}
    cassette, mode = given.pop("cassette", None), given.pop("mode", None)
    return Wish(cassette, mode, given.pop("seed", 41), given)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the cassettes of one module are.

    Args:
        base: the folder of all cassettes.
        folder: the module's own, in ``base``.
        module: the test module.
    """

    base: Path
    folder: Path
    module: Path

    def cassette(self, item: pytest.Item, wish: Wish) -> Path:
        """The cassette of a test: its own, a named one of its module, or of all modules."""
        if wish.cassette is None:
            return self.folder / f"{file_name(item)}.jsonl"
        name = wish.cassette.removesuffix(".jsonl")
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise pytest.UsageError(
                f"{wish.cassette!r} is no name of a cassette: write a name, or folder/name for one"
                " that several modules share"
            )
        return (self.folder if len(parts) == 1 else self.base) / f"{name}.jsonl"


def places_of(item: pytest.Item) -> Places:
    """Where the cassettes of a test's module are."""
    module, root = item.path, item.config.rootpath
    chosen = item.config.getini("llm_cache_dir")
    if not chosen:
        base = module.parent / FOLDER
        return Places(base, base / module.stem, module)
    base = root / os.path.expanduser(chosen)
    inside = module.relative_to(root) if module.is_relative_to(root) else Path(module.name)
    return Places(base, base / inside.with_suffix(""), module)


def file_name(item: pytest.Item) -> str:
    """The name of a test as a file name: its class, function and parameters.

    What file systems or shells take badly is replaced, and what is too long is cut; a hash then
    keeps names apart.
    """
    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    function, bracket, parameters = item.name.partition("[")
    plain = f"{function}-{parameters.removesuffix(']')}" if bracket else function
    full = ".".join([*classes, plain])
    name = _ODD.sub("-", full)
    if name == full and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(full.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[:_LONGEST].rstrip('-.')}-{digest}"
