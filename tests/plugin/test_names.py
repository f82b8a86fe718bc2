"""The file of a cassette that a marker names, on every system."""

from __future__ import annotations

import ntpath
import re
import unicodedata
from itertools import combinations
from typing import Any

import pytest

from cachewrap.pytest_plugin.cassettes import FIXTURES, safe_path
from plugin.projects import Project

pytest_plugins = ["pytester"]

KEPT = ["named", "named.jsonl", "a/b", "shared/deep/named", "a-b_c.d=e+f", "v1.2", "x" * 100, ".a"]
CLEANED = [
    pytest.param("a?b*c", id="what Windows has not"),
    pytest.param('<>:"|', id="nothing else"),
    pytest.param("a b", id="a space"),
    pytest.param("named ", id="a space at the end"),
    pytest.param(" named", id="a space at the beginning"),
    pytest.param("named.", id="a dot at the end"),
    pytest.param("named..jsonl", id="a dot before the suffix"),
    pytest.param(".", id="a dot"),
    pytest.param("...", id="dots"),
    pytest.param("./named", id="this folder"),
    pytest.param("con", id="a device"),
    pytest.param("NUL", id="a device in capitals"),
    pytest.param("lpt1.txt", id="a device with a suffix"),
    pytest.param("aux/named", id="a folder that is a device"),
    pytest.param("x" * 300, id="300 characters"),
    pytest.param("x" * 101, id="101 characters"),
    pytest.param("x" * 300 + "/named", id="a long folder"),
    pytest.param("a\0b", id="NUL"),
    pytest.param("a\nb", id="a line break"),
    pytest.param("a\n", id="a line break at the end"),
    pytest.param("//abs", id="a share"),
    pytest.param("a//b", id="two separators"),
    pytest.param("a/b/", id="a separator at the end"),
    pytest.param("a\\b", id="a separator of Windows"),
    pytest.param("\\\\host\\share", id="a share of Windows"),
    pytest.param("C:\\named", id="a drive"),
    pytest.param("C:/named", id="a drive and a name"),
    pytest.param("..\\named", id="up, on Windows"),
    pytest.param("~", id="the home"),
    pytest.param("Named", id="a capital letter"),
    pytest.param("A/b", id="a capital letter in a folder"),
    pytest.param("für", id="a letter of its own"),
    pytest.param("\ud800", id="half a pair"),
    pytest.param("fixtures", id="the file of the fixtures"),
    pytest.param("named-0123abcd", id="what looks like a hash"),
]


@pytest.mark.parametrize("name", KEPT)
def test_a_name_that_every_system_takes_is_kept(name: str) -> None:
    assert "/".join(safe_path(name)) == f"{name.removesuffix('.jsonl')}.jsonl"


@pytest.mark.parametrize("name", CLEANED)
def test_another_is_cleaned_and_gets_a_hash(name: str) -> None:
    *folders, file = safe_path(name)
    assert file != FIXTURES
    assert any(re.search(r"-[0-9a-f]{8}(\.jsonl)?$", part) for part in (*folders, file))
    for part in (*folders, file.removesuffix(".jsonl")):
        assert re.fullmatch(r"[A-Za-z0-9_.=+-]{0,109}[A-Za-z0-9_=+-]", part)
        assert not ntpath.splitdrive(part)[0]
        assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part)


def test_two_names_are_never_one_file() -> None:
    given = {str(row.values[0]) for row in CLEANED} | set(KEPT[2:]) | {"named"}
    given |= {"NAMED", "nAmed", "CON", "Con", "named_", "named-", "a-b", "a/-b", "x" * 299}
    given |= {unicodedata.normalize(form, "für") for form in ("NFC", "NFD")}
    given |= {"/".join(safe_path(name)).removesuffix(".jsonl") for name in given}
    given.discard("named..jsonl")  # another way to write "named."
    files = {name: "/".join(safe_path(name)).casefold() for name in given}
    for one, other in combinations(sorted(given), 2):
        assert files[one] != files[other], (one, other)


@pytest.mark.parametrize(
    "name", ["", "/", ".jsonl", "..", "../named", "a/../b", "/named", 5], ids=repr
)
def test_what_leads_out_of_the_folder_is_no_name(name: Any) -> None:
    with pytest.raises(pytest.UsageError, match="is no name of a cassette"):
        safe_path(name)


def test_cleaned_names_are_recorded_and_replayed(project: Project) -> None:
    names = ["a?b*c", "con", "x" * 300, "a\0b", "//abs", "Case", "case", "CASE", "trailing. "]
    project.test(
        "".join(
            f"@pytest.mark.llm_cache({name!r})\ndef test_{number}():\n    assert ask({number})\n"
            for number, name in enumerate(names)
        )
    )
    project.run(passed=len(names))
    made = project.cassettes()
    assert len({name.casefold() for name in made}) == len(names)
    assert all(name.startswith("tests/cassettes/test_it/") for name in made)
    assert f"{len(names)} replayed" in project.run("--llm-cache=replay", passed=len(names))
