"""The content of answers: what an endpoint's JSON or events have when they are whole, and tell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.http.encodings import read_frames
from cachewrap.ledger.recorder import CUT_OFF
from cachewrap.telemetry.reading import Reading
from cachewrap.telemetry.usage import Usage

Judged: TypeAlias = Usage | str
"""What a whole answer reports, or in a few words why it is not one that is stored."""

_ERROR: Final = "error"
_NO_JSON: Final = "no JSON"
_UNFINISHED: Final = "no finish reason"
BROKEN_OFF: Final = (CUT_OFF, _ERROR, _UNFINISHED)
"""Why a stream that upstream ended is no whole answer."""

_FIRST: Final = 16_384
"""Bytes in which the first event of a stream is looked for."""

CLOSING: Final = frozenset(
    {
        "message_stop",
        "response.completed",
        "response.incomplete",
        "speech.audio.done",
        "transcript.text.done",
    }
)
"""Kinds of events after which nothing follows that a caller would see."""

# One comes for each of several results: the stream is whole when it also ends properly.
_COMPLETE: Final = frozenset({"image_generation.completed", "image_edit.completed"})
_FAILED: Final = frozenset({"error", "response.failed", "response.error", "response.cancelled"})


def read_stream(body: bytes, *, ended: bool) -> Judged:
    """What a recorded event stream reports, or why it is not whole.

    Args:
        body: the decoded bytes that were recorded.
        ended: whether the stream came to its own end, rather than being closed by its reader.

    A stream is whole when its closing event was seen. One of an API that has none is whole when
    every choice has a finish reason (pictures are complete), and it then ended by itself or with
    ``[DONE]``. One with an error in it is never whole, nor a message that tells no reason to stop.
    """
    told = Reading()
    closed = finished = done = begun = stopped = False
    unfinished: dict[Any, bool] = {}
    for name, data in each_event(body):
        if data.startswith("[DONE]"):
            done = True
            break
        try:
            event = json.loads(data)
        except ValueError:
            return _NO_JSON
        if not isinstance(event, Mapping):
            continue
        if _is_error(name, event):
            return _ERROR
        kind = event.get("type") or name
        closed = closed or kind in CLOSING
        finished = finished or kind in _COMPLETE or event.get("stop") is True  # llama.cpp's own
        begun = begun or kind == "message_start"
        stopped = stopped or bool(stop_reason(event))
        _add(told, event)
        for choice in event.get("choices") or ():
            reason = choice.get("finish_reason")
            if choice.get("error") or reason in _BROKEN:
                return _ERROR
            index = choice.get("index", 0)
            unfinished[index] = unfinished.get(index, True) and not reason
    if unfinished:
        finished = not any(unfinished.values())
    if closed and begun and not stopped:
        return _UNFINISHED
    if closed or (finished and (ended or done)):
        return told.usage
    if unfinished and not finished:
        return _UNFINISHED
    return "no choices" if done and not finished else CUT_OFF


def stop_reason(event: Mapping[str, Any]) -> Any:
    """Why a message stopped, which it tells in a change of itself or at its start."""
    told = event.get("delta") or event.get("message")
    return told.get("stop_reason") if isinstance(told, Mapping) else None


def read_events(body: bytes) -> list[Any]:
    """The data of every event of a stream that has JSON in it, in order."""
    found = []
    for _, data in each_event(body):
        with suppress(ValueError, RecursionError):
            found.append(json.loads(data))
    return found


def read_binary_stream(body: bytes) -> Judged:
    """What a recorded stream of binary frames reports, or why it is not whole.

    It is whole when its closing event was seen and no error.
    """
    told, closed = Reading(), False
    for event in read_frames(body):
        if event is None or _is_error("", event):
            return _ERROR
        closed = closed or event.get("type") in CLOSING
        _add(told, event)
    return told.usage if closed else CUT_OFF


def read_any_stream(body: bytes, *, ended: bool) -> Judged:
    """What an event stream of an unknown API reports, or why it is not whole.

    It is whole when it has come to its end, or to a closing event, without an error. Where it tells
    of choices or candidates, each of them must have told why it finished.
    """
    told = Reading()
    finished: dict[Any, bool] = {}
    events = 0
    for name, data in each_event(body):
        if data.startswith("[DONE]"):
            ended = True
            break
        event = json.loads(data)
        if not isinstance(event, Mapping):
            continue
        if _is_error(name, event):
            return _ERROR
        events += 1
        ended = ended or (event.get("type") or name) in CLOSING
        _add(told, event)
        for kind, reason in (("choices", "finish_reason"), ("candidates", "finishReason")):
            for part in event.get(kind) or ():
                if part.get(reason) in _BROKEN:
                    return _ERROR
                place = kind, part.get("index", 0)
                finished[place] = finished.get(place, False) or bool(part.get(reason))
    if not all(finished.values()):
        return _UNFINISHED
    return told.usage if events and ended else CUT_OFF


def read_lines(body: bytes) -> Judged:
    """What a stream of JSON lines reports, or why an error or the end shows it bad.

    Raises `ValueError` for a line that is not JSON.
    """
    told, done = Reading(), True
    for line in body.splitlines():
        if not line.strip():
            continue
        event = json.loads(line)
        if not isinstance(event, Mapping):
            continue
        if _is_error("", event):
            return _ERROR
        _add(told, event)
        done = event.get("done", True) is not False
    return told.usage if done else _UNFINISHED


def shows_error(body: bytes, *, frames: bool = False) -> bool:
    """Whether an event stream, which may not be whole yet, has an event that tells of an error.

    Args:
        body: the decoded bytes that have come.
        frames: whether it is a stream of binary frames.
    """
    if frames:
        return any(event is None or _is_error("", event) for event in read_frames(body))
    for name, data in each_event(body):
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, Mapping) and _is_error(name, event):
            return True
    return False


def why_unreadable(body: bytes) -> str:
    """Why nothing of an event stream can be read: what its first event shows; "" where it can."""
    plain = body.startswith((b"data:", b"event:"))
    end = body.find(b"\n\n", 0, _FIRST) + 2 if plain else 0
    if end < 2:
        end = _FIRST
    is_cut = end == _FIRST < len(body)
    for name, data in each_event(body[:end]):
        if data.startswith("[DONE]"):
            return ""
        try:
            event = parsed(data)
        except ValueError:
            return "" if is_cut else _NO_JSON
        return _ERROR if isinstance(event, dict) and _is_error(name, event) else ""
    return "" if is_cut else "no events"


def _is_error(name: str, event: Mapping[str, Any]) -> bool:
    return (event.get("type") or name) in _FAILED or name == "error" or is_error(event)


def _add(told: Reading, event: Mapping[str, Any]) -> None:
    told.add(event)
    # Some events wrap what they tell of: ``response.completed``, ``message_start``.
    for name in ("response", "message"):
        if isinstance(part := event.get(name), Mapping):
            told.add(part)


def each_event(body: bytes) -> Iterator[tuple[str, str]]:
    """The name and data of each event, https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    name = ""
    data: list[str] = []
    text = body.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    if data:
        yield name, "\n".join(data)


# -- what the JSON of an answer has ---------------------------------------------------------------


Content: TypeAlias = Mapping[str, Any]
Lacks: TypeAlias = Callable[[Content], str]
"""Tells in a few words what an answer lacks, "" of one that is whole."""

# Why an answer that broke off says that it ended: OpenRouter, Mistral and Cohere; vLLM; DeepSeek.
_BROKEN: Final = frozenset(
    {
        *("error", "ERROR", "abort", "TIMEOUT", "USER_CANCEL"),
        "insufficient_system_resource",
    }
)
# What is told of a picture beside it.
_BESIDE: Final = frozenset({"index", "object", "revised_prompt", "seed", "type"})
_FAILURES: Final = frozenset({"error", "fail", "failed", "failure"})
_SUCCESSES: Final = frozenset({"", "ok", "success"})
_CODES: Final = ("code", "status", "statusCode", "status_code", "error_code", "errcode")
_SAID: Final = frozenset({"detail", "details", "msg", "message", "error_msg", "errmsg"})
_SIGNS: Final = frozenset({*_SAID, "error", "errors", "ok", "status", "success"})
_ENVELOPE: Final = frozenset(
    {
        *(*_SAID, *_CODES, "data", "id", "object", "param", "path", "reason", "request_id"),
        *("requestId", "success", "time", "timestamp", "title", "trace_id", "traceId", "type"),
    }
)


def is_error(value: Content) -> bool:
    """Whether JSON tells of an error, by the envelopes that servers and gateways put it in."""
    if value.get("object") == "error" or value.get("type") == "error":
        return True
    if _SIGNS.isdisjoint(value):
        return False
    if value.get("error") or value.get("errors") or value.get("success") is False:
        return True
    if value.get("ok") is False:
        return True
    status = value.get("status")
    if isinstance(status, str) and status.lower() in _FAILURES:
        return True
    told = {name for name, held in value.items() if held}
    if told == {"detail"}:
        return True
    return (
        not told.isdisjoint(_SAID)
        and told <= _ENVELOPE
        and any(_fails(name, value.get(name)) for name in _CODES)
    )


def _fails(name: str, code: object) -> bool:
    """Whether a code is one of a failure: a number as HTTP has them, or the name of an error."""
    try:
        number = int(code)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return isinstance(code, str) and "code" in name and code.lower() not in _SUCCESSES
    return number >= 400 or number < 0 or (number > 0 and name.startswith("err"))


def lacking(path: str, value: Content) -> str:
    """What the JSON that an endpoint answered lacks, "" where it is whole.

    Args:
        path: of the endpoint, without slashes at the ends.
        value: the JSON.
    """
    if is_error(value):
        return _ERROR
    return _lacks(path)(value)


def lacking_in_parts(path: str, parts: list[Any]) -> str:
    """The same of an answer in parts: the events of a stream, or a list in JSON."""
    found = [part for part in parts if isinstance(part, Mapping)]
    if any(map(is_error, found)):
        return _ERROR
    if _lacks(path) is not _candidates:
        return ""
    reasons: dict[Any, Any] = {}
    for one in [one for part in found for one in part.get("candidates") or ()]:
        reasons[one.get("index", 0)] = one.get("finishReason") or reasons.get(one.get("index", 0))
    blocked = next(filter(None, (part.get("promptFeedback") for part in found)), None)
    whole = [{"finishReason": reason} for reason in reasons.values()]
    return _candidates({"candidates": whole, "promptFeedback": blocked})


def is_whole_by_events(path: str) -> bool:
    """Whether the events of an endpoint tell when its stream is whole, as `read_stream` reads.

    Its answer is then always such a stream or a JSON object.
    """
    return _lacks(path) in (_choices, _completions, _response, _message)


def parsed(body: bytes | str) -> Any:
    """JSON, to be looked at. Raises `ValueError`."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:  # it does not take ``NaN``, which some servers send
        return json.loads(body)


def _choices(value: Content) -> str:
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        return "no choices"
    for choice in choices:
        if not isinstance(choice, dict):
            return "no choices"
        reason = choice.get("finish_reason")
        if choice.get("error") or reason in _BROKEN:
            return _ERROR
        if not reason:
            return _UNFINISHED
        message = choice.get("message")
        if choice.get("text") is None and not (message and isinstance(message, dict)):
            return "no message"
    return ""


def _anything(value: Content) -> str:
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("error"):
            return _ERROR
    return "" if value else "empty answer"


def _completions(value: Content) -> str:
    if "choices" not in value and "content" in value:  # of llama.cpp's own API
        return "" if value.get("stop") else _UNFINISHED
    return _choices(value)


def _completion(value: Content) -> str:
    known = "choices" in value or "content" in value
    return _completions(value) if known else _anything(value)


def _response(value: Content) -> str:
    if value.get("status") not in ("completed", "incomplete"):
        return "not completed"
    return "" if isinstance(value.get("output"), list) else "no output"


def _message(value: Content) -> str:
    if value.get("type", "message") != "message" or not isinstance(value.get("content"), list):
        return "no content"
    return "" if value.get("stop_reason") else _UNFINISHED


def _candidates(value: Content) -> str:
    candidates = value.get("candidates")
    if not candidates:
        blocked = (value.get("promptFeedback") or {}).get("blockReason")
        return "" if blocked else "no candidates"
    return "" if all(one.get("finishReason") for one in candidates) else _UNFINISHED


def _of_a_publisher(value: Content) -> str:
    """What Vertex answers for another company's model is in that one's own form."""
    if "choices" in value:
        return _choices(value)
    return _message(value) if value.get("type") == "message" else _anything(value)


def _embeddings(value: Content) -> str:
    vectors = value.get("data")
    if not isinstance(vectors, list):
        return "" if value.get("embeddings") or value.get("embedding") else "no embeddings"
    whole = all(one.get("embedding") or one.get("embeddings") for one in vectors)
    return "" if vectors and whole else "no embeddings"


def _pictures(value: Content) -> str:
    pictures = value.get("data") or ()
    whole = pictures and all(any(map(one.get, one.keys() - _BESIDE)) for one in pictures)
    return "" if whole else "no data"


def _done(value: Content) -> str:
    if "done" not in value:  # another API at the path of Ollama's
        return _anything(value)
    if value["done"] is not True:
        return _UNFINISHED
    return "" if value.get("message") or "response" in value else "no message"


def _cohere(value: Content) -> str:
    if value.get("finish_reason") in _BROKEN:
        return _ERROR
    if value.get("message") is None:
        return "no message"
    return "" if value.get("finish_reason") else _UNFINISHED


def _some(*names: str) -> Lacks:
    """One of these members has something in it."""
    return lambda value: "" if any(value.get(name) for name in names) else f"no {names[0]}"


def _given(*names: str) -> Lacks:
    """One of these members is there, though it may be empty or zero."""
    return lambda value: (
        "" if any(value.get(name) is not None for name in names) else f"no {names[0]}"
    )


_VERSIONED: Final = "(?:(?:.*/)?(?:v1|openai)/)?"
_ANYWHERE: Final = "(?:.*/)?"
_ANSWERS: Final[tuple[tuple[str, Lacks], ...]] = (
    (_ANYWHERE + "(?:chat|fim)/completions", _choices),
    (_ANYWHERE + "completions", _completions),
    (_ANYWHERE + "(?:completion|infill)", _completion),
    (_VERSIONED + "responses", _response),
    (_VERSIONED + "responses/input_tokens", _given("input_tokens")),
    (_VERSIONED + "messages", _message),
    (_VERSIONED + "messages/count_tokens", _given("input_tokens")),
    (_VERSIONED + "complete", _given("completion")),
    (_ANYWHERE + "api/(?:chat|generate)", _done),
    (_ANYWHERE + "(?:embeddings|embed)", _embeddings),
    (
        _ANYWHERE + "(?:moderations|classifications|classify)",
        _some("results", "classifications", "data"),
    ),
    (_ANYWHERE + "rerank", _some("results", "data")),
    (_ANYWHERE + "images/(?:generations|edits|variations)", _pictures),
    (_ANYWHERE + "audio/speech", _some("audio", "data", "output")),
    (_ANYWHERE + "audio/(?:transcriptions|translations)", _given("text", "segments")),
    (_ANYWHERE + "ocr", _some("pages")),
    (".*:(?:g|streamG)enerateContent", _candidates),
    (".*:(?:embedContent|batchEmbedContents)", _some("embedding", "embeddings")),
    (".*:countTokens", _given("totalTokens")),
    (".*:computeTokens", _given("tokensInfo")),
    (".*:predict", _some("predictions", "outputs")),
    (".*:(?:raw|streamRaw)[pP]redict", _of_a_publisher),
    ("v2/chat", _cohere),
    ("v1/chat", _given("text", "tool_calls")),
    ("v1/generate", _some("generations")),
    ("v1/summarize", _given("summary")),
    ("v[12]/tokenize", _given("tokens")),
    ("v[12]/detokenize", _given("text")),
)
"""What an answer of each endpoint has, by its path; the first that fits. Every member that is
asked for here is there in each answer of the providers that have the path."""


@lru_cache(maxsize=256)
def _lacks(path: str) -> Lacks:
    return next((lacks for form, lacks in _ANSWERS if re.fullmatch(form, path)), _anything)
