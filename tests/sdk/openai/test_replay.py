"""Mode replay stays at home: what would reach a model is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import openai
import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache, ReplayMissError, no_cache
from cachewrap.http.routes import reaches_model
from sdk.openai.asking import Colour
from sdk.openai.shapes import INSTALLED, RESPONSES, chat, respond
from sdk.openai.test_uncached import Pipe
from sdk.resources import posts

Use = Callable[[Any], Any]
Row = tuple[str, tuple[int, int], str, Use]

REFUSED: list[Row] = [
    (
        "background",
        (1, 85),
        "background",
        lambda c: c.responses.create(**respond(1), background=True),
    ),
    (
        "background in the extra body",
        RESPONSES,
        "background",
        lambda c: c.responses.create(**respond(1), extra_body={"background": True}),
    ),
    (
        "background, streamed",
        (1, 85),
        "background",
        lambda c: c.responses.create(**respond(1), background=True, stream=True),
    ),
    (
        "background, raw",
        (1, 85),
        "background",
        lambda c: c.responses.with_raw_response.create(**respond(1), background=True),
    ),
    (
        "conversation",
        (1, 105),
        "conversation",
        lambda c: c.responses.create(**respond(1), conversation="conv_1"),
    ),
    (
        "conversation in the extra body",
        RESPONSES,
        "conversation",
        lambda c: c.responses.create(**respond(1), extra_body={"conversation": "conv_1"}),
    ),
    (
        "compaction",
        (2, 12),
        "endpoint",
        lambda c: c.responses.compact(model="gpt-x", input="Long"),
    ),
    (
        "batch",
        (1, 20),
        "endpoint",
        lambda c: c.batches.create(
            completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-1"
        ),
    ),
    ("video", (2, 2), "endpoint", lambda c: c.videos.create(prompt="A river")),
    (
        "search among vectors",
        (1, 66),
        "endpoint",
        lambda c: c.vector_stores.search("vs_1", query="rivers"),
    ),
    ("vectors", (1, 66), "endpoint", lambda c: c.vector_stores.create(file_ids=["file-1"])),
    (
        "evaluation",
        (1, 70),
        "endpoint",
        lambda c: c.evals.runs.create("eval_1", data_source={"type": "jsonl"}),
    ),
    (
        "tuning",
        (1, 0),
        "endpoint",
        lambda c: c.fine_tuning.jobs.create(model="gpt-x", training_file="file-1"),
    ),
    (
        "run of a thread",
        (1, 20),
        "endpoint",
        lambda c: c.beta.threads.runs.create("thread_1", assistant_id="asst_1"),
    ),
    (
        "thread and run",
        (1, 20),
        "endpoint",
        lambda c: c.beta.threads.create_and_run(assistant_id="asst_1"),
    ),
    (
        "unknown endpoint",
        (1, 0),
        "endpoint",
        lambda c: c.post("/somewhere/else", cast_to=object, body={"model": "gpt-x"}),
    ),
    (
        "unknown endpoint elsewhere",
        (1, 0),
        "endpoint",
        lambda c: c.post(f"{c.base_url}../elsewhere", cast_to=object, body={}),
    ),
    (
        "a question behind a path of data",
        (1, 0),
        "endpoint",
        lambda c: c.post("/files/../chat/completions", cast_to=object, body=chat(1)),
    ),
    (
        "body that is no object",
        (1, 0),
        "raw body",
        lambda c: c.post("/chat/completions", cast_to=object, body=[chat(1)]),
    ),
    (
        "a file that can be read once",
        (1, 0),
        "unkeyable",
        lambda c: c.audio.transcriptions.create(model="m", file=Pipe(b"RIFF")),
    ),
    (
        "a picture that can be read once",
        (1, 0),
        "unkeyable",
        lambda c: c.images.edit(image=Pipe(b"PNG"), prompt="Greener"),
    ),
]

THROUGH: list[Row] = [
    ("models", (1, 0), "method", lambda c: c.models.list()),
    ("a model", (1, 0), "method", lambda c: c.models.retrieve("m")),
    ("files", (1, 0), "method", lambda c: c.files.list()),
    ("upload", (1, 0), "endpoint", lambda c: c.files.create(file=b"{}", purpose="batch")),
    ("removal", (1, 0), "method", lambda c: c.files.delete("file-1")),
    ("response", RESPONSES, "method", lambda c: c.responses.retrieve("resp_1")),
    ("batch", (1, 20), "method", lambda c: c.batches.retrieve("batch_1")),
    ("end of a batch", (1, 20), "endpoint", lambda c: c.batches.cancel("batch_1")),
    ("end of a response", (1, 85), "endpoint", lambda c: c.responses.cancel("resp_1")),
    ("thread", (1, 20), "endpoint", lambda c: c.beta.threads.create()),
    (
        "message",
        (1, 20),
        "endpoint",
        lambda c: c.beta.threads.messages.create("thread_1", role="user", content="Hi"),
    ),
    ("conversation", (1, 105), "endpoint", lambda c: c.conversations.create()),
    (
        "update of a completion",
        (1, 60),
        "endpoint",
        lambda c: c.chat.completions.update("chatcmpl-1", metadata={"a": "b"}),
    ),
    ("put", (1, 0), "method", lambda c: c.put("/somewhere/else", cast_to=object, body={})),
]


def rows(table: list[Row]) -> list[Any]:
    return [
        pytest.param(reason, use, id=name)
        for name, since, reason, use in table
        if since <= INSTALLED
    ]


@pytest.mark.parametrize(("reason", "use"), rows(REFUSED))
class TestWhatReachesAModel:
    def test_is_refused_before_it_is_sent(
        self, up: Upstream, client: Any, colour: Colour, reason: str, use: Use
    ) -> None:
        cache = Cache.memory(mode="replay")
        with cache, pytest.raises(ReplayMissError, match="is not sent in mode replay") as raised:
            colour.wait(use(client))
        assert f"({reason})" in str(raised.value)
        assert raised.value.source.startswith("POST ")
        assert (up.calls, cache.stats.bypassed) == (0, 0)

    def test_is_a_bypass_in_the_other_modes(
        self, up: Upstream, client: Any, colour: Colour, reason: str, use: Use
    ) -> None:
        # What the stand-in answers is no matter.
        with Cache.memory() as cache, suppress(openai.APIError):
            colour.wait(use(client))
        assert up.calls == 1
        assert cache.stats.bypass_reasons == {reason: 1}


@pytest.mark.parametrize(("reason", "use"), rows(THROUGH))
class TestWhatReachesNone:
    def test_goes_through_and_is_counted(
        self, up: Upstream, client: Any, colour: Colour, reason: str, use: Use
    ) -> None:
        with Cache.memory(mode="replay") as cache, suppress(openai.APIError):
            colour.wait(use(client))
        assert up.calls == 1
        assert cache.stats.bypass_reasons == {reason: 1}

    def test_is_refused_where_the_cache_is_strict(
        self, up: Upstream, client: Any, colour: Colour, reason: str, use: Use
    ) -> None:
        cache = Cache.from_url("memory://?mode=replay&replay=strict")
        with cache, pytest.raises(ReplayMissError, match='replay="strict"'):
            colour.wait(use(client))
        assert (up.calls, cache.stats.bypassed) == (0, 0)


def test_the_default_cache_of_the_patch_stays_at_home_too(
    up: Upstream, client: Any, colour: Colour
) -> None:
    with (
        cachewrap.patch_openai(Cache.memory(mode="replay")),
        pytest.raises(ReplayMissError, match="endpoint"),
    ):
        colour.wait(client.post("/batches", cast_to=object, body={}))
    assert up.calls == 0


def test_a_call_in_mode_replay_stays_at_home(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    if INSTALLED < (1, 85):
        pytest.skip("no responses in the background")
    with cache, pytest.raises(ReplayMissError, match="background"):
        colour.wait(client.responses.create(**respond(1), background=True, mode="replay"))
    assert up.calls == 0


def test_a_request_without_a_key_says_what_is_wrong_with_it(client: Any, colour: Colour) -> None:
    with (
        Cache.memory(mode="replay"),
        pytest.raises(
            ReplayMissError, match=r"no key to look it up by: .*cannot be read twice"
        ) as raised,
    ):
        colour.wait(client.audio.transcriptions.create(model="m", file=Pipe(b"RIFF")))
    assert type(raised.value.__cause__).__name__ == "UnkeyableError"


def test_to_explain_a_call_that_is_never_stored_asks_nobody(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with pytest.raises(ReplayMissError, match="endpoint"):
        cache.explain(client.post, "/batches", cast_to=object, body={})
    assert up.calls == 0


@pytest.mark.parametrize("setting", ["no", "", None, True])
def test_an_unknown_setting_is_an_error(setting: Any) -> None:
    with pytest.raises(ValueError, match='replay must be "models" or "strict"'):
        Cache.memory(replay=setting)


def test_a_call_that_says_so_goes_upstream(up: Upstream, client: Any, colour: Colour) -> None:
    with Cache.memory(mode="replay"), no_cache(), suppress(openai.APIError):
        colour.wait(client.post("/batches", cast_to=object, body={}))
    assert up.calls == 1


# Every POST request of the SDK's own resources, in the versions that are tested; `x` is an id. A
# path that a newer version has is to be put where it belongs.
ASKS = """
    agents agents/automations agents/automations/x agents/automations/x/invocations
    agents/automations/x/resume agents/environments agents/environments/templates
    agents/environments/templates/x agents/environments/x/files agents/sessions
    agents/sessions/x agents/sessions/x/events agents/x audio/speech audio/transcriptions
    audio/translations audio/voices batches chat/completions chatkit/sessions completions
    content_provenance_checks decisions embeddings evals evals/x evals/x/runs evals/x/runs/x
    fine_tuning/alpha/graders/run fine_tuning/alpha/graders/validate
    fine_tuning/checkpoints/x/permissions fine_tuning/jobs fine_tuning/jobs/x/resume
    images/edits images/generations images/variations live/sessions live/sessions/x/accept
    live/sessions/x/fork live/sessions/x/refer moderations realtime/calls
    realtime/calls/x/accept realtime/calls/x/refer realtime/client_secrets realtime/sessions
    realtime/transcription_sessions realtime/translations/client_secrets responses
    responses/compact responses/input_tokens threads/runs threads/x/runs threads/x/runs/x
    threads/x/runs/x/submit_tool_outputs vector_stores vector_stores/x
    vector_stores/x/file_batches vector_stores/x/files vector_stores/x/files/x
    vector_stores/x/search videos videos/characters videos/edits videos/extensions
    videos/x/remix
""".split()
KEEPS = """
    agents/automations/x/pause assistants assistants/x audio/voice_consents
    audio/voice_consents/x batches/x/cancel chat/completions/x chatkit/sessions/x/cancel
    containers containers/x/files conversations conversations/x conversations/x/items
    evals/x/runs/x/cancel files fine_tuning/jobs/x/cancel fine_tuning/jobs/x/pause
    live/sessions/x/hangup live/sessions/x/reject realtime/calls/x/hangup
    realtime/calls/x/reject responses/x/cancel skills skills/x skills/x/versions threads
    threads/x threads/x/messages threads/x/messages/x threads/x/runs/x/cancel uploads
    uploads/x/cancel uploads/x/complete uploads/x/parts vaults vaults/x vaults/x/credentials
    vaults/x/credentials/x vector_stores/x/file_batches/x/cancel webhook_endpoints
    webhook_endpoints/x webhook_endpoints/x/rotate_secret webhook_endpoints/x/test
""".split()
ADMINISTERS = ("organization/", "projects/")


def test_every_request_of_the_sdk_is_known() -> None:
    found = {path for path in posts("openai") if not path.startswith(ADMINISTERS)}
    assert found - {*ASKS, *KEEPS} == set()


def test_the_rule_tells_what_asks_a_model() -> None:
    assert [path for path in ASKS if not reaches_model("POST", f"/{path}")] == []
    kept = [*KEEPS, *(f"{one}x" for one in ADMINISTERS)]
    assert [path for path in kept if reaches_model("POST", f"/{path}")] == []


@pytest.mark.parametrize("path", ["files/../responses", "files/%2e%2e/responses", "/v1/files/.."])
def test_a_path_is_told_by_where_it_leads(path: str) -> None:
    assert reaches_model("POST", path)


def test_no_password_in_an_address_is_told() -> None:
    client = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1")
    with Cache.memory(mode="replay"), pytest.raises(ReplayMissError) as raised:
        client.post("https://me:secret@127.0.0.1:9/v1/chat", cast_to=object, body={})
    assert raised.value.source == "POST https://127.0.0.1:9/v1/chat"
    assert "secret" not in str(raised.value)
