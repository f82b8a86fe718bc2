"""How Sphinx builds the site: `tox run -e docs`."""

from __future__ import annotations

import re
from enum import Enum
from importlib.metadata import version as installed
from typing import Any

from sphinx.util.nodes import make_refnode

SOURCE = "https://github.com/cachewrap/cachewrap"

project = "cachewrap"
author = "The cachewrap developers"
project_copyright = author
version = release = installed("cachewrap")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
# `name` in a docstring is a name of the package where there is one, else code.
default_role = "py:obj"

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Keys", "params_style")]
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "cachewrap"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": f"{SOURCE}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

_COMMENT = re.compile(r"^<!--.*?-->\n", re.DOTALL | re.MULTILINE)
_OUTSIDE = re.compile(r"\]\((?:\.\./)+(?!docs/)([^)\s]*)\)")


def read(app: Any, name: str, source: list[str]) -> None:
    """Leave out what is there for the tests alone, and link to files that are no pages."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")  # so that a warning names the right line

    text = _COMMENT.sub(blank, source[0])
    depth = name.count("/")

    def outside(match: re.Match[str]) -> str:
        ups = match[0].count("../")
        return f"]({SOURCE}/blob/main/{match[1]})" if ups > depth else match[0]

    source[0] = _OUTSIDE.sub(outside, text)


def signature(app: Any, what: str, name: str, holder: Any, *given: Any) -> tuple[str, None] | None:
    """Show no arguments where nobody makes an object: of a protocol, an enumeration, an entry."""
    if what != "class":
        return None
    given_only = issubclass(holder, Enum) or getattr(holder, "_is_protocol", False)
    return ("", None) if given_only or holder.__name__ == "StoredEntry" else None


def find(app: Any, environment: Any, node: Any, shown: Any) -> Any:
    """The one object of a name that a docstring uses without its module."""
    if node.get("refdomain") != "py":
        return None
    target = str(node.get("reftarget", ""))
    known = environment.domains["py"].objects
    names = [name for name in known if name.endswith(f".{target}") and not known[name].aliased]
    if len(names) != 1:
        return None
    found = known[names[0]]
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, shown, names[0])


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    app.connect("autodoc-process-signature", signature)
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True}
