"""All of a canonical request but its body, worked out anew only where its sources changed."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from cachewrap.patch.request import canonical_request, is_given

Inputs: TypeAlias = tuple[Any, ...]

_SIMPLE: Final = (str, int, float, bool, type(None))


class Rest:
    """Remembers the rest of the last request, and what it was made of.

    Args:
        stream: whether the requests ask for a stream.
    """

    def __init__(self, stream: bool) -> None:
        self._stream = stream
        self._last: tuple[Inputs, dict[str, Any]] | None = None

    def of(self, client: Any, options: Any, path: str) -> dict[str, Any]:
        """The rest of a request. It is not to be changed.

        Args:
            client: the SDK's client.
            options: its request options, the same at each call.
            path: where the request goes.
        """
        inputs = _inputs(client, path)
        last = self._last
        if inputs is not None and last is not None and last[0] == inputs:
            return last[1]
        rest = canonical_request(client, options, path, None, stream=self._stream)
        if inputs is not None:
            self._last = inputs, rest
        return rest


def _inputs(client: Any, path: str) -> Inputs | None:
    """What `canonical_request` reads of a client, as values; None where there are others."""
    transport = client._client
    headers = []
    for name, value in client.default_headers.items():
        if type(value) is not str:
            if value is not None and is_given(value):
                return None
            value = None
        headers.append((name, value))
    query = client.default_query
    if query and any(type(value) not in _SIMPLE for value in query.values()):
        return None
    given, params = getattr(transport, "headers", None), getattr(transport, "params", None)
    return (
        path,
        str(client.base_url),
        headers,
        given.raw if given else None,
        str(params) if params else None,
        repr(query) if query else None,
    )
