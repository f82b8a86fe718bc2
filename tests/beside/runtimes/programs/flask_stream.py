"""A generator that Flask reads after its view has returned: where a block reaches it."""

from collections.abc import Iterator

from asking import FOLDER, ask
from flask import Flask, Response, stream_with_context

from cachewrap import Cache, active_cache, patch_openai

patch_openai()
cache = Cache.disk(cache_path_root=FOLDER)
app = Flask(__name__)


def answers(text: str) -> Iterator[str]:
    yield "outside" if active_cache() is None else "inside"
    ask(text)


@app.get("/view")
def in_the_view() -> Response:
    with cache:
        return Response(list(answers("view")))


@app.get("/around")
def around_the_view() -> Response:
    with cache:
        return Response(stream_with_context(answers("around")))


@app.get("/inside")
def inside_the_generator() -> Response:
    def body() -> Iterator[str]:
        with cache:
            yield from answers("view")

    return Response(stream_with_context(body()))


client = app.test_client()
print([client.get(f"/{path}").text for path in ("view", "around", "inside")])
