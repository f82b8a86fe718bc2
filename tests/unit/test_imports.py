"""What importing the package costs, and what it offers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import cachewrap

LIBRARIES = (
    "openai redis diskcache pydantic numpy httpx httpx2 requests aiohttp tenacity msgspec zstandard"
    " pytest"
).split()


def in_fresh_interpreter(code: str) -> Any:
    """What ``code`` prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """The names of every module in a process that has only imported cachewrap."""
    return list(
        in_fresh_interpreter("import cachewrap, json, sys; print(json.dumps(list(sys.modules)))")
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_importing_cachewrap_leaves_alone(library: str, loaded: list[str]) -> None:
    assert library not in loaded


def test_importing_cachewrap_loads_no_module_of_its_own(loaded: list[str]) -> None:
    assert [name for name in loaded if name.startswith("cachewrap")] == ["cachewrap"]


@pytest.mark.parametrize(
    ("name", "library"), [("Cache", "redis"), ("Cache", "openai"), ("llm_cached", "openai")]
)
def test_a_name_brings_only_what_it_needs(name: str, library: str) -> None:
    code = f"import json, sys, cachewrap; cachewrap.{name}; print(json.dumps(list(sys.modules)))"
    assert library not in in_fresh_interpreter(code)


@pytest.mark.parametrize("name", cachewrap.__all__)
def test_a_public_name(name: str) -> None:
    assert getattr(cachewrap, name) is not None
    assert name in dir(cachewrap)


def test_star_import_brings_every_public_name() -> None:
    names: dict[str, Any] = {}
    exec("from cachewrap import *", names)
    assert set(cachewrap.__all__) <= names.keys()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'cachewrap' has no attribute 'cach'"):
        _ = cachewrap.cach


def test_the_version_is_the_distributions() -> None:
    assert cachewrap.__version__ == version("cachewrap")


@pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="a tox environment has a wheel")
def test_the_built_wheel_is_what_is_tested() -> None:
    site_packages = Path(sysconfig.get_path("purelib"))
    assert Path(cachewrap.__file__).is_relative_to(site_packages)
    inside = in_fresh_interpreter("import cachewrap, json; print(json.dumps(cachewrap.__file__))")
    assert Path(inside) == Path(cachewrap.__file__)


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(cachewrap.__file__).parent / "py.typed").is_file()
