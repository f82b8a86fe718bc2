"""Paths to the places of a request: names, ``*``, indices and conditions.

====================================== ===========================================================
``metadata.request_id``                a member of a member
``messages[0]``, ``messages[-1]``      an item, from the front or the back
``messages[*].content``, ``metadata.*`` every item, every member
``messages[role=system].content``      items with this member; ``|`` between several values, ``!=``
                                       for those without; of a single object: if it has it
``metadata["a.b"]``                    a name with dots or brackets
``headers.x-build``                    a header of a request over HTTP
``$.query.version``, ``$.url``         begins at the request itself, as ``cachewrap show`` prints it
====================================== ===========================================================

Else a path begins in the JSON body, or in the arguments of a function. What objects, tuples and
ordered members are in a request, such as ``{"!members": […]}``, is passed through: a path names
their fields and items.
"""

from __future__ import annotations

import re
from typing import Any, Final

from cachewrap.errors import ConfigurationError
from cachewrap.same.steps import (
    ANY,
    EVERY,
    GONE,
    At,
    Change,
    Every,
    Having,
    Named,
    Step,
    find,
    put,
    rewritten,
)

_TOKEN: Final = re.compile(
    r"""
      \.?(?P<name>[^.\[\]"'=*$\s|]+)
    | \.?(?P<every>\*)
    | \[(?P<all>\*)\]
    | \[(?P<index>-?\d{1,9})\]
    | \[(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\]
    | \[(?P<member>[^\[\]"'=!*$\s|]+)(?P<not>!?)=(?P<value>"(?:[^"\\]|\\.)*"|[^\[\]"']*)\]
    """,
    re.VERBOSE,
)

_BODY, _ARGUMENTS = "body", "arguments"
_PARTS: Final = (_BODY, _ARGUMENTS, "key")
"""The parts of a request that differ from call to call; the first that is there has the fields."""


class Path:
    """A path, read.

    Args:
        text: the path as it is written.

    Raises `ConfigurationError` for one that cannot be read.
    """

    __slots__ = ("_in_headers", "_root", "_steps", "text")

    text: str

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f'a path is text such as "metadata.request_id", got {text!r}')
        self.text = text = str.__str__(text)  # of an enum's member as well
        rooted = text == "$" or text.startswith(("$.", "$["))
        steps = _read(text, 1 if rooted else 0)
        self._root = "$" if rooted else ""
        self._steps = self._in_headers = tuple(steps)
        if len(steps) > 1 and steps[0] == Named("headers"):
            self._root = self._root or "headers"
            if isinstance(steps[1], Named):
                self._in_headers = (steps[0], Named(steps[1].name.lower()), *steps[2:])

    def rewrite(self, request: dict[str, Any], change: Change) -> dict[str, Any]:
        """A request with what stands at the path changed; the very request if nothing was.

        Args:
            request: the request. It is left as it is.
            change: is given each value there, in order.
        """
        if not self._root or (self._root == "headers" and "method" not in request):
            part = part_of(request)
            if part == "":
                return request
            held: Any = request if part is None else request[part]
            new: Any = rewritten(held, self._steps, 0, change)
            if part is None:
                return new if type(new) is dict else {}
            return request if new is held else put(request, part, new)
        found: Any = rewritten(request, self._in_headers, 0, change)
        if found is request or type(found) is not dict:
            return request
        for name in ("headers", "query"):  # a request that has none does not say so
            if found.get(name) == {}:
                found = put(found, name, GONE)
        changed: dict[str, Any] = found
        return changed

    @property
    def first(self) -> str:
        """The name that it begins with; ``$.name`` of one that begins at the request itself."""
        step = self._steps[0] if self._steps else None
        name = step.name if isinstance(step, Named) else "*" if step else ""
        return f"$.{name}".rstrip(".") if self._root == "$" else name

    @property
    def is_short(self) -> bool:
        """Whether it names no more than a field of the outermost object."""
        return len(self._steps) < 2

    def places(self, request: dict[str, Any]) -> list[list[int | str]]:
        """Which of several values stand at the path: the items and members that it leads through.

        Args:
            request: the request, in which it leads somewhere.
        """
        found: list[list[int | str]] = []
        steps = self._steps
        if not self._root or (self._root == "headers" and "method" not in request):
            part = part_of(request)
            find(request[part] if part else request, steps, 0, [], found)
        else:
            find(request, self._in_headers, 0, [], found)
        return found

    @property
    def is_many(self) -> bool:
        """Whether it may lead to several values."""
        return any(type(step) is Every or type(step) is Having for step in self._steps)

    def loosened(self) -> Path:
        """The path to all items of the lists in which it leads to some, whatever they hold now."""
        found = Path(self.text)
        found._steps, found._in_headers = (
            tuple(ANY if type(step) is At or type(step) is Having else step for step in steps)
            for steps in (self._steps, self._in_headers)
        )
        return found

    @property
    def is_chosen(self) -> bool:
        """Whether it leads to some of the items of a list alone."""
        return any(type(step) is At or type(step) is Having for step in self._steps)

    @property
    def is_steady(self) -> bool:
        """Whether no change of what stands there changes to where it leads."""
        last = self._steps[-1] if self._steps else None
        conditions = (step.names for step in self._steps if type(step) is Having)
        return isinstance(last, Named) and not any(last.name in names for names in conditions)

    @property
    def names(self) -> list[str]:
        """The names in it, without what only chooses among items, and the part it begins in."""
        names = [step.name for step in self._steps if type(step) is Named]
        return names[1:] if self._root == "$" and names[:1] in ([_BODY], [_ARGUMENTS]) else names

    def __reduce__(self) -> tuple[type[Path], tuple[str]]:
        return Path, (self.text,)

    def __repr__(self) -> str:
        return self.text


def part_of(request: dict[str, Any]) -> str | None:
    """The name of the part of a request that has its fields.

    None for one that has no parts, all of whose members are fields; "" for one over HTTP that has
    no JSON body.
    """
    for name in _PARTS:
        if name in request:
            return name
    return "" if "method" in request and "url" in request else None


def _read(text: str, at: int) -> list[Step]:
    steps: list[Step] = []
    while at < len(text):
        token = _TOKEN.match(text, at)
        if (
            token is None
            or (not steps and text[at] == "." and at == 0)
            or (steps and text[at] not in ".[")
        ):
            raise ConfigurationError(
                f"the path {text!r} cannot be read at {text[at:]!r}: write names with dots, [*], "
                '[0], [role=system], or ["a name"]'
            )
        steps.append(_step(token))
        at = token.end()
    return steps


def _step(token: re.Match[str]) -> Step:
    if (name := token["name"]) is not None:
        return Named(name)
    if token["every"] or token["all"]:
        return EVERY
    if token["index"]:
        return At(int(token["index"]))
    if token["quoted"]:
        return Named(_unquoted(token["quoted"]))
    value = token["value"]
    values = [_unquoted(value)] if value[:1] == '"' else value.split("|")
    names = tuple(token["member"].split("."))
    return Having(names, frozenset(one.strip() for one in values), bool(token["not"]))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
