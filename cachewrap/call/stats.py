"""Counts of what a cache has done so far, by what was called and by model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Final

from cachewrap.call import counts
from cachewrap.call.counts import COUNTED, Counts, Group
from cachewrap.call.terms import Exchange, Reply
from cachewrap.entry import Entry, Kind, Outcome
from cachewrap.errors import CorruptEntryError
from cachewrap.telemetry.events import model_of, reported_of
from cachewrap.telemetry.usage import NO_DETAILS, Details, Money, money_text

_HIT: Final = Outcome.HIT

HOST_UNKNOWN: Final = "host not known"
"""Why a call goes past the cache whose host nobody has named as one of models."""

_HOSTS_KEPT: Final = 64
"""Hosts that are told apart; what goes to further ones is counted together."""

_OTHER_HOSTS: Final = "other hosts"
_HOSTS_TOLD: Final = 5

_MOST_TOLD: Final = 256
"""Hits that are added up at once: under the lock, which a single one does not wait for."""

_MOST_GROUPS: Final = 1000
"""Functions, endpoints and models that are counted apart; what comes then is counted as one."""
_OTHER: Final = ("others", "")

_KEYS_KEPT: Final = 4096
"""Keys whose models and details are remembered: they are not read again at every hit."""

_PLAIN: Final = "", NO_DETAILS


_SHOWN: Final = (
    *("hits", "hits_by_rule", "hits_by_alias", "misses", "joined", "stored"),
    *("tokens_saved", "seconds_saved"),
    *("absent", "unstored_reasons", "bypassed", "bypass_reasons", "unknown_hosts", "errors"),
)


class Stats:
    """Counters of one cache, from its creation on. Safe to read at any time.

    Beside the totals, which have the names of `Counts`, there are `by_model`, `by_source` and
    `money`.

    Attributes:
        absent: calls that mode ``"replay"`` refused.
        bypassed: calls that a cache does not serve, such as a file upload.
        hits_by_alias: hits that an alias led to, which are among ``hits``.
        errors: faults of the store or of entries that a call survived.
        hits_by_rule: answers that were stored for another request, and are this one's by a rule of
            equality: they are hits, or joined.
        by_rule: how many of them needed which rule.
        bypass_reasons: how many calls were bypassed for which reason.
        unstored_reasons: how many answers were returned but not stored for what they are or lack,
            by the reason: ``"when"`` for those that ``when=`` refused.
        missed: keys of some HTTP answers that were stored for a miss: the first and the last two.
        unknown_hosts: how many of the calls that were bypassed for ``"host not known"`` went to
            which ``host:port``.
    """

    __slots__ = (
        *("_groups", "_reports"),
        *("absent", "bypass_reasons", "bypassed", "hits_by_alias", "by_rule", "errors"),
        *("hits_by_rule", "missed", "unknown_hosts", "unstored_reasons"),
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count anew from zero."""
        self._groups: dict[tuple[str, str], Group] = {}
        self._reports: dict[str, tuple[float, tuple[str, Details]]] = {}
        self.absent = 0
        self.hits_by_alias = 0
        self.bypassed = 0
        self.errors = 0
        self.bypass_reasons: dict[str, int] = {}
        self.unknown_hosts: dict[str, int] = {}
        self.unstored_reasons: dict[str, int] = {}
        self.hits_by_rule = 0
        self.by_rule: dict[str, int] = {}
        self.missed: list[str] = []

    def count(
        self, reply: Reply[Any], exchange: Exchange[Any] | None = None
    ) -> tuple[str, Details]:
        """Count one served call, and tell its model and the details of its tokens.

        Args:
            reply: how it was answered.
            exchange: the request; without it the entry tells what was called.
        """
        entry = reply.entry
        if exchange is None:
            source, model, details = self._name_of(entry)
        else:
            source, asked = exchange.source, exchange.model
            if reply.outcome is _HIT and entry is not None:
                if reply.alias:
                    with counts.lock:
                        self.hits_by_alias += 1
                model, told = self.count_hit(entry, source, asked, exchange.key)
                return model, told[3]
            paid = entry or reply.unkept
            known = paid is None or (asked is not None and not paid.detailed)
            model, details = _PLAIN if known else self._reported(paid, exchange.key)
            model = model if asked is None else asked
        group = self._groups.get((source, model)) or self._group(source, model, entry)
        with counts.lock:
            if reply.outcome is Outcome.MISS:
                group.misses += 1
                if reply.reason:
                    _count_up(self.unstored_reasons, reply.reason)
                if (paid := entry or reply.unkept) is not None:
                    group.tokens_in_spent += paid.tokens_in
                    group.tokens_out_spent += paid.tokens_out
                    group.seconds_spent += paid.seconds
                    if paid.tokens_in or paid.tokens_out or details:
                        group.spent.add(paid.tokens_in, paid.tokens_out, details)
                if entry is not None:
                    group.stored += reply.own
                    if reply.own and exchange is not None and entry.kind is Kind.HTTP:
                        self.missed.append(exchange.key)
                        del self.missed[1:-2]
                return model, details
            if reply.outcome is _HIT:
                group.hits += 1
            else:
                group.joined += 1
            if entry is not None:
                group.tokens_in_saved += entry.tokens_in
                group.tokens_out_saved += entry.tokens_out
                group.seconds_saved += entry.seconds
                if entry.tokens_in or entry.tokens_out or details:
                    group.saved.add(entry.tokens_in, entry.tokens_out, details)
        return model, details

    def count_hit(
        self, entry: Entry, source: str, model: str | None, key: str
    ) -> tuple[str, tuple[int, int, float, Details]]:
        """Count one call that was answered from the store; its model, and what was counted of it.

        Args:
            entry: what was stored.
            source: what was called.
            model: the model that was asked; None where only the answer tells.
            key: the key of the request.
        """
        details = NO_DETAILS
        if model is None or entry.detailed:
            reported = ""
            if entry.tokens_in or entry.tokens_out or entry.detailed:
                found = self._reports.get(key)
                if found is not None and found[0] == entry.created:
                    reported, details = found[1]
                else:
                    reported, details = self._reported(entry, key)
            model = reported if model is None else model
        group = self._groups.get((source, model)) or self._group(source, model, entry)
        waiting = group.told
        told = entry.tokens_in, entry.tokens_out, entry.seconds, details
        waiting.append(told)
        if len(waiting) >= _MOST_TOLD:
            group.add_up()
        return model, told

    def _group(self, source: str, model: str, entry: Entry | None) -> Group:
        new = Group(model_of(entry))
        with counts.lock:
            if len(self._groups) >= _MOST_GROUPS and (source, model) not in self._groups:
                source, model = _OTHER
            return self._groups.setdefault((source, model), new)

    def _reported(self, entry: Entry | None, key: str) -> tuple[str, Details]:
        """What answered: only the record tells, which is read once for each answer."""
        if entry is None or not (entry.tokens_in or entry.tokens_out or entry.detailed):
            return _PLAIN
        told = reported_of(entry) if entry.detailed else (model_of(entry), NO_DETAILS)
        if len(self._reports) >= _KEYS_KEPT:
            self._reports.clear()
        self._reports[key] = entry.created, told
        return told

    def _name_of(self, entry: Entry | None) -> tuple[str, str, Details]:
        """What an entry says was called, the model's name as other calls have it, and details."""
        if entry is None:
            return "", *_PLAIN
        try:
            record = entry.read_record()
        except CorruptEntryError:
            return "", *_PLAIN
        source, model, details = (
            record["source"],
            record["model"],
            record.get("details", NO_DETAILS),
        )
        for (known, name), group in list(self._groups.items()):
            if known == source and group.reported == model:
                return known, name, details
        return source, model, details

    def count_rules(self, rules: tuple[str, ...]) -> None:
        """Count one answer that these rules of equality have given to another request."""
        with counts.lock:
            self.hits_by_rule += 1
            for rule in rules:
                _count_up(self.by_rule, rule)

    def count_absent(self) -> None:
        """Count one call that mode ``"replay"`` refused."""
        with counts.lock:
            self.absent += 1

    def count_bypass(self, reason: str, host: str = "") -> None:
        """Count one call that went past the cache.

        Args:
            reason: why.
            host: the host and port that are not known, if that is why.
        """
        with counts.lock:
            self.bypassed += 1
            _count_up(self.bypass_reasons, reason)
            if host:
                self._count_host(host)

    def _count_host(self, host: str, count: int = 1) -> None:
        full = host not in self.unknown_hosts and len(self.unknown_hosts) >= _HOSTS_KEPT
        _count_up(self.unknown_hosts, _OTHER_HOSTS if full else host, count)

    def count_error(self) -> None:
        """Count one fault that a call survived."""
        with counts.lock:
            self.errors += 1

    @property
    def total(self) -> Counts:
        """All of it added up."""
        return self._added_up(lambda name: "").get("", Counts())

    @property
    def by_model(self) -> dict[str, Counts]:
        """By the model's name, as it was asked for; ``""`` where there is none."""
        return self._added_up(lambda name: name[1])

    @property
    def by_source(self) -> dict[str, Counts]:
        """By function (``module:name``) or endpoint (``POST /chat/completions``)."""
        return self._added_up(lambda name: name[0])

    def _added_up(self, label: Callable[[tuple[str, str]], str]) -> dict[str, Counts]:
        found: dict[str, Counts] = {}
        with counts.lock:
            for name, group in self._counted():
                found.setdefault(label(name), Counts()).add(group)
        return found

    def _counted(self) -> list[tuple[tuple[str, str], Group]]:
        """Every group, with its hits added up."""
        groups = list(self._groups.items())
        for _, group in groups:
            group.add_up()
        return groups

    def money(self) -> Money | None:
        """What was saved and spent, call by call at today's prices, and what the provider saved.

        Prices come from genai-prices (``pip install 'cachewrap[prices]'``). None where no price is
        known.
        """
        known = list(self.money_by_model().values())
        return sum(known[1:], known[0]) if known else None

    def money_by_model(self) -> dict[str, Money]:
        """The same by the model's name, as it was asked for, where a price is known."""
        with counts.lock:
            groups = self._counted()
        found: dict[str, Money] = {}
        for (_, model), group in groups:
            names = group.reported, model
            saved, spent = group.saved.cost(*names), group.spent.cost(*names)
            if saved or spent:
                none = Decimal(0), Decimal(0)
                money = Money((saved or none)[0], *(spent or none))
                found[model] = found[model] + money if model in found else money
        return found

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what another process counted, as its `as_dict` gave it."""
        with counts.lock:
            usages = other.get("usages") or [({}, {})] * len(other["groups"])
            for facts, (saved, spent) in zip(other["groups"], usages, strict=True):
                name = facts["source"], facts["model"]
                group = self._groups.setdefault(name, Group(facts["reported"]))
                group.add(facts)
                group.saved.merge(saved)
                group.spent.merge(spent)
            self.absent += other["absent"]
            self.hits_by_alias += other["hits_by_alias"]
            self.bypassed += other["bypassed"]
            self.errors += other["errors"]
            self.hits_by_rule += other["hits_by_rule"]
            for rule, count in other["by_rule"].items():
                _count_up(self.by_rule, rule, count)
            for reason, count in other["bypass_reasons"].items():
                _count_up(self.bypass_reasons, reason, count)
            for host, count in other["unknown_hosts"].items():
                self._count_host(host, count)
            for reason, count in other["unstored_reasons"].items():
                _count_up(self.unstored_reasons, reason, count)

    def as_dict(self) -> dict[str, Any]:
        """The counters as a plain dictionary, with one of each function and model in ``groups``.

        ``usages`` are the tokens of each of these, as they are needed to price them exactly.
        """
        total = self.total
        with counts.lock:
            groups = self._counted()
            return {
                **asdict(total),
                "tokens_saved": total.tokens_in_saved + total.tokens_out_saved,
                "hits_by_rule": self.hits_by_rule,
                "by_rule": dict(self.by_rule),
                "absent": self.absent,
                "hits_by_alias": self.hits_by_alias,
                "bypassed": self.bypassed,
                "errors": self.errors,
                "bypass_reasons": dict(self.bypass_reasons),
                "unknown_hosts": dict(self.unknown_hosts),
                "unstored_reasons": dict(self.unstored_reasons),
                "groups": [
                    {"source": source, "model": model, "reported": group.reported}
                    | {name: getattr(group, name) for name in COUNTED}
                    for (source, model), group in groups
                ],
                "usages": [[group.saved.shown(), group.spent.shown()] for _, group in groups],
            }

    @property
    def calls(self) -> int:
        """Calls that the cache served, one way or another."""
        return self.total.calls

    @property
    def hits(self) -> int:
        """Calls answered from the store."""
        return self.total.hits

    @property
    def misses(self) -> int:
        """Calls that went upstream and came back."""
        return self.total.misses

    @property
    def joined(self) -> int:
        """Calls that were given the answer of another caller's call under way."""
        return self.total.joined

    @property
    def stored(self) -> int:
        """Answers written to the store."""
        return self.total.stored

    @property
    def tokens_saved(self) -> int:
        """Prompt and completion tokens of the answers served, as upstream reported them."""
        total = self.total
        return total.tokens_in_saved + total.tokens_out_saved

    @property
    def seconds_saved(self) -> float:
        """Seconds that upstream had taken for the answers served."""
        return self.total.seconds_saved

    def __repr__(self) -> str:
        facts = self.as_dict()
        shown = {name: facts[name] for name in _SHOWN if facts[name]}
        inside = ", ".join(
            f"{name}={value:.3f}" if isinstance(value, float) else f"{name}={value}"
            for name, value in shown.items()
        )
        return f"Stats({inside or 'no calls yet'})"

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_stats(self)

    def __dir__(self) -> list[str]:
        # What counts is for the cache alone.
        return [name for name in super().__dir__() if not name.startswith("count")]


def _count_up(counts: dict[str, int], reason: str, count: int = 1) -> None:
    counts[reason] = counts.get(reason, 0) + count


def summary(stats: Stats, place: str) -> str:
    """One line: how many calls were answered from where, and what that saved.

    Args:
        stats: what was counted.
        place: the store's URL.
    """
    total = stats.total
    calls = total.calls + stats.absent
    if not calls:
        seen = "call was cached" if stats.bypassed else "call of a model was seen"
        return f"no {seen}{_aside(stats)}; cache {place}"
    served = total.hits + total.joined
    parts = []
    tokens = total.tokens_in_saved + total.tokens_out_saved
    if tokens:
        parts.append(f"{tokens:,} tokens")
    if served:
        parts.append(f"{total.seconds_saved:,.1f}s")
    money = stats.money()
    if money is not None and money.saved:
        parts.append(money_text(money.saved))
    saved = f", which saved {', '.join(parts)}" if parts else ""
    asked = f"; {total.misses:,} asked upstream" if total.misses else ""
    if money is not None and money.spent:
        asked += f" for {money_text(money.spent)}"
    if total.misses:
        asked += f", {total.stored:,} stored"
    if money is not None and money.provider_saved:
        asked += f"; {money.provider_text()}"
    if stats.absent:
        asked += f"; {stats.absent:,} not stored, in mode replay"
    declared = (stats.hits_by_rule, "rule"), (stats.hits_by_alias, "alias")
    by = "".join(f", {count:,} of them by {what}" for count, what in declared if count)
    told = f"{served:,} of {_calls(calls)} answered from {place}"
    return f"{told}{by}{saved}{asked}{_aside(stats)}"


def unknown_hosts(stats: Stats) -> list[str]:
    """A line for each of the few hosts whose calls were not cached most, as they are not known."""
    counted = dict(stats.unknown_hosts)
    others = counted.pop(_OTHER_HOSTS, 0)
    told = sorted(counted.items(), key=lambda host: -host[1])
    lines = [_uncached(count, host, host) for host, count in told[:_HOSTS_TOLD]]
    others += sum(count for _, count in told[_HOSTS_TOLD:])
    return [*lines, _uncached(others, _OTHER_HOSTS, "PATTERN")] if others else lines


def _uncached(count: int, where: str, pattern: str) -> str:
    if pattern.startswith("["):  # which shells would take for a set of letters
        pattern = f"'{pattern}'"
    was = "was" if count == 1 else "were"
    return f"{_calls(count)} to {where} {was} not cached: {HOST_UNKNOWN} (--host {pattern})"


def _calls(count: int) -> str:
    return f"{count:,} {'call' if count == 1 else 'calls'}"


def _aside(stats: Stats) -> str:
    found = []
    if unstored := sum(stats.unstored_reasons.values()):
        found.append(f"{unstored:,} not stored ({', '.join(sorted(stats.unstored_reasons))})")
    if bypassed := stats.bypassed - sum(stats.unknown_hosts.values()):
        reasons = ", ".join(sorted(stats.bypass_reasons.keys() - {HOST_UNKNOWN}))
        found.append(f"{bypassed:,} not cacheable ({reasons})")
    if stats.errors:
        found.append(f"{stats.errors:,} {'fault' if stats.errors == 1 else 'faults'} of the cache")
    return "".join(f"; {part}" for part in found)
