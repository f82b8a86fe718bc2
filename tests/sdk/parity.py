"""One call of an SDK, by its patch and as plain HTTP: each finds what the other stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, patch_httpx
from cachewrap.http.httpx import HttpxWire
from cachewrap.http.multipart import Form, parse_multipart
from sdk.openai.asking import Ask, Seen, unmarked


@dataclass
class Ways:
    """What a call showed in both ways.

    Args:
        keys: the canonical requests that were stored under their keys, by the patch and as HTTP.
        calls: how many calls reached upstream when either asked for what the other had stored.
        seen: what a caller of the patch saw, then one of plain HTTP whom its entry served.
        back: the same the other way round.
    """

    keys: tuple[dict[str, Any], dict[str, Any]]
    calls: int
    seen: tuple[Seen, Seen]
    back: tuple[Seen, Seen]


def both_ways(
    name: str,
    asking: Callable[[Upstream, str], AbstractContextManager[Ask]],
    patch: Callable[[], AbstractContextManager[object]],
) -> Ways:
    """Make a call in both ways, and again with the other's cache.

    Args:
        name: the colour.
        asking: opens a client of a colour, and asks with it.
        patch: patches the SDK.
    """
    by_patch, by_http = Cache.memory(), Cache.memory()
    with Upstream() as up, asking(up, name) as ask:
        with patch(), by_patch:
            first = ask()
        with plain(), by_http:
            second = ask()
        before = up.calls
        with plain(), by_patch:
            first_again = ask()
        with patch(), by_http:
            second_again = ask()
        calls = up.calls - before
    keys = tuple(
        {entry.key: entry.request for entry in cache.entries()} for cache in (by_patch, by_http)
    )
    return Ways(keys, calls, (first, first_again), (second, second_again))  # type: ignore[arg-type]


def plain() -> AbstractContextManager[object]:
    """The patch of httpx alone."""
    return patch_httpx(hosts=["127.0.0.1:*"])


@pytest.fixture(scope="module")
def forms() -> Any:
    """Wires of httpx that tell the forms in their requests, as those of the proxy do."""

    def form(self: Any) -> Form | None:
        kind = self._request.headers.get("content-type", "")
        if not kind.startswith("multipart/"):
            return None
        return parse_multipart(kind, self._request.read())

    patched = pytest.MonkeyPatch()
    patched.setattr(HttpxWire, "form", form)
    yield
    patched.undo()


def by_turns(shapes: Iterable[Any]) -> pytest.MarkDecorator:
    """A test over what the fixture ``ways`` makes of every shape, of sync and async by turns."""
    return pytest.mark.parametrize(
        "ways",
        [
            pytest.param(
                (shape, colour := shape.colours[n % len(shape.colours)]),
                id=f"{shape.name}-{colour}",
            )
            for n, shape in enumerate(shapes)
        ],
        indirect=True,
        scope="module",
    )


class Parity:
    """The facts, over a fixture ``ways`` for each shape."""

    def test_the_requests_and_their_keys_are_equal(self, ways: Ways) -> None:
        by_patch, by_http = ways.keys
        assert list(by_patch.values()) == list(by_http.values())
        assert by_patch.keys() == by_http.keys()
        assert by_patch

    def test_either_is_served_what_the_other_stored(self, ways: Ways) -> None:
        assert ways.calls == 0

    def test_plain_http_sees_what_the_patch_saw(self, ways: Ways) -> None:
        first, again = map(unmarked, ways.seen)
        assert again == first

    def test_the_patch_sees_what_plain_http_saw(self, ways: Ways) -> None:
        first, again = map(unmarked, ways.back)
        assert again == first
