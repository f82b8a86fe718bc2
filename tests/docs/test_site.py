"""The site: it has every public name, and the package index is shown links that lead somewhere."""

from __future__ import annotations

import inspect
import io
import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from docs.pages import ROOT
from readme_renderer import markdown
from sphinx.util.inventory import InventoryFile

import cachewrap
from cachewrap.call.serve import Serving

SUBMODULES = """
    cachewrap.predicates.usable cachewrap.predicates.all_of
    cachewrap.entries.stored.StoredEntry cachewrap.policy.CacheOptions
    cachewrap.encryption.generate_key
    cachewrap.integrations.langchain.LangChainCache
    cachewrap.integrations.langchain.CacheMiddleware
    cachewrap.integrations.autogen.AutoGenCacheStore
    cachewrap.integrations.opentelemetry.telemetry
    cachewrap.testing.stores.StoreSuite cachewrap.testing.servers.redis_server
    cachewrap.same.ignore cachewrap.same.replace cachewrap.same.renumber
    cachewrap.same.in_call_order cachewrap.same.sorted_by_name
    cachewrap.same.AGENTS cachewrap.same.STEERING
    cachewrap.suggest.alike cachewrap.suggest.Pair
    cachewrap.stores.base.Store cachewrap.stores.base.Leases cachewrap.ledger.runs.Runs
    cachewrap.ledger.runs.Run cachewrap.ledger.calls.Call cachewrap.ledger.diff.Diff
""".split()

# What decorators, patches and integrations ask of a cache; of what they inherit, users have these.
OURS = {"explain_exchange", "sibling"} | set(dir(Serving)) - {"seed", "store", "url"}


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the site's inventory; the site is built if it is not there."""
    site = os.environ.get("CACHEWRAP_TEST_SITE")
    if not site:
        folder = tmp_path_factory.mktemp("site")
        site = str(folder / "site")
        command = [sys.executable, "-m", "sphinx", "-q", "-d", str(folder / "doctrees")]
        subprocess.run([*command, str(ROOT / "docs"), site], check=True, timeout=170)
    with Path(site, "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, path: path)
    return {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}


def public(holder: Any) -> list[str]:
    """The names of what a class says of itself to its users."""
    return [
        name
        for name, value in inspect.getmembers(holder)
        if not name.startswith("_")
        and name not in OURS
        and (callable(value) or isinstance(value, property))
    ]


@pytest.mark.parametrize("name", cachewrap.__all__)
def test_the_reference_has_every_public_name(name: str, documented: set[str]) -> None:
    assert f"cachewrap.{name}" in documented


@pytest.mark.parametrize("name", public(cachewrap.Cache))
def test_the_reference_has_every_method_of_a_cache(name: str, documented: set[str]) -> None:
    assert f"cachewrap.Cache.{name}" in documented


@pytest.mark.parametrize("name", SUBMODULES)
def test_the_reference_has_the_public_modules(name: str, documented: set[str]) -> None:
    assert name in documented


def test_the_package_index_is_given_whole_links() -> None:
    text = metadata("cachewrap")["Description"]
    assert re.findall(r"\]\((?!https://)[^)]*\)|(?:src|href)=\"(?!https://)[^\"]*", text) == []
    assert "<!--" not in text


def test_the_package_index_can_show_the_readme() -> None:
    about = metadata("cachewrap")
    assert about["Description-Content-Type"] == "text/markdown"
    told = io.StringIO()
    shown = markdown.render(about["Description"], stream=told)
    assert (told.getvalue(), "<h1" in (shown or "")) == ("", True)


def test_the_package_index_is_told_where_the_project_is() -> None:
    told = metadata("cachewrap").get_all("Project-URL") or []
    named = dict(line.split(", ", 1) for line in told)
    assert set(named) == {"Changelog", "Documentation", "Homepage", "Issues", "Source"}
    assert all(url.startswith("https://") for url in named.values())
