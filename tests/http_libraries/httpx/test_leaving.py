"""A response whose iterator is dropped at the reason to stop, and which nobody closes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from standin import Upstream

from cachewrap import Cache, patch_httpx
from http_libraries.web import LOOPBACK, PATH, STREAM

WAIT = 20.0
STOP = b'"finish_reason":"stop"'

httpx = pytest.importorskip("httpx")


def test_who_asks_meanwhile_waits_for_the_rest(up: Upstream, cache: Cache) -> None:
    patch_httpx(hosts=LOOPBACK)
    with httpx.Client(base_url=up.root_url) as client, cache:
        request = client.build_request("POST", PATH, json=STREAM)
        response = client.send(request, stream=True)
        for chunk in response.iter_raw():
            if STOP in chunk:
                break
        assert b"[DONE]" in client.post(PATH, json=STREAM).content
        assert (up.calls, cache.stats.stored) == (1, 1)


SCRIPT = """
import sys, httpx
from cachewrap import Cache, patch_httpx
from cachewrap.http import body, shared_body

body.SECONDS = shared_body.SECONDS = float(sys.argv[3])
patch_httpx(hosts=["127.0.0.1:*"])
client = httpx.Client(base_url=sys.argv[1])
question = {"model": "m", "messages": [{"role": "user", "content": "Question 1"}], "stream": True}
with Cache.disk(cache_path_root=sys.argv[2]):
    request = client.build_request("POST", "/v1/chat/completions", json=question)
    response = client.send(request, stream=True)
    for chunk in response.iter_raw():
        if b'"finish_reason":"stop"' in chunk:
            break
"""


@pytest.mark.parametrize("stall", [False, True], ids=["it comes", "it stalls"])
def test_a_program_that_ends_waits_for_the_rest_but_not_for_ever(
    up: Upstream, tmp_path: Path, stall: bool
) -> None:
    pause = threading.Event()
    if stall:
        with httpx.Client(base_url=up.root_url) as client:
            pieces = client.post(PATH, json=STREAM).content.count(b"data: ")
        up.once(pause=pause, pause_after=pieces - 1)
    before, kept = up.calls, str(tmp_path / "kept")
    command = [sys.executable, "-c", SCRIPT, up.root_url, kept, "0.05" if stall else str(WAIT)]
    subprocess.run(command, timeout=WAIT, check=True)
    pause.set()
    assert up.calls - before == 1
    with Cache.disk(cache_path_root=kept) as cache:
        assert cache.stats is not None
        assert sum(1 for _ in cache.store.keys()) == (0 if stall else 1)
