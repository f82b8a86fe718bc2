"""Two drivers for one flow: they differ in `await` alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cachewrap.flow import Flow, Lookup, Save
from cachewrap.stores.base import Store

T = TypeVar("T")


def run(flow: Flow[T], store: Store, call: Callable[[], Any] | None = None) -> T:
    """Run a flow for a sync caller.

    Args:
        flow: the flow; it is used up.
        store: where `Lookup` and `Save` go.
        call: what `Call` calls; a flow without one needs none.
    """
    step: Callable[[], Any] = flow.__next__
    while True:
        try:
            effect = step()
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            result: Any
            if type(effect) is Lookup:
                result = store.get(effect.key)
            elif type(effect) is Save:
                result = store.add(
                    effect.key, effect.value, expires=effect.expires, over=effect.over
                )
            else:
                assert call is not None
                result = call()
        except StopIteration:
            # Thrown into a generator it would come out as a RuntimeError (PEP 479).
            flow.close()
            raise
        except BaseException as error:
            step = _thrower(flow, error)
        else:
            step = _sender(flow, result)


async def arun(flow: Flow[T], store: Store, call: Callable[[], Awaitable[Any]] | None = None) -> T:
    """Run a flow for an async caller. See `run`."""
    step: Callable[[], Any] = flow.__next__
    while True:
        try:
            effect = step()
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            result: Any
            if type(effect) is Lookup:
                result = await store.aget(effect.key)
            elif type(effect) is Save:
                result = await store.aadd(
                    effect.key, effect.value, expires=effect.expires, over=effect.over
                )
            else:
                assert call is not None
                result = await call()
        except BaseException as error:
            step = _thrower(flow, error)
        else:
            step = _sender(flow, result)


def _sender(flow: Flow[Any], result: Any) -> Callable[[], Any]:
    return lambda: flow.send(result)


def _thrower(flow: Flow[Any], error: BaseException) -> Callable[[], Any]:
    return lambda: flow.throw(error)
