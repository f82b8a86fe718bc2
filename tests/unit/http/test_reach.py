"""Which requests of an SDK make a model work: the rule, on paths as the SDKs have them."""

from __future__ import annotations

import pytest

from cachewrap.http.routes import reaches_model

MODELS = (
    "/batches",
    "/chat/completions",
    "/chat/completions/",
    "/completions",
    "/decisions",
    "/embeddings",
    "/evals",
    "/evals/e_1/runs",
    "/fine_tuning/jobs",
    "/fine_tuning/jobs/j_1/resume",
    "/images/generations",
    "/realtime/client_secrets",
    "/responses/compact",
    "/responses/resp_1",
    "/threads/runs",
    "/threads/t_1/runs",
    "/threads/t_1/runs/r_1/submit_tool_outputs",
    "/v1/messages",
    "/v1/messages/batches",
    "/v1/sessions/s_1/events",
    "/openai/v1/batches",
    "/vector_stores",
    "/vector_stores/v_1/search",
    "/vector_stores/v_1/files",
    "/videos",
    "/videos/v_1/remix",
    "/somewhere/else",
    "/filesystem",
    "",
    "https://elsewhere.example/v1/anything",
)
KEEPS = (
    "/files",
    "/v1/files",
    "/v1/files?beta=true",
    "/openai/v1/files",
    "/uploads",
    "/uploads/u_1/parts",
    "/uploads/u_1/complete",
    "/conversations",
    "/conversations/c_1/items",
    "/containers/c_1/files",
    "/assistants",
    "/assistants/a_1",
    "/threads",
    "/threads/t_1",
    "/threads/t_1/messages",
    "/threads/t_1/messages/m_1",
    "/threads/t_1/runs/r_1/cancel",
    "/chat/completions/c_1",
    "/responses/resp_1/cancel?beta=true",
    "/v1/messages/batches/b_1/cancel",
    "/batches/b_1/cancel",
    "/v1/skills/s_1/versions",
    "/organization/projects",
    "https://elsewhere.example/v1/files",
)


@pytest.mark.parametrize("url", MODELS)
def test_a_model_may_be_asked(url: str) -> None:
    assert reaches_model("POST", url)
    assert reaches_model("post", url)


@pytest.mark.parametrize("url", KEEPS)
def test_data_is_kept(url: str) -> None:
    assert not reaches_model("POST", url)


@pytest.mark.parametrize("method", ["get", "GET", "DELETE", "put", "PATCH"])
def test_other_methods_ask_no_model(method: str) -> None:
    assert not reaches_model(method, "/responses/resp_1")
