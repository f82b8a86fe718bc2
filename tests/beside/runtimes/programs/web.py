"""Applications for web servers, in processes that serve a cache as a whole."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from asking import FOLDER, aask, ask

from cachewrap import Cache, activate, active_cache, patch_threads

activated = f"disk:{FOLDER}"


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A plain application; what it asks is its path."""
    text = ask(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


def activated_wsgi() -> Any:
    """The plain application, made where the cache is activated."""
    activate(activated)
    return wsgi


def fastapi() -> Any:
    """An application of FastAPI, whose lifespan activates the cache."""
    from fastapi import Depends, FastAPI

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        activate(activated)
        yield

    def dependency() -> str:
        return ask("of a sync dependency")

    async def adependency() -> str:
        return await aask("of an async dependency")

    def inside() -> Iterator[Cache]:
        yield Cache.from_url(activated).reseed("dependency")

    app = FastAPI(lifespan=lifespan)

    @app.get("/sync")
    def sync(text: str = Depends(dependency)) -> list[str]:
        return [text, ask("of a sync path")]

    @app.get("/async")
    async def asynchronous(text: str = Depends(adependency)) -> list[str]:
        return [text, await aask("of an async path")]

    @app.get("/inside")
    def with_a_block(cache: Annotated[Cache, Depends(inside)]) -> list[str]:
        with cache:  # where it is used: what a dependency enters, no path sees
            return [ask("of a sync path")]

    return app


def reached() -> Any:
    """An application of FastAPI that says where a block reached, and where it did not."""
    from fastapi import Depends, FastAPI
    from fastapi.responses import StreamingResponse

    cache = Cache.memory()
    patch_threads()

    def seen() -> str:
        return "outside" if active_cache() is None else "inside"

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with cache:
            yield

    def dependency() -> Iterator[None]:
        with cache:
            yield

    async def adependency() -> AsyncIterator[None]:
        with cache:
            yield

    async def body() -> AsyncIterator[str]:
        yield seen()

    app = FastAPI(lifespan=lifespan)
    app.get("/lifespan")(seen)

    @app.get("/sync-dependency")
    def after_a_sync_one(entered: None = Depends(dependency)) -> str:
        return seen()

    @app.get("/async-dependency")
    def after_an_async_one(entered: None = Depends(adependency)) -> str:
        return seen()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        with cache:
            return StreamingResponse(body())

    return app
