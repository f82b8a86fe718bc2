"""Rules, each of which takes out of requests what does not matter.

A rule is given a canonical request and gives it back as it counts, with the rest: what it took out,
as values. The request and the rest together say no less than the request as it was asked, so that
of two requests that a rule made equal it can be told whether they were equal before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from cachewrap.errors import ConfigurationError
from cachewrap.request.states import packed as kept
from cachewrap.same.costs import Search, TooDear, bounded, is_cheap
from cachewrap.same.orders import (
    CALL_IDS,
    CONVERSATIONS,
    TOOLS,
    in_order_of_calls,
    in_order_of_names,
)
from cachewrap.same.paths import Path, part_of
from cachewrap.same.signs import sign_of
from cachewrap.same.steps import (
    GONE,
    Taken,
    items,
    opened,
    texts_before,
    texts_changed,
    whole,
    with_items,
)

Request: TypeAlias = dict[str, Any]

Changed: TypeAlias = tuple[Request, list[Any]]
"""A request as it counts, and the rest; the very request and nothing, where nothing changed."""


class Rule:
    """A rule of equality. It is made by the functions of `cachewrap.same`, and never changed.

    Attributes:
        label: the rule, as it is written in Python.
        form: what its digest is made of: plain values.
    """

    __slots__ = ("form", "label")

    label: str
    form: list[Any]

    def __init__(self, label: str, form: list[Any]) -> None:
        self.label = label
        self.form = form

    def apply(self, request: Request) -> Changed:
        """A request as it counts, and the rest. The request is left as it is."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self.form == other.form

    def __hash__(self) -> int:
        return hash(self.label)

    def __repr__(self) -> str:
        return self.label


def _paths(name: str, paths: Iterable[object]) -> list[Path]:
    found = [path if isinstance(path, Path) else Path(path) for path in paths]
    if not found:
        raise ConfigurationError(f'{name} takes paths, such as {name}("metadata.request_id")')
    return found


def _call(name: str, arguments: Iterable[object]) -> str:
    return f"{name}({', '.join(map(_quoted, arguments))})"


def _quoted(argument: object) -> str:
    """A text in double quotes; a pattern as a raw one, where that can be written."""
    text = str(argument)
    shown = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{shown}"'


def _raw(pattern: str) -> str:
    if '"' in pattern or "\n" in pattern or pattern.endswith("\\"):
        return repr(pattern)
    return f'r"{pattern}"' if "\\" in pattern else f'"{pattern}"'


# -- fields ------------------------------------------------------------------------------------

ASKED: Final = frozenset(
    "messages input inputs contents prompt prompts stream $ * "
    "$.method $.url $.function $.stream $.body $.arguments $.key $.*".split()
)
"""What cannot be ignored as a whole: every question would have the answer to the first one."""


_SAID: Final = frozenset({"content", "parts", "text"})
"""The members of what is asked that say it."""


def _asks_all(path: Path) -> bool:
    """Whether a path stands for all that is asked."""
    if path.is_short and path.first in ASKED:
        return True
    names = path.names
    if path.is_chosen or not names:
        return not names
    return names[0] in ASKED and (len(names) == 1 or set(names[1:]) <= _SAID)


class _Ignore(Rule):
    """A rule that leaves fields out.

    What its paths choose, they choose of the request as the rule found it: that the first item is
    left out makes the second one no first.
    """

    __slots__ = ("_chosen", "_many", "_paths")

    def __init__(self, paths: list[Path]) -> None:
        for path in paths:
            if _asks_all(path):
                raise ConfigurationError(
                    f"ignore() cannot leave out {path.text!r}: it is what is asked, and every "
                    "question would get the answer to the first one"
                )
        paths = [*{path.text: path for path in paths}.values()]
        self._paths = sorted(paths, key=lambda path: path.text)
        self._many = [path.is_many for path in self._paths]
        texts = [path.text for path in self._paths]
        super().__init__(_call("ignore", texts), ["ignore", texts])
        chosen = len(paths) > 1 and any(path.is_chosen for path in paths)
        self._chosen = [path.loosened() for path in paths] if chosen else []

    def __reduce__(self) -> tuple[Any, ...]:
        return _Ignore, (self._paths,)

    def apply(self, request: Request) -> Changed:
        rest: list[Any] = []
        number = 0
        chosen = self._chosen

        def leave_out(value: Any) -> Any:
            if type(value) is Taken:
                return value
            rest.append([number, whole(value) if chosen else value])
            return Taken(value) if chosen else GONE

        for number, path in enumerate(self._paths):  # `leave_out` reads it
            before, request = request, path.rewrite(request, leave_out)
            if before is not request and self._many[number]:
                rest.append(path.places(before))
        if rest:
            for path in chosen:
                request = path.rewrite(
                    request, lambda value: GONE if type(value) is Taken else value
                )
        return request, rest


def ignore(*paths: str) -> Rule:
    """Leave fields out: requests that differ in nothing else are the same.

    >>> ignore("headers.x-build", "metadata")
    ignore("headers.x-build", "metadata")

    Args:
        paths: fields of the JSON body, or arguments of a function, see `cachewrap.same.paths`.

    Raises `ConfigurationError` for a path that cannot be read, and for what is asked itself.
    """
    return _Ignore(_paths("ignore", paths))


# -- text --------------------------------------------------------------------------------------

NAMES_OF_MODELS: Final = frozenset(
    "deployment deployment_id engine model modelId model_id model_name".split()
)


_MESSAGES: Final = "messages"


class _Replace(Rule):
    """A rule that replaces what a regular expression finds in texts."""

    __slots__ = (
        *("_inside", "_last", "_numbered", "_over", "_pattern", "_plain", "_search", "_sign"),
        *("_steady", "_text", "_where"),
    )

    def __init__(
        self, pattern: re.Pattern[str], text: str, where: list[Path] | None, numbered: bool
    ) -> None:
        places = None if where is None else [path.text for path in where]
        shown = f"replace({_raw(pattern.pattern)}, {_quoted(text)}"
        if places:
            shown += f", where={_quoted(places[0]) if len(places) == 1 else places}"
        text = str.__str__(text)
        form = ["replace", str.__str__(pattern.pattern), pattern.flags, text, places]
        if numbered:
            shown += ", numbered=True"
            form.append("numbered")
        super().__init__(f"{shown})", form)
        try:
            pattern.sub(text, "")  # which reads the text, whatever it finds
        except (re.error, IndexError) as error:
            raise ConfigurationError(
                f"replace(): the text {text!r} cannot be put in place of a match: {error}"
            ) from None
        self._pattern = pattern
        self._search = bounded(pattern)
        self._sign = sign_of(pattern, is_cheap)
        self._numbered = numbered
        self._text = text
        self._plain = "\\" not in text
        self._where = where
        # Where paths may lead to one place, what is replaced there once is not searched again.
        over = where is not None and len({path.first for path in where}) < len(where)
        self._over = [path.loosened() for path in reversed(where or ())] if over else []
        self._steady = where is not None and len(where) == 1 and where[0].is_steady
        self._inside = where is not None and all(path.first == _MESSAGES for path in where)
        self._last: tuple[Any, Any, list[Any]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Replace, (self._pattern, self._text, self._where, self._numbered)

    def apply(self, request: Request) -> Changed:
        body = request.get("body") if self._inside else None
        if type(body) is not dict or not kept.holds(said := body.get(_MESSAGES)):
            return self._searched(request)
        # What a program asks over and over was searched before.
        last = self._last
        if last is None or last[0] is not said:
            request, rest = self._searched(request)
            self._last = said, request["body"][_MESSAGES], rest
            return request, rest
        _, new, rest = last
        if new is said:
            return request, rest
        return {**request, "body": {**body, _MESSAGES: new}}, rest

    def _searched(self, request: Request) -> Changed:
        try:
            return self._applied(request, self._search.quickly())
        except TooDear:
            try:
                return self._applied(request, self._search.closely())
            except TooDear:
                self._search.tell()
                return request, []

    def _applied(self, request: Request, search: Search) -> Changed:
        before = request
        text, plain, sign = self._text, self._plain, self._sign
        numbers: dict[str, str] | None = {} if self._numbered else None

        def change(value: str) -> str:
            if sign is not None and not sign(value):
                return value
            made: list[str] = []
            end = 0
            for match in search(value):
                begin = match.start()
                new = text if plain else match.expand(text)
                if numbers is not None:
                    new += numbers.setdefault(match.group(), f"⟨{len(numbers) + 1}⟩")
                made += (value[end:begin], new)
                end = match.end()
            if not made:
                return value
            new = "".join((*made, value[end:]))
            return value if new == value else new

        rest: list[Any] = []
        steady, seen = self._steady, 0

        def changed(value: Any) -> Any:
            nonlocal seen
            if type(value) is str:
                new = change(value)
            else:
                new = texts_changed(value, change, _NONE, self._numbered)
            if steady:
                seen += 1
                if new is not value:
                    texts_before(value, new, [seen], rest)
            return Taken(new) if self._over and new is not value else new

        if self._where is not None:
            for path in self._where:
                request = path.rewrite(request, changed)
            for path in self._over:
                request = path.rewrite(request, opened)
        elif (part := part_of(request)) != "":
            held: Any = request if part is None else request[part]
            new = texts_changed(held, change, NAMES_OF_MODELS, self._numbered)
            if new is not held:
                request = new if part is None else {**request, part: new}
        if not steady:
            texts_before(before, request, [], rest)
        return request, rest


_NONE: Final[frozenset[str]] = frozenset()


def replace(
    pattern: str | re.Pattern[str],
    text: str,
    *,
    where: str | Sequence[str] | None = None,
    numbered: bool = False,
) -> Rule:
    """Put a text in place of what a regular expression finds: a date, a path, an address.

    >>> replace(r"on \\d{4}-\\d\\d-\\d\\d", "on …", where="messages[role=system].content")
    replace(r"on \\d{4}-\\d\\d-\\d\\d", "on …", where="messages[role=system].content")

    Args:
        pattern: a regular expression of Python's `re`, or one that is compiled.
        text: takes the place of each match; ``\\1`` is the match's first group.
        where: path or paths of the texts; what stands there may also be an object or a list, all
            texts of which are meant. By default all texts of the JSON body or of the arguments,
            but for the names of models.
        numbered: whether a number is put behind the text, as in ``at 0x⟨1⟩``, by order of first
            sight of what is replaced: so that what was equal stays equal, and what differed
            differs.

    Raises `ConfigurationError` for a pattern that cannot be read or may take too long, see
    `cachewrap.same.costs`.
    """
    if isinstance(pattern, str):
        try:
            pattern = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigurationError(f"replace(): {pattern!r} cannot be read: {error}") from None
    given: Any = pattern
    if not isinstance(given, re.Pattern) or not isinstance(given.pattern, str):
        raise ConfigurationError(f"replace() takes a regular expression of text, got {given!r}")
    if not isinstance(text, str):
        raise ConfigurationError(f"replace() takes the text for each match, got {text!r}")
    places = None
    if where is not None:
        places = _paths("replace", [where] if isinstance(where, str) else where)
    return _Replace(pattern, text, places, numbered)


# -- ids that only link things -----------------------------------------------------------------


class _Renumber(Rule):
    """A rule that gives ids numbers, in the order in which they are first seen."""

    __slots__ = ("_paths",)

    def __init__(self, paths: list[Path]) -> None:
        texts = list(dict.fromkeys(path.text for path in paths))
        usual = texts == list(CALL_IDS)
        super().__init__(_call("renumber", () if usual else texts), ["renumber", texts])
        self._paths = paths

    def apply(self, request: Request) -> Changed:
        numbers: dict[Any, str] = {}
        ours: set[int] = set()  # of another path that leads to the same place

        def number(value: Any) -> Any:
            if (type(value) is not str and type(value) is not int) or id(value) in ours:
                return value
            known = numbers.get(value)
            if known is None:
                known = numbers[value] = f"#{len(numbers) + 1}"
                ours.add(id(known))
            return value if known == value else known

        found = request
        for path in self._paths:
            found = path.rewrite(found, number)
        return found, list(numbers) if found is not request else []


def renumber(*paths: str) -> Rule:
    """Give ids numbers by order of first sight: what they link stays linked.

    Args:
        paths: where the ids are, all that may be equal in one rule; by default the ids of the
            calls of tools in the messages of known APIs.

    Raises `ConfigurationError` for a path that cannot be read.
    """
    return _Renumber(_paths("renumber", paths or CALL_IDS))


# -- order that does not matter ----------------------------------------------------------------


class _Ordered(Rule):
    """A rule that puts the items of lists in an order of its own.

    It is a rule as it is, for the lists that known APIs have, and makes one for others when it is
    called.

    Args:
        name: what it is called.
        order: puts a list in its order, and tells how that was changed: nothing where it was not.
        paths: where the lists are.
        usual: whether they are those of known APIs.
    """

    __slots__ = ("_name", "_order", "_paths")

    def __init__(
        self,
        name: str,
        order: Callable[[list[Any]], tuple[list[Any], list[Any]]],
        paths: Sequence[str],
        *,
        usual: bool = False,
    ) -> None:
        self._paths = _paths(name, paths)
        texts = [path.text for path in self._paths]
        super().__init__(name if usual else _call(name, texts), [name, *texts])
        self._name = name
        self._order = order

    def __call__(self, *paths: str) -> Rule:
        """The same rule for the lists at these paths."""
        return _Ordered(self._name, self._order, paths) if paths else self

    def apply(self, request: Request) -> Changed:
        rest: list[Any] = []
        seen = 0

        def ordered(value: Any) -> Any:
            nonlocal seen
            seen += 1
            held = items(value)
            if len(held) < 2:
                return value
            new, moved = self._order(held)
            if not moved:
                return value
            rest.append([seen, moved])
            return with_items(value, new)

        for path in self._paths:
            request = path.rewrite(request, ordered)
        return request, rest


def _by_name(tools: list[Any]) -> tuple[list[Any], list[Any]]:
    order = in_order_of_names(tools)
    return [tools[at] for at in order], [] if order == sorted(order) else order


in_call_order: Final = _Ordered("in_call_order", in_order_of_calls, CONVERSATIONS, usual=True)
"""Put adjacent results of tools in the order of their calls, which programs append as they finish.

It is a rule as it is. ``in_call_order("history")`` is one for conversations elsewhere.
"""

sorted_by_name: Final = _Ordered("sorted_by_name", _by_name, TOOLS, usual=True)
"""Put tools in the order of their names, whatever order a program builds them in.

It is a rule as it is. ``sorted_by_name("toolbox")`` is one for lists elsewhere.
"""
