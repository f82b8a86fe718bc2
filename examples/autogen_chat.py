"""Let two agents of AutoGen 0.2 (or AG2 below 1.0) talk, twice: the second time costs nothing."""

from __future__ import annotations

import contextlib
import io

import autogen
from _service import Service, service

from cachewrap import Cache, patch_openai


def talk(target: Service) -> str:
    """What the teacher is asked for at the end of a short talk."""
    # `cache_seed=None` switches AutoGen's own cache off, which would hide ours.
    model = {"model": target.model, "price": [0.0, 0.0], **target.client}
    config = {"config_list": [model], "cache_seed": None}
    pupil = autogen.AssistantAgent("pupil", system_message="Ask about trees.", llm_config=config)
    teacher = autogen.AssistantAgent("teacher", system_message="Be brief.", llm_config=config)
    with contextlib.redirect_stdout(io.StringIO()):  # AutoGen prints what its agents say
        result = pupil.initiate_chat(teacher, message="Which tree is the oldest?", max_turns=2)
    return str(result.chat_history[-1]["content"])


def main() -> None:
    # Where patching is not wanted, `initiate_chat(..., cache=cache)` takes the cache itself.
    patch_openai()
    with service() as target, Cache.disk(cache_seed="autogen") as cache:
        for turn in ("first", "second"):
            calls = target.calls(cache.stats.misses)
            answer = talk(target)
            calls = target.calls(cache.stats.misses) - calls
            print(f"The {turn} time: upstream calls: {calls}: {answer}")
        print(f"cache.stats: {cache.stats}")


if __name__ == "__main__":
    main()
