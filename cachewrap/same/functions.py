"""A user's own function as a rule: the way out where no other rule is enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.request.code import fingerprint, layers
from cachewrap.request.constants import Constants, constants_among, source_of
from cachewrap.request.key import decode_request, encode
from cachewrap.same.rules import Changed, Request, Rule
from cachewrap.telemetry.events import warn_once

_ADVICE: Final = "define it with def, so that it has a name, which goes into the key"


class FunctionRule(Rule):
    """A function that takes a canonical request and gives it as it counts.

    Its name and its code are in the key, with the constants that it reads: a changed function asks
    anew. It is given a copy, which it may change. One that raises, or gives no request, leaves the
    request as it is, with one warning.

    Args:
        function: the function.

    Raises `ConfigurationError` for one without a name.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Request], Request]) -> None:
        name = source_of(function) if hasattr(function, "__qualname__") else ""
        if not name or "<lambda>" in name:
            raise ConfigurationError(f"same= has {function!r}, which has no name: {_ADVICE}")
        form: list[Any] = ["function", name]
        try:
            form.append(fingerprint(function))
            form.append(constants_among(Constants(layers(function)).survey()[1]))
        except UnkeyableError as error:
            raise ConfigurationError(f"same= has {name}, which has no key: {error}") from None
        super().__init__(name, form)
        self._function = function

    def apply(self, request: Request) -> Changed:
        before = encode(request)
        try:
            given = self._function(decode_request(before))
            if not isinstance(given, dict):
                raise TypeError(f"it gave {type(given).__name__} in place of a request")
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
