"""Files of rules: what they say, and what is wrong with them."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.same import (
    AGENTS,
    STEERING,
    ignore,
    in_call_order,
    renumber,
    replace,
    sorted_by_name,
)
from cachewrap.same.applied import check_rules
from cachewrap.same.files import read_rules

SAID: dict[str, tuple[str, Any]] = {
    "a field": ('ignore = "metadata"', ignore("metadata")),
    "fields": ('ignore = ["a", "b.c"]', ignore("a", "b.c")),
    "a text": ("replace = '''on \\d+'''\nwith = \"on …\"", replace(r"on \d+", "on …")),
    "a text somewhere": (
        "replace = 'a'\nwith = ''\nwhere = 'messages[role=system].content'",
        replace("a", "", where="messages[role=system].content"),
    ),
    "a text in two places": (
        "where = ['x', 'y']\nreplace = '(?i)a'\nwith = 'b'",
        replace("(?i)a", "b", where=["x", "y"]),
    ),
    "a text with numbers": (
        "replace = 'a'\nwith = 'b'\nnumbered = true",
        replace("a", "b", numbered=True),
    ),
    "ids": ("renumber = true", renumber()),
    "ids somewhere": ('renumber = ["a[*].id", "b"]', renumber("a[*].id", "b")),
    "results": ("in_call_order = true", in_call_order),
    "results somewhere": ('in_call_order = "history"', in_call_order("history")),
    "tools": ("sorted_by_name = true", sorted_by_name),
    "a set": ('set = "AGENTS"', AGENTS),
    "a set, in small letters": ('set = "steering"', STEERING),
    "two rules": ('ignore = "b"\n[[rule]]\nignore = "a"', [ignore("b"), ignore("a")]),
    "with a mark at the beginning": ("\ufeff", None),
    "comments alone": ("# none yet", None),
    "no rules": ("rule = []", None),
}


@pytest.mark.parametrize("name", SAID)
def test_it_says_what_python_says(name: str, tmp_path: Path) -> None:
    text, meant = SAID[name]
    if meant is not None:
        text = f"[[rule]]\n{text}\n"
    file = tmp_path / "rules.toml"
    for ends in ("\n", "\r\n"):
        file.write_bytes(text.replace("\n", ends).encode())
        assert read_rules(file) == (None if meant is None else check_rules(meant))


WRONG: dict[str, tuple[str, str]] = {
    "no TOML": ("[[rule]\n", "it is no TOML: .*three quotes"),
    "another table": ("[[rules]]\n", r"it has 'rules', .*\[\[rule\]\]"),
    "one bracket": ("[rule]\nignore = 'a'", "each with two brackets"),
    "no table": ("rule = [1]", "rule 1: it is no table"),
    "nothing in it": ("[[rule]]\nignore='a'\n[[rule]]", "rule 2: it says no rule"),
    "two at once": ("[[rule]]\nignore='a'\nset='AGENTS'", "rule 1: it is ignore and set at once"),
    "a slip": ("[[rule]]\nignor='a'", "did you mean ignore?"),
    "a name of no rule": ("[[rule]]\nfoo='a'", "which no rule has; known: ignore, replace"),
    "what is another rule's": ("[[rule]]\nignore='a'\nwith='b'", "'with' is of replace, not of"),
    "no path": ("[[rule]]\nignore=3", "ignore takes a path, or a list of them; got 3"),
    "no paths": ("[[rule]]\nignore=[]", "ignore takes paths"),
    "a bad path": ("[[rule]]\nignore='a['", "cannot be read at"),
    "what is asked": ("[[rule]]\nignore='messages'", "what is asked"),
    "no text for a match": ("[[rule]]\nreplace='a'", 'with = "…"; which is not there'),
    "no text": ("[[rule]]\nreplace='a'\nwith=1", "got 1"),
    "numbers that are no flag": ("[[rule]]\nreplace='a'\nwith='b'\nnumbered=1", "true or false"),
    "no expression": ("[[rule]]\nreplace=1\nwith='a'", "takes a regular expression, got 1"),
    "a bad expression": ("[[rule]]\nreplace='('\nwith='a'", "cannot be read"),
    "one that takes for ever": ("[[rule]]\nreplace='(a+)+b'\nwith='a'", "may take for ever"),
    "not true": ("[[rule]]\nrenumber=false", "renumber takes true, or paths"),
    "no set": ("[[rule]]\nset='ALL'", "set takes one of AGENTS, STEERING; got 'ALL'"),
    "no function": ("[[rule]]\nfunction='a'", 'function takes "package.module:name", got'),
    "no module": ("[[rule]]\nfunction='no_such_module:f'", "no_such_module cannot be imported"),
    "none of that name": ("[[rule]]\nfunction='json:nothing'", "json has no function 'nothing'"),
    "a class": ("[[rule]]\nfunction='json:JSONDecoder'", "has no function 'JSONDecoder'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str, tmp_path: Path) -> None:
    text, says = WRONG[name]
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=says) as raised:
        read_rules(file)
    assert str(raised.value).startswith(f"same={str(file)!r}: ")


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    for given, says in (
        (tmp_path / "none.toml", "there is no such file$"),
        ("none.toml", "there is no such file in /"),
        ("AGENTS", "the ready set is same=AGENTS, from cachewrap.same"),
        (tmp_path, "it is a folder"),
        ("", "it names no file"),
        ("a\0b", "holds no NUL"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            read_rules(given)
    for held, says in (
        (b"\xff\xfe", "no text in UTF-8"),
        (b"#" * 1_000_001, "more than 1,000,000"),
    ):
        (tmp_path / "other").write_bytes(held)
        with pytest.raises(ConfigurationError, match=says):
            read_rules(tmp_path / "other")


def test_a_function_is_imported_from_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(
        "def plain(request):\n    request['arguments'].pop('run', None)\n    return request\n"
    )
    (tmp_path / "rules.toml").write_text("[[rule]]\nfunction = 'my_rules:plain'\n")
    found = read_rules(tmp_path / "rules.toml")
    assert found is not None
    assert found == check_rules([__import__("my_rules").plain])
    assert found.apply({"arguments": {"run": 1}}).request == {"arguments": {}}
    del sys.modules["my_rules"]


def test_a_cache_takes_a_file_from_where_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text("[[rule]]\nignore = 'run'\n")
    meant = check_rules(ignore("run"))
    caches = [Cache.memory(same="rules.toml"), Cache.from_url("memory:?same=rules.toml")]
    caches += [Cache.memory(same=tmp_path / "rules.toml"), Cache.memory(same=[ignore("run")])]
    caches += [pickle.loads(pickle.dumps(cache)) for cache in caches]
    assert [cache.policy.same for cache in caches] == [meant] * 8
    with pytest.raises(ConfigurationError, match="no such file"):
        Cache.from_url("memory:?same=others.toml")
