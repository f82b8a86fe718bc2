"""What a run's broken prefixes cost, what was paid of it, and what cannot be told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from cachewrap import Cache, llm_cached
from cachewrap.cli.runs_prefix import facts, lines
from cachewrap.ledger.prefixes import loss
from cachewrap.telemetry.usage import Usage
from ledger.making import ended, write_run
from ledger.prompting import QUESTIONS, RULES, Asking, always, chatting, record, speaking


def stamped(turn: int) -> str:
    return f"It is 2026-11-29T10:{turn + 2:02}. {RULES}"


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million tokens for a dollar, a tenth of it where they are read from a cache."""

    def cost_of(usage: Usage, when: float | None = None) -> Decimal:
        reads, writes = (*usage.details, 0, 0)[:2]
        plain = usage.tokens_in - reads - writes
        return (plain + Decimal("0.1") * reads + Decimal("1.25") * writes) / 1_000_000

    monkeypatch.setattr(loss, "cost_of", cost_of)


def with_usage(program: Any, usage: Any, **given: Any) -> Any:
    def told(ask: Asking) -> None:
        ask.usage = usage
        program(ask)

    return record(told, **given)


@pytest.mark.usefixtures("prices")
def test_money_is_the_price_less_that_of_reading() -> None:
    found = record(chatting(stamped)).prefix().breaks[0]
    # From the time stamp on, all that the call before it had sent could have been read: each of
    # six calls has some 2,100 tokens of it, in steps of 128 above 1,024.
    assert 6 * 1_900 < found.tokens < 6 * 2_400
    assert found.tokens % 128 == 0
    assert found.money == found.tokens * Decimal("0.9") / 1_000_000


@pytest.mark.usefixtures("prices")
def test_what_was_written_anew_is_what_reading_would_have_saved() -> None:
    def usage(number: int, tokens: int) -> dict[str, Any]:
        return {"details": (0, tokens - 10)}

    found = with_usage(speaking(stamped), usage).prefix().breaks[0]
    assert found.money == pytest.approx(found.tokens * Decimal("1.15") / 1_000_000)


def test_what_the_provider_reports_as_read_was_read() -> None:
    def usage(number: int, tokens: int) -> dict[str, Any]:
        return {"details": (tokens - 40,)}

    found = with_usage(chatting(stamped), usage).prefix()
    assert found.read_tokens > 10_000
    assert (found.breaks, found.kept) == ([], 6)


def test_a_short_prompt_costs_nothing() -> None:
    found = record(chatting(lambda turn: f"It is 10:0{turn}. Help.", always([]))).prefix()
    assert [(one.kind, one.tokens) for one in found.breaks] == [("time", 0)]


def test_marks_of_anthropics_cache_that_are_left_out_show_in_what_it_reports() -> None:
    def usage(number: int, tokens: int) -> dict[str, Any]:
        told = (tokens - 40, 40) if number else (0, tokens)
        return {"details": told if number < 3 else (), "seconds": 0.5}

    found = with_usage(speaking(), usage).prefix()
    assert ("unread", 1) in [(one.kind, len(one.calls)) for one in found.breaks]
    assert "cache_control" in found.breaks[0].text


# -- what was paid ---------------------------------------------------------------------------------


def test_a_run_of_hits_tells_the_same() -> None:
    cache = Cache.memory()
    first = record(chatting(stamped), name="first", cache=cache).prefix()

    again = Asking(cache)
    again.post = lambda url, body: _asked(again, cache, url, body)  # type: ignore[method-assign]
    chatting(stamped)(again)
    second = write_run(cache, "second", again.rows).prefix()

    assert [one.text for one in second.breaks] == [one.text for one in first.breaks]
    assert (first.breaks[0].paid_calls, second.breaks[0].paid_calls) == (6, 0)
    assert second.breaks[0].tokens == first.breaks[0].tokens == first.breaks[0].paid_tokens


def _asked(ask: Asking, cache: Cache, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """A call whose answer is the one that is stored."""
    answer = Asking.post(ask, url, body)
    number = len(ask.rows)
    return {**answer, "said": f"Answer {number}: it is so, as was seen {number * 17} times."}


def test_conversations_beside_each_other_are_told_apart() -> None:
    def both(ask: Asking) -> None:
        histories: list[list[dict[str, Any]]] = [[], []]
        for question in QUESTIONS:
            for number, history in enumerate(histories):
                history.append({"role": "user", "content": f"{number}: {question}"})
                rules = {"role": "system", "content": RULES}
                said = ask.chat(messages=[rules, *history])
                history.append({"role": "assistant", "content": said})

    found = record(both).prefix()
    assert (found.calls, found.conversations, found.shared, found.kept) == (14, 2, 13, 13)


# -- what cannot be told ---------------------------------------------------------------------------


def test_calls_without_a_stored_request_are_counted() -> None:
    cache = Cache.memory()
    asking = Asking(cache)
    chatting(stamped)(asking)
    cache.store.delete(asking.rows[0].key)
    rows = [*asking.rows, ended("", "bypassed"), ended("", "failed")]
    found = write_run(cache, "a", rows).prefix()
    assert found.unread == {"were not stored": 2, "are no longer stored": 1}
    assert len(found.breaks[0].calls) == 5


def test_requests_that_were_not_kept_are_no_error() -> None:
    @llm_cached
    def ask(prompt: str) -> str:
        return "sunny"

    with Cache.memory(store_requests=False) as cache:
        ask("weather?")
    found = write_run(cache, "a", [ended(key) for key in cache.store.keys()]).prefix()
    assert (found.calls, found.unread) == (0, {"were stored without their requests": 1})


def test_functions_without_a_conversation_are_left_out() -> None:
    @llm_cached
    def ask(prompt: str) -> str:
        return "sunny"

    with Cache.memory() as cache:
        ask("weather?")
    found = write_run(cache, "a", [ended(key) for key in cache.store.keys()]).prefix()
    assert (found.calls, found.unread) == (0, {"hold no conversation with a model": 1})


def test_functions_with_a_conversation_are_compared() -> None:
    keys: list[str] = []

    @llm_cached
    def ask(messages: list[dict[str, str]], system: str) -> str:
        return f"It is so, and that for {len(messages)} reasons."

    with Cache.memory() as cache:
        history: list[dict[str, str]] = []
        for turn, question in enumerate(QUESTIONS):
            history.append({"role": "user", "content": question})
            said = ask(list(history), stamped(turn))
            keys += [key for key in cache.store.keys() if key not in keys]
            history.append({"role": "assistant", "content": said})
    rows = [ended(key, started=float(number)) for number, key in enumerate(keys)]
    found = write_run(cache, "a", rows).prefix()
    assert [(one.kind, one.where, len(one.calls)) for one in found.breaks] == [
        ("time", "system", 6)
    ]


def test_encrypted_requests_need_their_key() -> None:
    pytest.importorskip("cryptography")
    key = "0" * 43 + "="
    cache = Cache.memory(encryption_key=key)
    rows = _told(cache)
    assert write_run(cache, "a", rows).prefix().breaks
    plain = Cache(cache.store, cache_seed=41)
    assert write_run(plain, "b", rows).prefix().unread == {
        "are encrypted with a key that is not here": len(rows)
    }


def _told(cache: Cache) -> list[Any]:
    keys: list[str] = []

    @llm_cached
    def ask(messages: list[dict[str, str]], system: str) -> str:
        return "It is so."

    with cache:
        history: list[dict[str, str]] = []
        for turn, question in enumerate(QUESTIONS):
            history.append({"role": "user", "content": question})
            history.append({"role": "assistant", "content": ask(list(history), stamped(turn))})
            keys += [key for key in cache.store.keys() if key not in keys]
    return [ended(key, started=float(number)) for number, key in enumerate(keys)]


# -- as it is shown --------------------------------------------------------------------------------


def test_it_is_shown_with_what_it_cost() -> None:
    shown = lines(record(chatting(stamped)), 80)
    text = " ".join(line.strip() for line in shown)
    assert shown[0].startswith("a: 7 calls in 1 conversation. 6 of them should begin as one before")
    assert "a time stamp at character 6: '2026-11-29T10:02' → '2026-11-29T10:03'" in text
    assert "6 calls, about" in text
    assert "First in call 1 after call 0." in text
    assert max(map(len, shown)) <= 80


def test_a_run_in_which_nothing_is_wrong_says_so() -> None:
    assert "Nothing broke what they have in common." in lines(record(chatting()), 80)


def test_an_empty_run_says_so() -> None:
    run = write_run(Cache.memory(), "a", [ended("", "failed")])
    assert lines(run, 80) == ["a: no prompts to compare", "", "Not compared: 1 were not stored."]


def test_facts_for_machines() -> None:
    found = facts(record(chatting(stamped)))
    assert (found["calls"], found["shared"], found["kept"]) == (7, 6, 0)
    assert found["breaks"][0]["kind"] == "time"
    assert found["breaks"][0]["first"] == 1
