"""Rules applied: a checked list of them, its digest, and a request as it counts under it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from cachewrap.entry import By
from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.request.key import encode, endless, salted
from cachewrap.same.functions import FunctionRule
from cachewrap.same.rules import Rule, ignore, renumber, replace

Same: TypeAlias = Rule | Callable[[dict[str, Any]], dict[str, Any]]
"""A rule, or a function that takes a canonical request and gives it as it counts."""

_DIGITS: Final = 32
_REST_BYTES: Final = 8


class Applied(NamedTuple):
    """A request as it counts, and the rules that changed it, each with a digest of its rest."""

    request: dict[str, Any]
    by: By


class Rules:
    """The rules of one cache, in their order.

    Args:
        rules: the rules.

    Attributes:
        digest: tells them from others: it is in every key. 32 hexadecimal digits.
        labels: the rules as they are written in Python.
    """

    __slots__ = ("_prefix", "_rules", "digest", "labels")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self.labels = tuple(rule.label for rule in rules)
        form = encode([1, *(rule.form for rule in rules)])
        self.digest = hashlib.sha256(form).hexdigest()[:_DIGITS]
        self._prefix = salted(rules=self.digest)

    def prefix(self, *salt: str) -> bytes:
        """What stands in front of a request when it is hashed, see `salted`."""
        return salted(*salt, rules=self.digest) if salt else self._prefix

    def apply(self, request: dict[str, Any]) -> Applied:
        """A canonical request as it counts. It is left as it is.

        Raises `UnkeyableError` where it is nested too deeply.
        """
        by: list[tuple[str, bytes]] = []
        try:
            for rule in self._rules:
                request, rest = rule.apply(request)
                if rest:
                    by.append((rule.label, _digest(rest)))
        except RecursionError:
            raise endless("") from None
        return Applied(request, tuple(by))

    def followed_by(self, others: Rules) -> Rules:
        """These rules, and behind them those of the others that are not among them."""
        more = [rule for rule in others._rules if rule not in self._rules]
        return Rules([*self._rules, *more]) if more else self

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"[{', '.join(self.labels)}]"


_packed: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def _digest(rest: list[Any]) -> bytes:
    try:
        told = _packed(rest)
    except (OverflowError, UnicodeEncodeError, RecursionError, TypeError):
        try:
            told = encode(rest)
        except UnkeyableError:
            told = repr(rest).encode(errors="surrogatepass")
    return hashlib.blake2b(told, digest_size=_REST_BYTES).digest()


def check_rules(given: object) -> Rules | None:
    """The rules of a cache; None for none at all.

    Args:
        given: a rule, or a list of rules, functions and such lists.

    Raises `ConfigurationError` for anything else.
    """
    found = tuple(_flat(given))
    return Rules(found) if found else None


def _flat(given: Any) -> Iterable[Rule]:
    if isinstance(given, Rules):
        yield from given._rules
    elif isinstance(given, Rule):
        yield given
    elif given is renumber:
        yield renumber()
    elif given is ignore or given is replace:
        name = getattr(given, "__name__", "")
        raise ConfigurationError(f"same= has {name} itself: write {name}(…), as in {_EXAMPLE}")
    elif callable(given) and not isinstance(given, type):
        function: Any = given
        yield FunctionRule(function)
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes, dict)):
        for one in given:
            yield from _flat(one)
    else:
        raise ConfigurationError(f"same= takes a list of rules, as in {_EXAMPLE}; got {given!r}")


_EXAMPLE: Final = 'same=[ignore("metadata")] (from cachewrap.same import ignore)'
