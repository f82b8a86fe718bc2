"""Greenlets of eventlet in a block: patched before or after the cache is imported, or not."""

import sys

sys.modules["trio"] = None  # type: ignore[assignment]  # it cannot be imported beside eventlet

if sys.argv[1] == "first":
    import eventlet

    eventlet.monkey_patch()

from cachewrap import Cache, active_cache, patch_openai

patch_openai()
import eventlet

if sys.argv[1] == "late":
    eventlet.monkey_patch()

from asking import FOLDER, ask, stream
from eventlet import greenthread, tpool

done = eventlet.Queue()
started = eventlet.spawn(active_cache)
with Cache.disk(cache_path_root=FOLDER) as cache:
    answers = [
        eventlet.spawn(ask, "spawn").wait(),
        eventlet.spawn_after(0, ask, "spawn_after").wait(),
        greenthread.spawn_after_local(0, ask, "spawn_after_local").wait(),
        *eventlet.GreenPool(2).imap(ask, ["imap 1", "imap 2"]),
        eventlet.GreenPool(2).spawn(ask, "pool").wait(),
    ]
    eventlet.spawn_n(lambda: done.put(ask("spawn_n")))
    eventlet.GreenPool(2).spawn_n(lambda: done.put(ask("pool, spawn_n")))
    answers += [done.get(), done.get()]
    inner = eventlet.spawn(lambda: eventlet.spawn(active_cache).wait())
    assert inner.wait() is cache

    def enters() -> None:
        Cache.memory().__enter__()
        eventlet.sleep(0)

    eventlet.spawn(enters).wait()
    assert active_cache() is cache
    answers += eventlet.GreenPool(5).imap(ask, ["the same"] * 5)
    answers += eventlet.GreenPool(5).imap(stream, ["the same stream"] * 5)
    assert tpool.execute(active_cache) is cache
assert started.wait() is None
assert eventlet.spawn(active_cache).wait() is None
assert tpool.execute(active_cache) is None
print(len(set(answers)))
