"""The store of the manual keeps the promises of every store."""

from __future__ import annotations

import re
from pathlib import Path

from sites import block, shelf_in


def test_it_passes_the_conformance_suite(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    (shelf.work / "test_shelf.py").write_text(block("test_shelf.py"))
    out = shelf.run("""
        import pytest, sys
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "test_shelf.py"]))
    """)
    assert re.search(r"1\d\d passed", out)
    assert "failed" not in out
