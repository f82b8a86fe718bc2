"""Mode replay over plain HTTP: no question to a model leaves, whatever its host."""

from __future__ import annotations

from typing import Any

import pytest

from cachewrap import Cache, ReplayMissError, no_cache
from http_libraries.web import CHAT, LOOPBACK, PATH, Reading, Web, bodies

ELSEWHERE = ["model.internal:*"]


@pytest.fixture
def cache() -> Cache:
    return Cache.memory(mode="replay")


@bodies
def test_a_question_to_an_unknown_host_is_refused(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    web.patch(hosts=ELSEWHERE)
    with cache, pytest.raises(ReplayMissError, match="its host is not known") as raised:
        web.ask(body, reading=Reading())
    assert raised.value.source == f"POST {PATH}"
    assert f"to {web.up.root_url.removeprefix('http://')} (host not known)" in str(raised.value)
    assert (web.up.calls, cache.stats.bypassed, cache.stats.absent) == (0, 0, 1)


@pytest.mark.parametrize("reading", [None, Reading()], ids=["read", "open"])
def test_one_part_of_the_library_that_knows_other_hosts_refuses_too(
    web: Web, cache: Cache, reading: Reading | None
) -> None:
    web.inject(hosts=ELSEWHERE)
    with cache, pytest.raises(ReplayMissError, match="its host is not known"):
        web.ask(reading=reading)
    assert web.up.calls == 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"background": True}, "background"), ({"conversation": "c"}, "conversation")],
    ids=["background", "conversation"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_is_never_stored_is_refused(
    web: Web, cache: Cache, more: dict[str, Any], reason: str, stream: bool
) -> None:
    web.patch(hosts=LOOPBACK)
    with cache, pytest.raises(ReplayMissError, match=rf"\({reason}\) is not sent"):
        web.ask({**CHAT, **more, "stream": stream}, reading=Reading())
    assert web.up.calls == 0


@pytest.mark.parametrize(
    "path",
    ["/v1/batches", "/v1/videos", "/v1/audio/transcriptions", "/v1/models/m:predictLongRunning"],
)
def test_a_model_of_a_known_provider_is_not_made_to_work_in_any_other_way(
    web: Web, cache: Cache, path: str
) -> None:
    web.patch(hosts=LOOPBACK)
    with cache, pytest.raises(ReplayMissError, match=r"\(endpoint\) is not sent"):
        web.ask(path=path)
    with pytest.raises(ReplayMissError), cache:
        web.ask(path=path, **web.raw["upload"]())
    assert web.up.calls == 0
    with cache.mode("normal"):
        web.ask(path=path)
    assert (web.up.calls, cache.stats.bypass_reasons) == (1, {"endpoint": 1})


@pytest.mark.parametrize("raw", ["no JSON", "generator", "upload"])
@pytest.mark.parametrize("hosts", [LOOPBACK, ELSEWHERE], ids=["known", "unknown"])
def test_what_is_not_sent_as_json_is_refused(
    web: Web, cache: Cache, raw: str, hosts: list[str]
) -> None:
    web.patch(hosts=hosts)
    with cache, pytest.raises(ReplayMissError):
        web.ask(**web.raw[raw]())
    assert web.up.calls == 0


def test_a_slash_at_the_end_of_its_path_does_not_let_a_question_out(web: Web, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK)
    with cache, pytest.raises(ReplayMissError):
        web.ask(path=f"{PATH}/")
    assert web.up.calls == 0


def test_a_redirection_leads_nowhere_either(web: Web, cache: Cache) -> None:
    web.patch(hosts=ELSEWHERE)
    web.up.once(status=307, headers=(("location", PATH),))
    with cache, pytest.raises(ReplayMissError):
        web.ask(path="/v1/moved")
    assert web.up.calls == 1  # which asks no model


def test_what_asks_no_model_goes_through(web: Web, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK)
    with cache:
        web.get("/v1/models")
        web.ask({"text": "hello"}, "/v1/contacts")
    assert web.up.calls == 2


def test_what_the_program_leaves_uncached_goes_through(web: Web, cache: Cache) -> None:
    web.patch(hosts=ELSEWHERE)
    with cache, no_cache():
        web.ask()
    assert web.up.calls == 1


def test_a_default_cache_refuses_as_well(web: Web, cache: Cache) -> None:
    web.patch(cache, hosts=ELSEWHERE)
    with pytest.raises(ReplayMissError):
        web.ask()
    assert web.up.calls == 0
