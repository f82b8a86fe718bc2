"""`@llm_cached`, over sync and async functions alike."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import inspect
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import tenacity

from cachewrap import (
    Cache,
    CacheWarning,
    ConfigurationError,
    UnkeyableError,
    llm_cached,
    no_cache,
)


class Upstream:
    """Answers every call differently, and counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def answer(self, prompt: str) -> str:
        self.calls += 1
        return f"{prompt} #{self.calls}"


def echo(prompt: str) -> str:
    return prompt


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


class Colour:
    """Decorates a function as sync or as async, and calls it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def decorate(self, function: Callable[..., Any], **options: Any) -> Any:
        if self.name == "sync":

            def complete(prompt: str, *, temperature: float = 0.0) -> Any:
                return function(prompt)

        else:

            async def complete(prompt: str, *, temperature: float = 0.0) -> Any:
                await asyncio.sleep(0)
                return function(prompt)

        return llm_cached(**options)(complete) if options else llm_cached(complete)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return asyncio.run(result) if self.name == "async" else result


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


@pytest.mark.store
def test_the_second_call_is_answered_from_the_cache(
    cache: Cache, colour: Colour, upstream: Upstream
) -> None:
    complete = colour.decorate(upstream.answer)
    with cache:
        assert [colour.call(complete, "hi"), colour.call(complete, "hi")] == ["hi #1", "hi #1"]
    assert (cache.stats.misses, cache.stats.stored, cache.stats.hits) == (1, 1, 1)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("hi",), {}),
        ((), {"prompt": "hi"}),
        (("hi",), {"temperature": 0.0}),
        ((), {"temperature": 0.0, "prompt": "hi"}),
    ],
)
def test_arguments_are_bound_to_the_signature(
    colour: Colour, upstream: Upstream, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    complete = colour.decorate(upstream.answer)
    with Cache.memory():
        colour.call(complete, "hi")
        assert colour.call(complete, *args, **kwargs) == "hi #1"


def test_other_arguments_are_another_request(colour: Colour, upstream: Upstream) -> None:
    complete = colour.decorate(upstream.answer)
    with Cache.memory():
        answers = {
            colour.call(complete, "hi"),
            colour.call(complete, "ho"),
            colour.call(complete, "hi", temperature=1.0),
            colour.call(complete, "hi", temperature=1),
        }
    assert len(answers) == 4


def test_an_error_is_raised_as_it_is_and_never_stored(colour: Colour) -> None:
    failures = iter([KeyError("first"), None])

    def answer(prompt: str) -> str:
        if error := next(failures):
            raise error
        return "fine"

    complete = colour.decorate(answer)
    with Cache.memory() as cache:
        with pytest.raises(KeyError, match="first"):
            colour.call(complete, "hi")
        assert colour.call(complete, "hi") == "fine"
    assert cache.stats.stored == 1


def test_what_a_caller_does_to_an_answer_stays_with_that_caller(colour: Colour) -> None:
    original = {"tags": ["a"]}
    complete = colour.decorate(lambda prompt: original)
    with Cache.memory():
        missed = colour.call(complete, "hi")
        missed["tags"].append("b")
        hit = colour.call(complete, "hi")
        hit["tags"].append("c")
        assert colour.call(complete, "hi") == {"tags": ["a"]}
    assert original == {"tags": ["a"]}


def test_an_answer_that_no_codec_takes_is_returned_uncached_with_one_warning(
    colour: Colour,
) -> None:
    answer = object()
    complete = colour.decorate(lambda prompt: answer)
    with Cache.memory() as cache:
        with pytest.warns(
            CacheWarning, match=r"object.*returned but not stored|not stored.*object"
        ):
            assert colour.call(complete, "hi") is answer
        assert colour.call(complete, "hi") is answer
    assert (cache.stats.misses, cache.stats.stored, cache.stats.errors) == (2, 0, 2)


def test_an_argument_without_a_canonical_form_is_an_error_before_the_call(
    colour: Colour, upstream: Upstream
) -> None:
    complete = colour.decorate(upstream.answer)
    with Cache.memory(), pytest.raises(UnkeyableError, match=r"prompt.*ignore=") as raised:
        colour.call(complete, object())
    assert upstream.calls == 0
    assert "complete" in str(raised.value)


def test_ignored_arguments_are_no_part_of_the_request(colour: Colour, upstream: Upstream) -> None:
    complete = colour.decorate(upstream.answer, ignore=["temperature"])
    with Cache.memory():
        colour.call(complete, "hi", temperature=0.5)
        assert colour.call(complete, "hi", temperature=object()) == "hi #1"


def test_key_takes_the_place_of_the_arguments(colour: Colour, upstream: Upstream) -> None:
    complete = colour.decorate(upstream.answer, key=lambda prompt, **_: prompt.strip())
    with Cache.memory():
        colour.call(complete, "hi")
        assert colour.call(complete, " hi ") == "hi #1"


def test_an_answer_that_when_refuses_is_returned_and_not_stored(
    colour: Colour, upstream: Upstream
) -> None:
    complete = colour.decorate(upstream.answer, when=lambda answer: answer.endswith("2"))
    with Cache.memory():
        assert [colour.call(complete, "hi") for _ in range(3)] == ["hi #1", "hi #2", "hi #2"]


def test_a_when_that_fails_costs_a_warning_and_not_the_answer(
    colour: Colour, upstream: Upstream
) -> None:
    complete = colour.decorate(upstream.answer, when=lambda answer: answer.missing)
    with Cache.memory(), pytest.warns(CacheWarning, match="when= raised"):
        assert colour.call(complete, "hi") == "hi #1"


def test_another_version_is_another_request(colour: Colour, upstream: Upstream) -> None:
    with Cache.memory():
        first = colour.call(colour.decorate(upstream.answer, version=1), "hi")
        assert colour.call(colour.decorate(upstream.answer, version=2), "hi") != first
        assert colour.call(colour.decorate(upstream.answer, version=1), "hi") == first


def test_the_functions_seed_salts_its_keys(colour: Colour, upstream: Upstream) -> None:
    with Cache.memory():
        first = colour.call(colour.decorate(upstream.answer, seed=1), "hi")
        assert colour.call(colour.decorate(upstream.answer, seed=2), "hi") != first
        assert colour.call(colour.decorate(upstream.answer, seed="1"), "hi") == first


def test_a_function_without_a_seed_is_never_cached(colour: Colour, upstream: Upstream) -> None:
    complete = colour.decorate(upstream.answer, seed=None)
    with Cache.memory() as cache:
        assert colour.call(complete, "hi") != colour.call(complete, "hi")
        assert list(cache.keys()) == []


def test_a_ttl_makes_an_answer_go_stale(colour: Colour, upstream: Upstream) -> None:
    complete = colour.decorate(upstream.answer, ttl=timedelta(milliseconds=50))
    with Cache.memory():
        first = colour.call(complete, "hi")
        deadline = time.time() + 5
        while (again := colour.call(complete, "hi")) == first and time.time() < deadline:
            time.sleep(0.01)
    assert (first, again) == ("hi #1", "hi #2")


class TestRetry:
    def test_a_count_tries_a_miss_again(self, colour: Colour, monkeypatch: Any) -> None:
        monkeypatch.setattr(tenacity.wait_random_exponential, "__call__", lambda *_: 0)
        failures = iter([OSError(), OSError(), None])

        def answer(prompt: str) -> str:
            if error := next(failures):
                raise error
            return "fine"

        with Cache.memory():
            assert colour.call(colour.decorate(answer, retry=2), "hi") == "fine"

    def test_the_last_error_is_raised_as_it_is(self, colour: Colour, monkeypatch: Any) -> None:
        monkeypatch.setattr(tenacity.wait_random_exponential, "__call__", lambda *_: 0)
        calls: list[str] = []

        def answer(prompt: str) -> str:
            calls.append(prompt)
            raise OSError("still down")

        with Cache.memory(), pytest.raises(OSError, match="still down"):
            colour.call(colour.decorate(answer, retry=1), "hi")
        assert len(calls) == 2

    def test_a_retrying_object_decides(self, colour: Colour) -> None:
        failures = iter([OSError(), ValueError("not retried")])
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(OSError),
            wait=tenacity.wait_none(),
            reraise=True,
        )

        def answer(prompt: str) -> str:
            raise next(failures)

        with Cache.memory(), pytest.raises(ValueError, match="not retried"):
            colour.call(colour.decorate(answer, retry=retrying), "hi")

    def test_a_hit_is_not_retried(self, colour: Colour, upstream: Upstream) -> None:
        complete = colour.decorate(upstream.answer, retry=3)
        with Cache.memory():
            colour.call(complete, "hi")
            colour.call(complete, "hi")
        assert upstream.calls == 1

    @pytest.mark.parametrize("retry", [-1, True, "twice", 1.5])
    def test_anything_else_is_an_error_at_once(self, colour: Colour, retry: Any) -> None:
        with pytest.raises(ConfigurationError, match="retry"):
            colour.decorate(lambda prompt: prompt, retry=retry)

    def test_an_async_retrying_cannot_serve_a_sync_function(self) -> None:
        with pytest.raises(ConfigurationError, match="sync"):
            llm_cached(retry=tenacity.AsyncRetrying())(echo)


class TestWhichCache:
    def test_the_innermost_block_wins(self, colour: Colour, upstream: Upstream) -> None:
        complete = colour.decorate(upstream.answer)
        outer, inner = Cache.memory(), Cache.memory()
        with outer, inner:
            colour.call(complete, "hi")
        assert (outer.stats.misses, inner.stats.misses) == (0, 1)

    def test_the_calls_own_cache_wins_over_the_block(
        self, colour: Colour, upstream: Upstream
    ) -> None:
        complete = colour.decorate(upstream.answer)
        own = Cache.memory()
        with Cache.memory() as block:
            colour.call(complete, "hi", cache=own)
        assert (block.stats.misses, own.stats.misses) == (0, 1)

    def test_the_block_wins_over_the_decorators_cache(
        self, colour: Colour, upstream: Upstream
    ) -> None:
        default = Cache.memory()
        complete = colour.decorate(upstream.answer, cache=default)
        with Cache.memory() as block:
            colour.call(complete, "hi")
        colour.call(complete, "hi")
        assert (block.stats.misses, default.stats.misses) == (1, 1)

    def test_a_calls_seed_picks_the_partition(self, colour: Colour, upstream: Upstream) -> None:
        complete = colour.decorate(upstream.answer)
        with Cache.memory(cache_seed=1) as cache:
            answers = [
                colour.call(complete, "hi"),
                colour.call(complete, "hi", cache_seed=2),
                colour.call(complete, "hi", cache_seed="2"),
                colour.call(complete, "hi", cache_seed="1"),
            ]
        assert answers == ["hi #1", "hi #2", "hi #2", "hi #1"]
        assert cache.stats.hits == 2

    @pytest.mark.parametrize(
        "where", ["block", "call", "no_cache", "no_cache around a call's own cache"]
    )
    def test_none_switches_off(self, colour: Colour, upstream: Upstream, where: str) -> None:
        complete = colour.decorate(upstream.answer)
        with Cache.memory(cache_seed=None if where == "block" else 41) as cache:
            for _ in range(2):
                if where == "call":
                    colour.call(complete, "hi", cache_seed=None)
                elif where == "no_cache":
                    with no_cache():
                        colour.call(complete, "hi")
                elif where == "block":
                    colour.call(complete, "hi")
                else:
                    with no_cache():
                        colour.call(complete, "hi", cache=cache)
        assert (upstream.calls, list(cache.keys())) == (2, [])

    def test_a_block_inside_no_cache_caches(self, colour: Colour, upstream: Upstream) -> None:
        complete = colour.decorate(upstream.answer)
        with no_cache(), Cache.memory():
            assert colour.call(complete, "hi") == colour.call(complete, "hi")

    def test_parameters_of_these_names_stay_the_functions_own(self) -> None:
        @llm_cached
        def complete(prompt: str, cache: str, cache_seed: int) -> str:
            return f"{prompt} {cache} {cache_seed}"

        with Cache.memory():
            assert complete("hi", cache="mine", cache_seed=3) == "hi mine 3"

    def test_outside_a_block_the_default_is_on_disk_and_opens_at_the_first_call(
        self, tmp_path: Path
    ) -> None:
        program = tmp_path / "program.py"
        program.write_text(
            "import os\n"
            "from cachewrap import llm_cached\n"
            "@llm_cached(seed=7)\n"
            "def complete(prompt): return f'{prompt} {os.getpid()}'\n"
            "before = os.listdir('.')\n"
            "print(before == ['program.py'], complete('hi') == complete('hi'), complete('hi'))\n"
        )
        runs = [
            subprocess.run(
                [sys.executable, "program.py"], cwd=tmp_path, text=True, capture_output=True
            )
            for _ in range(2)
        ]
        first, second = (run.stdout.split() for run in runs)
        assert first[:2] == ["True", "True"], runs[0].stderr
        assert second[1:] == first[1:], runs[1].stderr
        assert (tmp_path / ".cache" / "7").is_dir()


@dataclasses.dataclass
class Agent:
    model: str

    @llm_cached
    def ask(self, prompt: str) -> str:
        """Ask the model."""
        return f"{self.model}: {prompt} {os.urandom(4).hex()}"

    @llm_cached
    async def aask(self, prompt: str) -> str:
        return f"{self.model}: {prompt} {os.urandom(4).hex()}"

    @llm_cached
    @classmethod
    def above_class(cls, prompt: str) -> str:
        return f"{cls.__name__}: {prompt} {os.urandom(4).hex()}"

    @classmethod
    @llm_cached
    def below_class(cls, prompt: str) -> str:
        return f"{cls.__name__}: {prompt} {os.urandom(4).hex()}"

    @llm_cached
    @staticmethod
    def above_static(prompt: str) -> str:
        return f"{prompt} {os.urandom(4).hex()}"

    @staticmethod
    @llm_cached
    def below_static(prompt: str) -> str:
        return f"{prompt} {os.urandom(4).hex()}"


class Client:
    """Has no canonical form."""

    @llm_cached
    def ask(self, prompt: str) -> str:
        return prompt

    @llm_cached(ignore="self")
    def ask_anything(self, prompt: str) -> str:
        return f"{prompt} {os.urandom(4).hex()}"


class KeyedClient:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def __cache_key__(self) -> str:
        return self.endpoint

    @llm_cached
    def ask(self, prompt: str) -> str:
        return f"{prompt} {os.urandom(4).hex()}"


class TestMethods:
    def test_equal_instances_make_equal_requests(self) -> None:
        with Cache.memory():
            assert Agent("a").ask("hi") == Agent("a").ask("hi") == Agent.ask(Agent("a"), "hi")

    def test_the_instance_is_part_of_the_request(self) -> None:
        with Cache.memory():
            assert Agent("a").ask("hi") != Agent("b").ask("hi")

    def test_async_methods(self) -> None:
        async def twice() -> list[str]:
            return [await Agent("a").aask("hi"), await Agent("a").aask("hi")]

        with Cache.memory():
            assert len(set(asyncio.run(twice()))) == 1

    @pytest.mark.parametrize("name", ["above_class", "below_class", "above_static", "below_static"])
    def test_class_and_static_methods_from_class_and_instance(self, name: str) -> None:
        with Cache.memory() as cache:
            answers = {getattr(Agent, name)("hi"), getattr(Agent("a"), name)("hi")}
        assert (len(answers), cache.stats.hits) == (1, 1)

    # Since Python 3.13 a classmethod binds what it wraps by itself, past any decorator below it.
    @pytest.mark.parametrize(
        "name",
        ["above_class", "above_static", "below_static"]
        + (["below_class"] if sys.version_info < (3, 13) else []),
    )
    @pytest.mark.parametrize("owner", [Agent, Agent("a")], ids=["from the class", "an instance"])
    def test_class_and_static_methods_have_the_names_beside_the_call(
        self, owner: Any, name: str
    ) -> None:
        method = getattr(owner, name)
        with Cache.memory() as cache:
            first = method("hi")
            assert list(cache.keys()) == [method.cache_key("hi")]
            assert method.uncached("hi") != first
            assert method.invalidate("hi") is True
            assert method("hi") != first

    def test_a_subclass_makes_requests_of_its_own(self) -> None:
        class Other(Agent): ...

        with Cache.memory():
            assert Agent.below_class("hi") != Other.below_class("hi")
            assert Agent.above_class("hi") != Other.above_class("hi")

    def test_an_instance_without_a_canonical_form_is_a_clear_error(self) -> None:
        with Cache.memory(), pytest.raises(UnkeyableError, match=r"self.*__cache_key__"):
            Client().ask("hi")

    def test_an_ignored_instance_is_no_part_of_the_request(self) -> None:
        with Cache.memory():
            assert Client().ask_anything("hi") == Client().ask_anything("hi")

    def test_cache_key_stands_for_the_instance(self) -> None:
        with Cache.memory():
            first = KeyedClient("one").ask("hi")
            assert KeyedClient("one").ask("hi") == first != KeyedClient("two").ask("hi")

    def test_bound_methods_can_be_pickled(self) -> None:
        with Cache.memory():
            first = Agent("a").ask("hi")
            assert pickle.loads(pickle.dumps(Agent("a").ask))("hi") == first
            assert pickle.loads(pickle.dumps(Agent.below_class))("hi") == Agent.below_class("hi")

    def test_bound_methods_have_the_names_beside_the_call(self) -> None:
        agent = Agent("a")
        with Cache.memory() as cache:
            first = agent.ask("hi")
            assert cache.get(agent.ask.cache_key("hi")) == first
            assert agent.ask.cache_key("hi") == Agent.ask.cache_key(agent, "hi")
            assert agent.ask.uncached("hi") != first
            assert agent.ask.invalidate("hi") is True
            assert agent.ask("hi") != first


@llm_cached(seed=5)
def module_level(prompt: str, *, temperature: float = 0.0) -> str:
    """Complete a prompt."""
    return f"{prompt} {os.urandom(4).hex()}"


class TestTheWrappedFunctionShowsThrough:
    def test_name_docstring_and_signature(self) -> None:
        assert (module_level.__name__, module_level.__doc__) == (
            "module_level",
            "Complete a prompt.",
        )
        assert str(inspect.signature(module_level)) == (
            "(prompt: 'str', *, temperature: 'float' = 0.0) -> 'str'"
        )

    def test_its_colour(self) -> None:
        @llm_cached
        async def asynchronous() -> None: ...

        @llm_cached
        def generator() -> Any:
            yield

        @llm_cached
        async def async_generator() -> Any:
            yield

        assert inspect.iscoroutinefunction(asynchronous)
        assert inspect.isgeneratorfunction(generator)
        assert inspect.isasyncgenfunction(async_generator)

    def test_cache_key_is_the_key_of_the_call(self) -> None:
        with Cache.memory() as cache:
            first = module_level("hi")
            assert list(cache.keys()) == [module_level.cache_key("hi", temperature=0.0)]
            assert cache.get(module_level.cache_key(prompt="hi")) == first

    def test_invalidate_removes_one_answer(self) -> None:
        with Cache.memory():
            first, other = module_level("hi"), module_level("ho")
            assert module_level.invalidate("hi") is True
            assert module_level.invalidate("hi") is False
            assert module_level("hi") != first
            assert module_level("ho") == other

    def test_uncached_goes_past_the_cache(self) -> None:
        with Cache.memory() as cache:
            first = module_level("hi")
            assert module_level.uncached("hi") != first
            assert module_level.__wrapped__("hi") != first
            assert module_level("hi") == first
        assert cache.stats.hits == 1

    def test_wrong_arguments_are_the_functions_own_error(self) -> None:
        with Cache.memory(), pytest.raises(TypeError, match=r"module_level\(\) missing 1 required"):
            module_level()  # type: ignore[call-arg]

    @pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
    def test_a_copy_of_it_is_itself(self, make: Callable[[Any], Any]) -> None:
        assert make(module_level) is module_level
        assert make([module_level])[0] is module_level

    def test_a_method_is_copied_with_its_object(self) -> None:
        first = Copied("one")
        method = copy.deepcopy(first.ask)
        first.model = "two"
        with Cache.memory():
            assert method("hi").startswith("one: hi")
            assert copy.copy(first.ask)("hi").startswith("two: hi")
            assert copy.deepcopy(Copied.name)() == "Copied"

    def test_it_can_be_pickled_by_name(self) -> None:
        assert pickle.loads(pickle.dumps(module_level)) is module_level


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": -1}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"seed": 1.5}, "seed"),
        ({"seed": ""}, "seed"),
        ({"seed": True}, "seed"),
        ({"ignore": ["client"]}, "client"),
        ({"cache": "disk"}, "cache="),
        ({"key": "prompt"}, "key="),
        ({"samples": "x"}, "samples must be true or false"),
        ({"when": True}, "when="),
    ],
)
def test_options_that_cannot_be_are_errors_at_decoration(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        llm_cached(**options)(echo)


def test_a_calls_cache_that_is_none_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="cache="):
        llm_cached(echo)("hi", cache="disk")  # type: ignore[call-arg]


def of_model(model: str, prompt: str) -> str:
    return f"{model}: {prompt} {os.urandom(4).hex()}"


class Callable1:
    def __init__(self, model: str) -> None:
        self.model = model

    def __cache_key__(self) -> str:
        return self.model

    def __call__(self, prompt: str) -> str:
        return of_model(self.model, prompt)


@dataclasses.dataclass
class Copied:
    model: str

    @llm_cached
    def ask(self, prompt: str) -> str:
        return of_model(self.model, prompt)

    @llm_cached
    @classmethod
    def name(cls) -> str:
        return cls.__name__


def closing_over(model: str) -> Any:
    count = 0
    log: list[str] = []

    def complete(prompt: str) -> str:
        nonlocal count
        count += 1
        log.append(prompt)
        return f"{of_model(model, prompt)} {count}"

    return complete


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """As a decorator that knows nothing of caches does it."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class TestFunctionsOfOneName:
    @pytest.mark.parametrize(
        "make",
        [
            lambda model: functools.partial(of_model, model),
            Callable1,
            closing_over,
            lambda model: logged(closing_over(model)),
            lambda model: logged(logged(functools.partial(of_model, model))),
            lambda model: Callable1(model).__call__,
            lambda model: functools.partial(Callable1(model).__call__),
            lambda model: logged(Callable1(model).__call__),
            lambda model: logged(functools.partial(Callable1(model).__call__)),
        ],
        ids=[
            *("partial", "object", "closure", "decorated closure", "decorated partial"),
            *("method", "partial of a method", "decorated method", "decorated partial of a method"),
        ],
    )
    def test_are_told_apart_by_what_is_bound_to_them(self, make: Callable[[str], Any]) -> None:
        with Cache.memory():
            first = llm_cached(make("one"))("hi")
            assert llm_cached(make("one"))("hi") == first
            assert llm_cached(make("two"))("hi") != first

    def test_a_method_that_was_bound_has_its_objects_keys(self) -> None:
        first, same, other = (llm_cached(Callable1(m).__call__) for m in ("one", "one", "two"))
        with Cache.memory() as cache:
            first("hi")
            assert [*cache.keys()] == [first.cache_key("hi")] == [same.cache_key("hi")]
            assert same.explain("hi").stored
            assert not other.explain("hi").stored
            assert first.invalidate("hi")

    def test_lambdas_are_told_apart_by_their_code(self) -> None:
        with Cache.memory():
            echo = llm_cached(lambda prompt: f"{prompt} {os.urandom(4).hex()}")
            other = llm_cached(lambda prompt: f"{prompt}, {os.urandom(4).hex()}")
            assert echo("hi") == echo("hi") != other("hi")

    def test_a_lambda_with_a_version_is_told_by_it(self) -> None:
        with Cache.memory():
            assert llm_cached(version="echo")(lambda prompt: prompt)("hi") == "hi"


def with_tools(*names: str) -> Any:
    properties = {name: {"type": "string"} for name in names}
    return [{"name": "f", "input_schema": {"type": "object", "properties": properties}}]


@pytest.mark.parametrize("watched", [False, True])
def test_a_schema_among_the_arguments_counts_in_the_order_of_its_properties(watched: bool) -> None:
    calls = []

    @llm_cached(version=1)
    def complete(prompt: str, tools: Any, more: Any = None) -> str:
        calls.append(prompt)
        return prompt

    # Who listens goes the general way, and it is the same request.
    options: Any = {"on_event": lambda event: None} if watched else {}
    with Cache.memory(**options) as cache:
        for _ in range(2):
            complete("hi", with_tools("reasoning", "answer"), {"a": 1, "b": 2})
            complete("hi", with_tools("answer", "reasoning"), {"b": 2, "a": 1})
        keys = list(cache.store.keys())
    asked = ("hi", with_tools("answer", "reasoning"), {"a": 1, "b": 2})
    assert (len(calls), len(keys)) == (2, 2)
    assert complete.cache_key(*asked) in keys


def test_importing_a_module_that_decorates_opens_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from cachewrap import blocks\n"
        "blocks.made = lambda *made: print('a cache is made')\n"
        "from cachewrap import llm_cached\n"
        "@llm_cached\n"
        "def complete(prompt): return prompt\n"
        "print(os.listdir('.'), 'diskcache' in sys.modules, 'redis' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, text=True, capture_output=True, check=True
    )
    assert run.stdout.split() == ["[]", "False", "False"]
