"""Greenlets of gevent in a block: patched before or after the cache is imported, or not."""

import sys

if sys.argv[1] == "first":
    from gevent import monkey

    monkey.patch_all()

from cachewrap import Cache, active_cache, patch_openai

patch_openai()
if sys.argv[1] == "late":
    from gevent import monkey

    monkey.patch_all()

import asyncio

import gevent
from asking import FOLDER, aask, ask, stream
from gevent.pool import Group, Pool
from gevent.threadpool import ThreadPool, ThreadPoolExecutor

started = gevent.spawn(active_cache)
with Cache.disk(cache_path_root=FOLDER) as cache:
    answers = [
        gevent.spawn(ask, "spawn").get(),
        gevent.spawn_later(0, ask, "spawn_later").get(),
        gevent.Greenlet.spawn(ask, "Greenlet.spawn").get(),
        *Pool(2).map(ask, ["pool 1", "pool 2"]),
        *Pool(2).imap(ask, ["imap 1", "imap 2"]),
        *Group().imap_unordered(ask, ["group"]),
        Group().apply_async(ask, ("apply_async",)).get(),
        ThreadPool(1).spawn(ask, "thread").get(),
        ThreadPoolExecutor(1).submit(ask, "executor").result(),
    ]
    inner = gevent.spawn(lambda: gevent.spawn(active_cache).get())
    assert inner.get() is cache

    def enters() -> None:
        Cache.memory().__enter__()
        gevent.sleep(0)

    gevent.spawn(enters).get()
    assert active_cache() is cache
    answers += Pool(5).map(ask, ["the same"] * 5)
    answers += Pool(5).map(stream, ["the same stream"] * 5)
    answers.append(gevent.spawn(lambda: asyncio.run(aask("a loop in a greenlet"))).get())
assert started.get() is None
assert gevent.spawn(active_cache).get() is None
print(len(set(answers)))
