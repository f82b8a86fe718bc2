"""A block on an event loop of uvloop or trio, whose tasks ask the same at once."""

import sys

from asking import FOLDER, aask

from cachewrap import Cache, patch_openai

patch_openai()
answers: list[str] = []


async def one(text: str) -> None:
    answers.append(await aask(text))


async def in_trio() -> None:
    import trio

    async with Cache.disk(cache_path_root=FOLDER), trio.open_nursery() as nursery:
        for text in ("a", "b", "b", "b"):
            nursery.start_soon(one, text)


async def in_asyncio() -> None:
    import asyncio

    async with Cache.disk(cache_path_root=FOLDER):
        await asyncio.gather(*map(one, ("a", "b", "b", "b")))
        loop = asyncio.get_running_loop()
        answers.append(await loop.run_in_executor(None, lambda: asyncio.run(aask("a"))))


if sys.argv[1] == "trio":
    import trio

    trio.run(in_trio)
else:
    import uvloop

    uvloop.run(in_asyncio())
print(len(set(answers)))
