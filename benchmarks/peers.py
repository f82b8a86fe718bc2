"""What others need for a hit on disk, each in turn with a raw read of the same answer.

Run as a program of its own in an environment that has the peer; a peer that is not installed there
is left out: `python -m benchmarks.peers`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.harness import Result, Row, measure
from benchmarks.requests import BIG, SMALL, Size

Make = Callable[[Size, str, ExitStack], Callable[[], Any]]


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


def langchain_sqlite(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    from langchain_community.cache import SQLiteCache
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.messages import AIMessage, HumanMessage

    cache = SQLiteCache(str(Path(folder) / "langchain.db"))
    model = FakeListChatModel(responses=[size.answer()], cache=cache)
    kinds: dict[str, Any] = {"user": HumanMessage, "assistant": AIMessage}
    messages = [kinds[one["role"]](one["content"]) for one in size.conversation()]
    return lambda: model.invoke(messages)


def autogen_disk(size: Size, folder: str, stack: ExitStack) -> Callable[[], Any]:
    from autogen import Cache, OpenAIWrapper

    class Model:
        """A client of its own, as AutoGen takes it; a hit never reaches it."""

        def __init__(self, config: Any, **_: Any) -> None: ...

        def create(self, params: Any) -> Any:
            from types import SimpleNamespace as Space

            message = Space(content=size.answer(), function_call=None)
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
    cache = stack.enter_context(Cache.disk(cache_seed=1, cache_path_root=folder))
    messages = size.conversation()
    return lambda: wrapper.create(messages=messages, cache=cache)


PEERS: dict[str, Make] = {
    "diskcache memoize": diskcache_memoize,
    "joblib.Memory": joblib_memory,
    "LangChain SQLiteCache": langchain_sqlite,
    "AutoGen 0.2 disk": autogen_disk,
}


def results(rounds: int) -> Iterator[Result]:
    """The peers that are installed here, each beside a raw read."""
    import diskcache

    for size in (SMALL, BIG):
        for name, make in PEERS.items():
            with tempfile.TemporaryDirectory() as ours, ExitStack() as stack:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                raw = stack.enter_context(diskcache.Cache(ours))
                raw.set("key", size.answer().encode())
                try:
                    call = make(size, folder, stack)
                except ImportError:
                    continue
                call()
                floor = Row("diskcache get", lambda raw=raw: raw.get("key"))  # type: ignore[misc]
                _, result = measure(f"peers, {size.name}", [floor, Row(name, call)], rounds)
                yield result


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(json.dumps([vars(one) for one in results(rounds)]))


if __name__ == "__main__":
    main()
