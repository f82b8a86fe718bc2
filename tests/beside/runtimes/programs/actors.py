"""Tasks and actors of Ray, in processes that serve a cache as a whole."""

import os
import sys

import ray
from asking import FOLDER, aask, ask

from cachewrap import activate


@ray.remote
def task(text: str) -> str:
    """A task, which activates the cache itself: it does not know of its process."""
    activate(f"disk:{FOLDER}")
    return ask(text)


class Actor:
    """An actor, whose constructor runs in another thread than its calls may."""

    def __init__(self) -> None:
        activate(f"disk:{FOLDER}")

    def ask(self, text: str) -> str:
        """The answer to a question."""
        return ask(text)


class AsyncActor:
    """An actor whose calls are tasks of a loop of its own."""

    def __init__(self) -> None:
        activate(f"disk:{FOLDER}")

    async def ask(self, text: str) -> str:
        """The answer to a question."""
        return await aask(text)


ray.init(
    num_cpus=2,
    include_dashboard=False,
    logging_level="ERROR",
    log_to_driver=False,
    _temp_dir=sys.argv[1],
    runtime_env={"env_vars": {n: os.environ[n] for n in ("PYTHONPATH", "ASK")}},
)
try:
    threaded = ray.remote(max_concurrency=4)(Actor).remote()
    awaiting = ray.remote(AsyncActor).remote()
    plain = ray.remote(Actor).remote()
    asked = [
        *(task.remote(text) for text in ("task", "the same")),
        *(actor.ask.remote(text) for actor in (threaded, plain) for text in ("actor", "the same")),
        *(awaiting.ask.remote(text) for text in ("awaited", "the same", "the same")),
    ]
    answers = ray.get(asked, timeout=300)
finally:
    ray.shutdown()
print(len(set(answers)))
