"""Tools that carry their context into threads, beside ours, in both orders and undone in both."""

from __future__ import annotations

from typing import Any

import pytest

from beside.tools.carrying import CARRIERS, WAYS, Seen, run
from beside.tools.case import ORDERS
from beside.tools.conftest import Start
from beside.tools.watching import installed

EVERYWHERE = dict.fromkeys(WAYS, True)


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, start: Start) -> tuple[dict[str, Seen], Seen]:
    """What threads saw at each moment, and what of the tool's they see without us."""
    name, order = request.param
    running = start(run, name, order), start(run, name, ORDERS[0])
    found, first = (one.get(timeout=150) for one in running)
    return found, first["the tool alone"]


each = pytest.mark.parametrize(
    "seen",
    [
        pytest.param((name, order), id=f"{name}-{order}")
        for name, carrier in CARRIERS.items()
        if installed(carrier)
        for order in ORDERS
    ],
    indirect=True,
    scope="module",
)


def part(seen: Seen, which: int) -> dict[str, Any]:
    """Whether our block was there (0), or the tool's context (1); what was raised instead."""
    return {way: found if isinstance(found, str) else found[which] for way, found in seen.items()}


@each
@pytest.mark.parametrize(
    "moment", ["both", "the tool undone", "ours once more", "the tool once more"]
)
def test_the_block_is_there(seen: tuple[dict[str, Seen], Seen], moment: str) -> None:
    assert part(seen[0][moment], 0) == EVERYWHERE


@each
@pytest.mark.parametrize("moment", ["both", "the tool once more"])
def test_so_is_what_the_tool_carries(seen: tuple[dict[str, Seen], Seen], moment: str) -> None:
    assert part(seen[0][moment], 1) == part(seen[1], 1)


@each
def test_the_tool_alone_is_as_before_once_ours_is_undone(
    seen: tuple[dict[str, Seen], Seen],
) -> None:
    assert seen[0]["ours undone"] == seen[1]
