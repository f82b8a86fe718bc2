"""Files of rules: TOML, a table for each rule.

.. code-block:: toml

    [[rule]]
    ignore = ["metadata", "user"]

    [[rule]]
    replace = '''Today is \\d{4}-\\d\\d-\\d\\d'''
    with = "Today is …"
    where = "messages[role=system].content"

    [[rule]]
    renumber = ["messages[*].tool_calls[*].id", "messages[*].tool_call_id"]

    [[rule]]
    in_call_order = true

    [[rule]]
    set = "AGENTS"

``renumber``, ``in_call_order`` and ``sorted_by_name`` take paths, or ``true`` for where known APIs
have such things. ``function = "package.module:name"`` is a function of the program's own: it is
imported, also from the folder of the file, so a file with one runs code, and is for its user to
trust as a program is. Nothing looks for such a file by itself.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from cachewrap.errors import ConfigurationError
from cachewrap.same.applied import Rules, check_rules
from cachewrap.same.functions import FunctionRule
from cachewrap.same.rules import Rule, ignore, in_call_order, renumber, replace, sorted_by_name
from cachewrap.same.sets import AGENTS, STEERING
from cachewrap.systems import files

_TABLE: Final = "rule"
_SETS: Final[dict[str, tuple[Rule, ...]]] = {"AGENTS": AGENTS, "STEERING": STEERING}
_MOST_BYTES: Final = 1_000_000
_BESIDE: Final = {"replace": ("with", "where", "numbered")}


def read_rules(path: str | os.PathLike[str]) -> Rules | None:
    """The rules in a TOML file; None where it has none.

    Args:
        path: of the file, from the working directory.

    Raises `ConfigurationError` for a file that cannot be read, or has something else.
    """
    name = os.fsdecode(path)
    try:
        with _importing_from(os.path.dirname(os.path.abspath(name))):
            return check_rules(_rules_in(_parsed(_text_of(name))))
    except ConfigurationError as error:
        raise ConfigurationError(f"same={name!r}: {error}") from error.__cause__


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """Have modules that lie in a folder imported, whoever reads the file that lies there."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # what was imported may have changed the list
            sys.path.remove(folder)


def _text_of(name: str) -> str:
    if not name:
        raise ConfigurationError('it names no file: write same="rules.toml"')
    if "\0" in name:
        raise ConfigurationError("the name of a file holds no NUL")
    if files.is_folder(name):
        raise ConfigurationError("it is a folder, not a file of rules")
    try:
        with open(name, "rb") as file:
            held = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        if name in _SETS:
            raise ConfigurationError(
                f"there is no such file; the ready set is same={name}, from cachewrap.same"
            ) from None
        where = "" if os.path.isabs(name) else f" in {os.path.abspath(os.path.dirname(name))}"
        raise ConfigurationError(f"there is no such file{where}") from None
    except OSError as error:
        raise ConfigurationError(f"it cannot be read: {error.strerror or error}") from None
    if len(held) > _MOST_BYTES:
        raise ConfigurationError(f"it has more than {_MOST_BYTES:,} bytes, and is no file of rules")
    try:
        return held.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"it is no text in UTF-8: {error}") from None


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"it is no TOML: {error} (a regular expression stands in '''three quotes''', "
            "in which \\ is only \\)"
        ) from None


def _rules_in(held: dict[str, Any]) -> Iterable[Any]:
    for name in held:
        if name != _TABLE:
            hint = ": rules stand in tables [[rule]]"
            raise ConfigurationError(f"it has {name!r}, which is nothing that it may have{hint}")
    tables = held.get(_TABLE, [])
    if not isinstance(tables, list):
        raise ConfigurationError("rules stand in tables [[rule]], each with two brackets")
    for number, table in enumerate(tables, 1):
        try:
            if not isinstance(table, dict):
                raise ConfigurationError("it is no table: write [[rule]]")
            yield _rule_of(table)
        except ConfigurationError as error:
            raise ConfigurationError(f"rule {number}: {error}") from error.__cause__


def _rule_of(table: dict[str, Any]) -> Any:
    kinds = [name for name in table if name in _KINDS]
    known = [*_KINDS, *(name for names in _BESIDE.values() for name in names)]
    for name in table:
        if name not in known:
            close = difflib.get_close_matches(name.lower(), known, 1)
            meant = f": did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"
            raise ConfigurationError(f"it has {name!r}, which no rule has{meant}")
    if len(kinds) != 1:
        have = f"it is {' and '.join(kinds)} at once" if kinds else "it says no rule"
        raise ConfigurationError(f"{have}: each [[rule]] has one of {', '.join(_KINDS)}")
    (kind,) = kinds
    for name in table:
        if name != kind and name not in _BESIDE.get(kind, ()):
            raise ConfigurationError(f"{name!r} is of {_owner(name)}, not of {kind}")
    return _KINDS[kind](table)


def _owner(name: str) -> str:
    return next(kind for kind, names in _BESIDE.items() if name in names)


def _texts(table: dict[str, Any], name: str) -> list[str]:
    given = table[name]
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ConfigurationError(f"{name} takes a path, or a list of them; got {given!r}")
    return found


def _ignored(table: dict[str, Any]) -> Rule:
    return ignore(*_texts(table, "ignore"))


def _replaced(table: dict[str, Any]) -> Rule:
    pattern, text = table["replace"], table.get("with")
    if not isinstance(pattern, str):
        raise ConfigurationError(f"replace takes a regular expression, got {pattern!r}")
    if not isinstance(text, str):
        missing = "with" not in table
        got = "which is not there" if missing else f"got {text!r}"
        raise ConfigurationError(f'replace takes the text for each match, with = "…"; {got}')
    where = _texts(table, "where") if "where" in table else None
    numbered = table.get("numbered", False)
    if not isinstance(numbered, bool):
        raise ConfigurationError(f"numbered is true or false; got {numbered!r}")
    return replace(pattern, text, where=where, numbered=numbered)


def _at_paths(name: str, rule: Callable[..., Rule], usual: Rule) -> Callable[..., Rule]:
    """A rule that is for known APIs where it is said to hold, and else for paths."""

    def made(table: dict[str, Any]) -> Rule:
        given = table[name]
        if given is True:
            return usual
        if isinstance(given, bool) or given == []:
            raise ConfigurationError(f"{name} takes true, or paths; got {given!r}")
        return rule(*_texts(table, name))

    return made


def _of_set(table: dict[str, Any]) -> tuple[Rule, ...]:
    given = table["set"]
    if not isinstance(given, str) or given.upper() not in _SETS:
        raise ConfigurationError(f"set takes one of {', '.join(_SETS)}; got {given!r}")
    return _SETS[given.upper()]


def _function(table: dict[str, Any]) -> Rule:
    given = table["function"]
    form = 'function takes "package.module:name"'
    module, colon, name = given.partition(":") if isinstance(given, str) else ("", "", "")
    if not (module and colon and name):
        raise ConfigurationError(f"{form}, got {given!r}")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise ConfigurationError(f"{module} cannot be imported: {error}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found) or isinstance(found, type):
        raise ConfigurationError(f"{module} has no function {name!r}")
    function: Any = found
    return FunctionRule(function)


_KINDS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "ignore": _ignored,
    "replace": _replaced,
    "renumber": _at_paths("renumber", renumber, renumber()),
    "in_call_order": _at_paths("in_call_order", in_call_order, in_call_order),
    "sorted_by_name": _at_paths("sorted_by_name", sorted_by_name, sorted_by_name),
    "set": _of_set,
    "function": _function,
}
