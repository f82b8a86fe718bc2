"""A user's own function as a rule: the way out where no other rule is enough."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.request.canonical import canonical
from cachewrap.request.code import fingerprint, layers
from cachewrap.request.constants import Constants, constants_among, source_of
from cachewrap.request.key import decode_request, encode
from cachewrap.same.rules import Changed, Request, Rule
from cachewrap.telemetry.events import warn_once

_ADVICE: Final = "define it with def, so that it has a name, which goes into the key"


class FunctionRule(Rule):
    """A function that takes a canonical request and gives it as it counts.

    Its name and its code are in the key, with the constants that it reads and its defaults: a
    changed function asks anew. It is given a copy, which it may change. One that raises, or gives
    no request, or reads what is no longer as the key has it, leaves the request as it is, with one
    warning.

    Args:
        function: the function.
        code: what its key has of its code, where that is known.

    Raises `ConfigurationError` for one without a name, and for one whose key would not say all
    that it does.
    """

    __slots__ = ("_constants", "_function", "_same")

    def __init__(self, function: Callable[[Request], Request], code: Any = None) -> None:
        name = source_of(function) if hasattr(function, "__qualname__") else ""
        if not name or "<lambda>" in name:
            raise ConfigurationError(f"same= has {function!r}, which has no name: {_ADVICE}")
        if inspect.ismethod(function):
            raise ConfigurationError(
                f"same= has {name}, a method: what its object holds is not in the key; write a "
                "function"
            )
        if any(is_one(function) for is_one in _LATER):
            raise ConfigurationError(
                f"same= has {name}, which gives no request when it is called: define it with def, "
                "without async and yield"
            )
        form: list[Any] = ["function", name]
        chain = layers(function)
        if len(chain) > 1:
            raise ConfigurationError(
                f"same= has {name}, which a decorator wraps: what that does is not in the key; "
                "give the function itself"
            )
        self._constants = Constants(chain)
        try:
            form.append(fingerprint(function) if code is None else code)
            self._same, values = self._constants.survey()
            form.append(constants_among(values))
            defaults = [[one.__defaults__, one.__kwdefaults__] for one in chain]
            if any(any(pair) for pair in defaults):
                form.append(canonical(defaults))
        except UnkeyableError as error:
            raise ConfigurationError(f"same= has {name}, which has no key: {error}") from None
        super().__init__(name, form)
        self._function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return FunctionRule, (self._function, self.form[2])

    def _check(self) -> None:
        """Raise `ConfigurationError` where it reads other constants than the key has."""
        if self._same is None or self._same():
            return
        same, values = self._constants.survey()
        if constants_among(values) != self.form[3]:
            raise ConfigurationError("it reads other values than when the rule was declared")
        self._same = same

    def apply(self, request: Request) -> Changed:
        before = encode(request)
        try:
            self._check()
            given = self._function(decode_request(before))
            if not isinstance(given, dict):
                raise TypeError(f"it gave {type(given).__name__} in place of a request")
            if not given:
                raise ValueError("it gave a request that says nothing")
            if _STREAM in request:  # the answer of a stream is none to what is no stream
                given = {**given, _STREAM: request[_STREAM]}
            after = encode(given)
            new = decode_request(after)
        except Exception as error:
            warn_once(
                ("same", self.label),
                f"same=: {self.label} cannot be applied, and what it would make equal is asked "
                f"anew: {error!r}",
            )
            return request, []
        return (request, []) if after == before else (new, [before])


_STREAM: Final = "stream"
_LATER: Final = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)
