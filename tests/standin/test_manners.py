"""What the stand-in upstream can be told to do, seen from outside: over plain HTTP."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import standin
from standin import SECRET_HEADERS, Upstream
from standin.schema import example
from standin.wire import Draw

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def line(up: Upstream) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(up.root_url.removeprefix("http://"), timeout=10)
    yield connection
    connection.close()


def post(
    line: HTTPConnection,
    body: object = ASK,
    path: str = "/v1/chat/completions",
    **headers: str,
) -> HTTPResponse:
    line.request("POST", path, json.dumps(body), headers)
    return line.getresponse()


def answer(response: HTTPResponse) -> Any:
    return json.loads(response.read())


def test_answers_are_unique(line: HTTPConnection) -> None:
    texts = {answer(post(line))["choices"][0]["message"]["content"] for _ in range(5)}
    assert len(texts) == 5


def test_a_connection_is_kept(line: HTTPConnection) -> None:
    post(line).read()
    socket = line.sock
    post(line).read()
    assert line.sock is socket


def test_requests_are_kept_as_they_came(up: Upstream, line: HTTPConnection) -> None:
    post(line, {"a": 1}, "/v1/embeddings?x=y", **{"X-Tier": "gold"}).read()
    kept = up.last
    assert (kept.method, kept.path, kept.query) == ("POST", "/v1/embeddings", "x=y")
    assert (kept.headers["x-tier"], kept.json()) == ("gold", {"a": 1})


def test_calls_are_counted_in_total_and_by_path(up: Upstream, line: HTTPConnection) -> None:
    post(line).read()
    post(line).read()
    post(line, {"input": "a"}, "/v1/embeddings").read()
    assert (up.calls, up.by_path) == (3, {"/v1/chat/completions": 2, "/v1/embeddings": 1})


def test_a_body_in_chunks_is_read(up: Upstream, line: HTTPConnection) -> None:
    pieces = iter([b'{"input":', b'"chunked"}'])
    line.request("POST", "/v1/embeddings", pieces, encode_chunked=True)
    line.getresponse().read()
    assert up.last.json() == {"input": "chunked"}


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/chat/completions", "chat/completions"),
        ("/openai/deployments/my-gpt/chat/completions", "chat/completions"),
        ("/openai/v1/responses", "responses"),
        ("/openai/responses", "responses"),
        ("/v1/messages/count_tokens", "messages/count_tokens"),
    ],
)
def test_openai_azure_and_anthropic_paths_lead_to_one_endpoint(
    up: Upstream, line: HTTPConnection, path: str, endpoint: str
) -> None:
    response = post(line, path=path)
    response.read()
    assert (up.last.endpoint, response.status) == (endpoint, 200)


def test_an_unknown_path_is_not_found(line: HTTPConnection) -> None:
    assert post(line, path="/v1/nothing").status == 404


def test_failures_come_in_order_and_end(up: Upstream, line: HTTPConnection) -> None:
    up.fail(429, 500)
    statuses = []
    for _ in range(3):
        response = post(line)
        response.read()
        statuses.append(response.status)
    assert statuses == [429, 500, 200]


def test_a_failure_has_the_form_of_the_api(up: Upstream, line: HTTPConnection) -> None:
    up.fail(429, retry_after=0.5)
    response = post(line)
    assert response.headers["retry-after"] == "0.5"
    assert answer(response)["error"].keys() == {"message", "type", "param", "code"}


def test_a_body_is_sent_as_told(up: Upstream, line: HTTPConnection) -> None:
    up.once(body=b"not json")
    assert post(line).read() == b"not json"


def test_a_dropped_request_gets_no_answer(up: Upstream, line: HTTPConnection) -> None:
    up.once(drop=True)
    with pytest.raises(http.client.RemoteDisconnected):
        post(line)


def test_a_stream_ends_with_done(line: HTTPConnection) -> None:
    assert post(line, STREAM).read().endswith(b"\n\ndata: [DONE]\n\n")


def test_a_stream_can_end_politely_without_done(up: Upstream, line: HTTPConnection) -> None:
    up.once(done=False)
    body = post(line, STREAM).read()
    assert b"[DONE]" not in body
    assert b'"finish_reason":"stop"' in body


def test_a_stream_can_end_without_a_finish_reason(up: Upstream, line: HTTPConnection) -> None:
    up.once(finish=False)
    body = post(line, STREAM).read()
    assert b'"finish_reason":"stop"' not in body
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_cut_stream_ends_without_its_terminal_chunk(up: Upstream, line: HTTPConnection) -> None:
    up.once(cut_after=2)
    with pytest.raises(http.client.IncompleteRead) as caught:
        post(line, STREAM).read()
    assert caught.value.partial.count(b"data: ") == 2


def test_a_stream_can_break_with_an_error_event(up: Upstream, line: HTTPConnection) -> None:
    up.once(error_after=2)
    events = post(line, STREAM).read().decode().strip().split("\n\n")
    assert len(events) == 3
    assert events[-1].startswith('event: error\ndata: {"error":')


def test_a_stream_can_be_answered_with_plain_json(up: Upstream, line: HTTPConnection) -> None:
    up.once(stream=False)
    assert answer(post(line, STREAM))["object"] == "chat.completion"


def test_awkward_pieces_break_inside_events_characters_and_line_ends(
    up: Upstream, line: HTTPConnection
) -> None:
    up.once(awkward=True)
    response = post(line, STREAM)
    pieces = []
    while piece := response.read1(65536):
        pieces.append(piece)
    whole = b"".join(pieces)
    assert sum(piece.endswith(b"\r") for piece in pieces) == whole.count(b"\r\n")
    assert any(piece and piece[-1] >= 0xC0 for piece in pieces)
    assert any(not piece.endswith((b"\r", b"\n")) and piece[-1] < 0x80 for piece in pieces)
    assert "🌍" in whole.decode()


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["plain", "stream"])
def test_bodies_are_compressed_if_told_and_accepted(
    up: Upstream, line: HTTPConnection, body: object
) -> None:
    up.behave(gzip=True)
    response = post(line, body, **{"Accept-Encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert b"choices" in gzip.decompress(response.read())
    assert post(line, body).headers["content-encoding"] is None


def test_headers_are_added_as_told(up: Upstream, line: HTTPConnection) -> None:
    up.once(headers=SECRET_HEADERS)
    assert len(post(line).headers.get_all("set-cookie") or ()) == 2


def test_a_gate_holds_the_answer_back(up: Upstream, line: HTTPConnection) -> None:
    gate = threading.Event()
    up.once(gate=gate)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(post, line)
        up.wait_for(1)
        assert not waiting.done()
        gate.set()
        assert waiting.result(10).status == 200


def test_a_stream_pauses_until_told(up: Upstream, line: HTTPConnection) -> None:
    pause = threading.Event()
    up.once(pause=pause, pause_after=1)
    response = post(line, STREAM)
    first = response.read1(65536)
    assert b'"role":"assistant"' in first
    pause.set()
    assert response.read().endswith(b"[DONE]\n\n")


def test_waiting_for_calls_that_do_not_come_is_an_error(up: Upstream) -> None:
    with pytest.raises(TimeoutError):
        up.wait_for(1, timeout=0.01)


def test_reset_forgets_requests_and_manners(up: Upstream, line: HTTPConnection) -> None:
    post(line).read()
    up.behave(status=500)
    up.fail(429)
    up.reset()
    assert post(line).status == 200
    assert up.calls == 1


def test_it_stops_with_its_block() -> None:
    with Upstream() as up:
        address = up.root_url.removeprefix("http://")
        held = HTTPConnection(address, timeout=10)
        post(held).read()
    with pytest.raises(ConnectionRefusedError):
        HTTPConnection(address, timeout=10).request("GET", "/")
    held.close()


def test_a_structured_answer_fits_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "maximum": 3},
            "mood": {"enum": ["glad"]},
            "home": {"$ref": "#/$defs/Home"},
            "nick": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "marks": {"type": "array", "items": {"type": "number"}, "minItems": 2},
        },
        "$defs": {"Home": {"type": "object", "properties": {"town": {"const": "Ulm"}}}},
    }
    draw = Draw(7)
    assert example(schema, draw) == {
        "name": draw.text(),
        "age": 3,
        "mood": "glad",
        "home": {"town": "Ulm"},
        "nick": None,
        "marks": [7.5, 7.5],
    }


@pytest.mark.parametrize(
    ("form", "content"),
    [
        pytest.param({}, "Rome.", id="text"),
        pytest.param({"response_format": {"type": "json_object"}}, '{"answer":"Rome."}', id="json"),
    ],
)
def test_it_says_what_it_is_told(form: dict[str, Any], content: str) -> None:
    with Upstream(says=lambda subject: "Rome." if subject == "hi" else None) as up:
        line = HTTPConnection(up.root_url.removeprefix("http://"), timeout=10)
        line.request("POST", "/v1/chat/completions", json.dumps(ASK | form))
        answer = json.loads(line.getresponse().read())
        line.close()
    assert answer["choices"][0]["message"]["content"] == content


def test_a_schema_that_refers_to_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    assert '{"next": null}' in json.dumps(example(node, Draw(1)))


@pytest.mark.parametrize(
    ("changes", "called"),
    [
        ({"tool_choice": "required"}, True),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, True),
        ({"tool_choice": {"type": "any"}}, True),
        ({"tool_choice": {"type": "function", "function": {"name": "another"}}}, False),
        ({"messages": [{"role": "user", "content": "use weather"}]}, True),
        ({}, False),
        ({"tool_choice": "none"}, False),
    ],
)
def test_a_tool_is_called_when_asked_for(
    line: HTTPConnection, changes: dict[str, Any], called: bool
) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    [choice] = answer(post(line, {**ASK, "tools": [tool], **changes}))["choices"]
    assert ("tool_calls" in choice["message"]) is called


def test_files_of_a_form_keep_their_bytes(up: Upstream, line: HTTPConnection) -> None:
    content = bytes(range(256)) + b"\r\n--x\r\n\r"
    body = (
        b'--edge\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--edge\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"content-type: audio/wav\r\n\r\n" + content + b"\r\n--edge--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=edge"}
    line.request("POST", "/v1/audio/transcriptions", body, headers)
    assert "a.bin" in answer(line.getresponse())["text"]
    field, file = up.last.parts()
    assert (field.name, field.content) == ("model", b"m")
    assert (file.filename, file.content_type, file.content) == ("a.bin", "audio/wav", content)


def test_anthropic_messages_stream_from_start_to_stop(line: HTTPConnection) -> None:
    events = post(line, STREAM, "/v1/messages").read().decode().strip().split("\n\n")
    names = [event.split("\n")[0].removeprefix("event: ") for event in events]
    assert (names[0], names[-1]) == ("message_start", "message_stop")


def test_it_serves_as_a_program() -> None:
    command = [sys.executable, "-m", "standin"]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(Path(standin.__file__).parents[1])}
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        line = HTTPConnection(url.removeprefix("http://").removesuffix("/v1"), timeout=10)
        assert post(line).status == 200
        line.close()
        program.stdin.close()
        assert program.wait(10) == 0
