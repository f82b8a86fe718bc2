"""What gevent and eventlet are given, in imitations; `beside/runtimes` has the real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from types import ModuleType
from typing import Any, ClassVar

import pytest

from cachewrap import Cache, patch_threads
from cachewrap.greenlets import carry
from cachewrap.options import active_cache

OTHER: ContextVar[str] = ContextVar("other", default="nothing")


class Greenlet:
    """A greenlet that was not started: it runs in its context, or in an empty one."""

    callbacks: ClassVar[set[Callable[[Any], None]]] = set()

    def __init__(self) -> None:
        self.gr_context: Context | None = None

    def run(self, work: Callable[[], Any]) -> Any:
        return (self.gr_context or Context()).run(work)

    @classmethod
    def add_spawn_callback(cls, callback: Callable[[Any], None]) -> None:
        cls.callbacks.add(callback)

    @classmethod
    def remove_spawn_callback(cls, callback: Callable[[Any], None]) -> None:
        cls.callbacks.discard(callback)


def spawned() -> Greenlet:
    """One of gevent's."""
    greenlet = Greenlet()
    for callback in Greenlet.callbacks:
        callback(greenlet)
    return greenlet


EVENTLET = """
class GreenThread(Greenlet):
    def __init__(self, parent):
        super().__init__()


def _spawn_n(seconds, func, args, kwargs):
    return "timer", Greenlet()
"""


@pytest.fixture
def gevent(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("gevent")
    module.Greenlet = Greenlet
    monkeypatch.setitem(sys.modules, "gevent", module)
    return module  # type: ignore[no-any-return]


@pytest.fixture
def eventlet(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("eventlet.greenthread")
    vars(module)["Greenlet"] = Greenlet
    exec(EVENTLET, vars(module))
    monkeypatch.setitem(sys.modules, "eventlet.greenthread", module)
    return module


@pytest.mark.usefixtures("gevent")
def test_a_greenlet_of_gevent_begins_where_it_was_spawned() -> None:
    with patch_threads(), Cache.memory() as cache:
        inside = spawned()
    assert (inside.run(active_cache), spawned().run(active_cache)) == (cache, None)


def test_those_of_eventlet_do_as_well(eventlet: Any) -> None:
    with patch_threads(), Cache.memory() as cache:
        made = [eventlet.GreenThread("parent"), eventlet._spawn_n(0, int, (), {})[1]]
    assert [one.run(active_cache) for one in made] == [cache, cache]
    assert eventlet.GreenThread("parent").gr_context is None


@pytest.mark.usefixtures("gevent")
def test_nothing_is_left_behind(eventlet: Any) -> None:
    with patch_threads(), patch_threads():
        assert Greenlet.callbacks == {carry}
    assert not Greenlet.callbacks
    with Cache.memory():
        assert eventlet.GreenThread("parent").gr_context is None


def test_nothing_else_of_the_context_is_carried() -> None:
    token = OTHER.set("something")
    greenlet = Greenlet()
    with Cache.memory():
        carry(greenlet)
    OTHER.reset(token)
    assert greenlet.run(OTHER.get) == "nothing"


def test_a_context_that_was_given_stays() -> None:
    greenlet = Greenlet()
    given = greenlet.gr_context = Context()
    with Cache.memory():
        carry(greenlet)
    assert greenlet.gr_context is given
