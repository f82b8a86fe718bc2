"""Greenlets of gevent that ask a function the same at once, while its upstream lets others run."""

import sys
from collections.abc import Iterator

if sys.argv[1] == "first":
    from gevent import monkey

    monkey.patch_all()

from cachewrap import Cache, llm_cached, patch_threads

patch_threads()
if sys.argv[1] == "late":
    from gevent import monkey

    monkey.patch_all()

import gevent
from asking import FOLDER
from gevent.pool import Pool

calls: list[str] = []


@llm_cached
def answer(text: str) -> str:
    calls.append(text)
    for _ in range(5):
        gevent.sleep(0)
    return text.upper()


@llm_cached
def tell(text: str) -> Iterator[str]:
    calls.append(text)
    for letter in text:
        gevent.sleep(0)
        yield letter


with Cache.disk(cache_path_root=FOLDER):
    answers = Pool(4).map(answer, ["abc"] * 4)
    told = Pool(4).map(lambda text: "".join(tell(text)), ["def"] * 4)
print(len(calls), *sorted({*answers, *told}))
