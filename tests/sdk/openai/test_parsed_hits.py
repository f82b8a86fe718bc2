"""Parsed hits at the door: what they give, and how classes among the keywords are told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import pydantic
import pytest
from pydantic import BaseModel, Field
from shapes import SHAPED
from standin import Upstream

from cachewrap import Cache
from cachewrap.sdk.front import door, keywords
from cachewrap.sdk.openai import OPENAI
from sdk.openai.asking import Colour, anatomy
from sdk.openai.shapes import INSTALLED, TOOLS, WEATHER, chat, respond
from sdk.openai.test_front import LONG, forget, went_long

pytestmark = pytest.mark.skipif(
    INSTALLED < (1, 109), reason="this version's models are left to the SDK"
)


@pytest.fixture(autouse=True)
def unknowing(patched: None) -> None:
    forget()


class Inner(BaseModel):
    """A part."""

    n: int = Field(description="a number", ge=0)


class Answer(BaseModel):
    """An answer."""

    model_config = pydantic.ConfigDict(json_schema_extra={"x": [1]})

    text: str
    parts: list[Inner]
    kind: Literal["a", "b"] = "a"


GOOD = json.dumps({"text": "t", "parts": [{"n": 1}], "kind": "b"})
CALL = {
    "id": "c",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"town": "Bonn"}'},
}


def completion(*choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "choices": [{"index": n, **choice} for n, choice in enumerate(choices)],
    }


def message(content: Any = GOOD, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **more}
    return {"finish_reason": finish_reason, "message": said}


ANSWERS: dict[str, dict[str, Any]] = {
    "one choice": completion(message()),
    "three choices": completion(message(), message(), message("{}", refusal="no")),
    "a refusal": completion(message(None, refusal="I will not")),
    "no content": completion(message("")),
    "tool calls": completion(message(None, "tool_calls", tool_calls=[CALL])),
    "a call of a tool that it was not given": completion(
        message(
            None,
            "tool_calls",
            tool_calls=[{**CALL, "function": {"name": "f", "arguments": "{}"}}],
        )
    ),
    "cut off": completion(message(GOOD[:9], "length")),
    "filtered": completion(message(None, "content_filter")),
    "no JSON": completion(message("hello")),
    "another thing": completion(message('{"text": 1}')),
    "more than is known": completion({**message(audio=None, reasoning="r"), "extra": [1]}),
    "no list of choices": {**completion(message()), "choices": {"a": 1}},
    "a text for a message": completion({"finish_reason": "stop", "message": "hi"}),
}


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return anatomy(call())
    except Exception as error:
        told = getattr(error, "completion", None)
        return type(error), str(error), told and anatomy(told)


def parse(client: Any, colour: Colour, *, raw: bool = False, **more: Any) -> Any:
    completions = client.chat.completions
    method = completions.with_raw_response.parse if raw else completions.parse
    asked = {**chat(1), "response_format": Answer, **more}
    result = colour.wait(method(**asked))
    return result.parse() if raw else result


@pytest.mark.parametrize("raw", [False, True], ids=["parse", "raw parse"])
@pytest.mark.parametrize("more", [{}, {"tools": TOOLS}], ids=["no tools", "tools"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_hit_gives_or_raises_what_the_long_way_does(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    answer: dict[str, Any],
    more: dict[str, Any],
    raw: bool,
) -> None:
    up.behave(body=json.dumps(answer).encode())
    with cache:
        for _ in range(3):
            outcome(lambda: parse(client, colour, raw=raw, **more))
        calls = up.calls
        found = outcome(lambda: parse(client, colour, raw=raw, **more))
        long = outcome(lambda: parse(client, colour, raw=raw, **more, **LONG))
        assert found == long
        if answer is ANSWERS["one choice"]:
            assert not went_long(lambda: parse(client, colour, raw=raw, **more))
            assert calls == up.calls == 1


def output(*items: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "r",
        "created_at": 1,
        "model": "m",
        "object": "response",
        "status": "completed",
        "output": list(items),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def text(said: str, **more: Any) -> dict[str, Any]:
    content = {"type": "output_text", "text": said, "annotations": []}
    return {
        "type": "message",
        "id": "o",
        "role": "assistant",
        "status": "completed",
        "content": [content],
        **more,
    }


OUTPUTS: dict[str, dict[str, Any]] = {
    "a text": output(text(GOOD)),
    "two texts": output(text(GOOD), text(GOOD)),
    "a text of another phase": output(text("thinking", phase="commentary"), text(GOOD)),
    "a refusal": output(text(GOOD, content=[{"type": "refusal", "refusal": "no"}])),
    "no JSON": output(text("hello")),
    "a call": output(
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    ),
    "something new": output({"type": "new", "id": "n"}),
}


@pytest.mark.parametrize("answer", OUTPUTS.values(), ids=OUTPUTS.keys())
@pytest.mark.parametrize(
    "more", [{}, {"tools": [{"type": "function", **WEATHER}]}], ids=["no tools", "tools"]
)
def test_a_parsed_response_is_what_the_long_way_gives(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    answer: dict[str, Any],
    more: dict[str, Any],
) -> None:
    def go(**how: Any) -> Any:
        return colour.wait(client.responses.parse(**respond(1), text_format=Answer, **more, **how))

    up.behave(body=json.dumps(answer).encode())
    with cache:
        for _ in range(3):
            outcome(go)
        assert outcome(go) == outcome(lambda: go(**LONG))
        if answer is OUTPUTS["a text"]:
            assert not went_long(go)
            assert up.calls == 1


def test_a_tool_that_the_sdk_refuses_is_refused_at_the_door_too(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.behave(body=json.dumps(ANSWERS["one choice"]).encode())
    loose = [{"type": "function", "function": {**WEATHER, "strict": False}}]
    strict = {"tools": TOOLS}
    with cache:
        for _ in range(3):
            parse(client, colour, **strict)
        assert not went_long(lambda: parse(client, colour, **strict))
        with pytest.raises(ValueError, match="is not strict"):
            parse(client, colour, tools=loose)
    assert up.calls == 1


# -- classes -------------------------------------------------------------------------------------


def settled(client: Any, colour: Colour, cls: Any) -> Any:
    """What calls with a class give, the last of which came to the door."""
    results = [parse(client, colour, response_format=cls) for _ in range(4)]
    assert not went_long(lambda: parse(client, colour, response_format=cls))
    return results[-1]


@pytest.fixture
def good(up: Upstream) -> Upstream:
    up.behave(body=json.dumps(ANSWERS["one choice"]).encode())
    return up


def test_classes_are_told_apart(good: Upstream, client: Any, colour: Colour, cache: Cache) -> None:
    class Other(BaseModel):
        text: str

    with cache:
        for cls in (Answer, Other, Answer, Other):
            assert type(settled(client, colour, cls).choices[0].message.parsed) is cls
    assert good.calls == 2


def rebuilt(cls: Any) -> None:
    cls.model_fields["text"].description = "another"
    cls.__pydantic_fields__["text"].annotation = str
    cls.model_rebuild(force=True)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "it is rebuilt": rebuilt,
    "its documentation": lambda cls: setattr(cls, "__doc__", "Something else."),
    "its name": lambda cls: setattr(cls, "__name__", "Renamed"),
    "what its schema has beside": lambda cls: cls.model_config["json_schema_extra"].update(y=1),
    "its title": lambda cls: cls.model_config.update(title="Titled"),
    "what it allows beside": lambda cls: cls.model_config.update(extra="allow"),
    "what a field's schema has beside": lambda cls: cls.beside.append(2),
    "a schema of its own": lambda cls: setattr(cls, "model_json_schema", classmethod(own_schema)),
}


def own_schema(cls: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"title": "Own", "type": "object", "properties": {"text": {"type": "string"}}}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_class_that_changes_is_another_request(
    good: Upstream, client: Any, colour: Colour, cache: Cache, change: Callable[[Any], Any]
) -> None:
    class Own(BaseModel):
        """A class of this test."""

        model_config = pydantic.ConfigDict(json_schema_extra={"x": 1})
        beside: ClassVar[list[Any]] = [1]

        text: str = Field(json_schema_extra={"examples": beside})

    with cache:
        settled(client, colour, Own)
        before = good.last.json()["response_format"]
        change(Own)
        for _ in range(2):
            parse(client, colour, response_format=Own)
    assert good.calls == 2
    assert good.last.json()["response_format"] != before


def test_a_part_whose_documentation_changes_is_another_request(
    good: Upstream, client: Any, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cache:
        settled(client, colour, Answer)
        monkeypatch.setattr(Inner, "__doc__", "Another part.")
        settled(client, colour, Answer)
    assert good.calls == 2


class Code(BaseModel):
    text: str

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return super().model_json_schema(*args, **kwargs)


class CodeInside(BaseModel):
    text: str

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        return handler(core)


def extra(schema: dict[str, Any]) -> None:
    schema["x"] = 1


class CodeBeside(BaseModel):
    model_config = pydantic.ConfigDict(json_schema_extra=extra)

    text: str


class CodeOfAField(BaseModel):
    text: str = Field(json_schema_extra=extra)


@pytest.mark.parametrize("cls", [Code, CodeInside, CodeBeside, CodeOfAField])
def test_a_class_that_makes_its_schema_by_itself_is_left_to_the_sdk(
    good: Upstream, client: Any, colour: Colour, cache: Cache, cls: Any
) -> None:
    with cache:
        for _ in range(4):
            parse(client, colour, response_format=cls)
        assert went_long(lambda: parse(client, colour, response_format=cls))
    assert good.calls == 1


def test_many_classes_are_not_kept(
    good: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for n in range(keywords._MOST + 3):
            made = pydantic.create_model(f"Made{n}", text=(str, ...))
            parse(client, colour, response_format=made)
    assert len(keywords.SCHEMAS._known) <= keywords._MOST


def test_a_plain_format_is_served_as_well(
    good: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    with cache:
        assert settled(client, colour, form).choices[0].message.parsed is None
        assert anatomy(parse(client, colour, response_format=form)) == anatomy(
            parse(client, colour, response_format=form, **LONG)
        )
    assert good.calls == 1


def test_the_sdks_parser_is_called_where_another_tool_wraps_it(
    good: Upstream, client: Any, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai.lib._parsing._completions as module

    own, seen = module.maybe_parse_content, []

    def counted(**given: Any) -> Any:
        seen.append(given)
        return own(**given)

    with cache:
        settled(client, colour, Answer)
        monkeypatch.setattr(module, "maybe_parse_content", counted)
        for _ in range(3):
            parse(client, colour)
    assert len(seen) == 3


def test_a_class_that_create_does_not_take_is_refused_at_the_door_too(
    client: Any, colour: Colour, cache: Cache
) -> None:
    with cache, pytest.raises(TypeError):
        colour.wait(client.chat.completions.create(**chat(1), response_format=Answer))


def test_settings_that_differ_with_every_call_do_not_pile_up(
    good: Upstream, client: Any, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_MOST_SHAPES", 4)
    with cache:
        for n in range(12):
            parse(client, colour, metadata={"n": str(n)})
    assert all(len(one._shapes) + len(one._added) <= 8 for one in OPENAI._doors.values())


def test_of_settings_nothing_is_kept_that_could_be_read(
    good: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for _ in range(3):
            parse(client, colour, metadata={"api_key": SHAPED["OpenAI"], "pad": "p" * 9000})
    kept = repr([(one._shapes, one._added) for one in OPENAI._doors.values()])
    assert SHAPED["OpenAI"] not in kept
    assert "p" * 99 not in kept
