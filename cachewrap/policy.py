"""The policy of a cache with the answers it is given, and the options that say so."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    TypeAlias,
    TypedDict,
    Union,
    get_args,
    get_origin,
)

from cachewrap.encryption import EncryptionKey, keys_from_environment, read_keys
from cachewrap.entry import MAX_ENTRY_BYTES
from cachewrap.errors import ConfigurationError
from cachewrap.keyed import NONE_KEYED, Keyed, read_keyed, read_unkeyed
from cachewrap.telemetry.events import Hook
from cachewrap.urls import call_for, hint

if TYPE_CHECKING:
    from cachewrap.same.applied import Rules
    from cachewrap.same.rules import Rule

Ttl = float | int | timedelta
"""A time to live: seconds, or a `datetime.timedelta`."""

Seed = int | str
"""Names an independent draw of answers; ``1`` and ``"1"`` are the same seed."""


Mode = Literal["normal", "replay", "refresh", "read_only", "off"]
"""What a cache does with a call: see `CacheOptions`."""

MODES: Final[tuple[str, ...]] = get_args(Mode)

Replay = Literal["models", "strict"]
"""What mode ``"replay"`` stops of the calls that no cache serves: see `CacheOptions`."""

MODE_VARIABLE: Final = "CACHEWRAP_MODE"
"""The environment variable with the mode of every cache that is not told one."""

LEDGER_VARIABLE: Final = "CACHEWRAP_LEDGER"
"""The environment variable that says whether runs are told of calls, of caches not told so."""

STORE_SECONDS: Final = 2.0
"""Seconds that an operation of a store waits at most, unless the cache says something else."""

BREAKER_SECONDS: Final = 30.0
"""Seconds for which a store is left alone, unless the cache says something else."""

_LONGEST_WAIT: Final = 1e9
_NO_SEED: Final = re.compile(r"[/\\\0]")
_CLASS: Final = re.compile(r"\w+(?:\.\w+)*(?:\.\*)?")


if TYPE_CHECKING:
    One: TypeAlias = Rule | Callable[[dict[str, Any]], dict[str, Any]]
    Same: TypeAlias = One | Collection[One | Collection[One]] | str | os.PathLike[str] | None
else:  # whoever has no rules imports nothing of them
    Same = Any
"""Rules of equality: see `CacheOptions`."""


class Unset:
    """The type of `UNSET`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""Stands for an option that was not given, where None has a meaning of its own."""


def seed_text(seed: Seed) -> str:
    """The seed as text.

    Raises `ConfigurationError` unless it is an int or a non-empty str, and for a str that names a
    place: it holds ``/``, ``\\`` or a NUL.
    """
    if isinstance(seed, int) and not isinstance(seed, bool):
        return str(seed)
    if isinstance(seed, str) and seed:
        if _NO_SEED.search(seed) is None:
            return str(seed)
        if "\0" in seed:
            raise ConfigurationError(f"a seed holds no NUL, got {seed!r}")
        call = call_for(seed)
    elif isinstance(seed, os.PathLike):
        call = call_for(os.fsdecode(seed))
    else:
        raise ConfigurationError(
            f"a seed must be an int, a non-empty str, or None for no caching; got {seed!r}"
        )
    raise ConfigurationError(
        "a seed names a draw of answers, like 41, and no place: it holds no ://, / and \\. For a"
        f" cache in that place write {call}"
    )


def ttl_seconds(ttl: Ttl | None, name: str = "ttl") -> float | None:
    """A span in seconds. Raises `ConfigurationError` unless it is positive and finite."""
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        seconds = ttl.total_seconds()
    elif type(ttl) in (int, float):
        try:
            seconds = float(ttl)
        except OverflowError:
            seconds = float("inf")
    else:
        raise ConfigurationError(f"{name} must be seconds or a timedelta, got {ttl!r}")
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{name} must be positive and finite, got {ttl!r}")
    return seconds


def check_mode(mode: object, name: str = "mode") -> Mode:
    """The mode, if it is one. Raises `ConfigurationError`, which names the choices.

    Args:
        mode: what was given.
        name: where it was given.
    """
    for known in get_args(Mode):
        if mode == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"{name} must be one of {', '.join(MODES)}; got {mode!r}")


def mode_from_environment() -> Mode:
    """What ``CACHEWRAP_MODE`` says, else ``"normal"``. Raises `ConfigurationError`."""
    return check_mode(os.environ.get(MODE_VARIABLE) or "normal", MODE_VARIABLE)


class CacheOptions(TypedDict, total=False):
    """Options that every cache can be given, wherever its entries live.

    Keys:
        ttl: how long an answer stays fresh, in seconds or as a `timedelta`; None, the default, is
            for ever.
        mode: ``"normal"`` looks a request up, else asks upstream and stores the answer;
            ``"replay"`` never asks upstream: what is not stored raises `ReplayMissError`, and what
            has expired is served with a `CacheWarning`; ``"refresh"`` always asks upstream, and
            the answer replaces what is stored; ``"read_only"`` serves what is stored and stores
            nothing; ``"off"`` does neither. By default what the environment variable
            ``CACHEWRAP_MODE`` holds, else ``"normal"``; a mode that the program gives wins.
        replay: what mode ``"replay"`` stops of the calls of a patched SDK that are never stored.
            ``"models"``, the default, raises `ReplayMissError` for those that make a model work
            (a batch, a background response, a search among vectors, a WebSocket session) and lets
            the others through (the list of models, files); ``"strict"`` stops these as well.
        samples: whether the n-th occurrence of a request in a block of the cache is a sample of
            its own, see `Cache.samples`; default False.
        store_requests: whether the canonical request (of `Cache.set`: the key) is stored beside the
            answer; default True.
        single_flight: whether callers of one request at one time share one upstream call, in this
            process and, on a shared store, in all of them; default True.
        lease_seconds: after how many seconds another process takes over the call of one that was
            killed or stopped, or whose event loop was; default 10.
        stream_leases: whether responses of HTTP that stay open (streams) are asked for once in all
            processes as well, by leases of a store that has them: who comes second in another
            process waits for the whole answer, and then has it from the store; default False.
        wait_seconds: how many seconds a caller waits at most for the answer of another one, in this
            process or another; then he goes upstream by himself. A call with a ``timeout=`` of its
            own waits no longer than that. Default 600.
        store_seconds: how long an operation of the store may wait for what is locked, or does not
            answer; default 2. The class of each store says of what, and how long a read may.
        breaker_seconds: how long a place is left alone after such a wait in vain: calls go on
            without it at once, then one of them tries again for all; default 30.
        on_error: what a fault of the store or of an entry costs: ``"warn"``, the default, a
            `CacheWarning` and a miss; ``"raise"`` raises it.
        encryption_key: encrypts what is stored: a key as `cachewrap.encryption.read_keys` takes
            it, or a list of keys, of which the first writes and all read; None stores plain text.
            By default what the environment variable ``CACHEWRAP_ENCRYPTION_KEY`` holds, if any.
        ledger: whether runs are told of the calls of this cache, see `Cache.run`; by default True,
            unless the environment variable ``CACHEWRAP_LEDGER`` is 0.
        on_event: is given an `Event` for every call that the cache served, and for every one that
            raised. It runs in the thread or task of the call. A cache that is to be pickled needs
            a hook that can be pickled.
        keyed: names of headers, query parameters and fields of the body of HTTP requests that
            belong to the request although they would be left out, because they are a credential's,
            name an account or are taken for tracing: ``["authorization", "openai-organization"]``.
            What is counted and stored of each is a hash of its value (HMAC-SHA-256, under the
            first encryption key where there is one), never the value. By default none.
        unkeyed: names of headers, query parameters and top-level fields of the body of HTTP
            requests that are sent and belong to no request, because they only steer or track it:
            ``["x-tenant-trace"]``. Requests that differ in nothing else are one, and share its
            answer; what is stored of them is without it. By default what the environment variable
            ``CACHEWRAP_UNKEYED`` holds, with commas between the names, else none.
        scrub: is given every text of a request and its answer before they are stored, and returns
            it without what is not to be there: names, addresses, numbers of customers. What a
            miss returns is what is stored; a stream comes as it is, and is scrubbed where it is
            stored. The key stays that of the request as it was asked. One that raises, or returns
            no text, costs a `ConfigurationError`, and nothing is stored.
        max_entry_bytes: bytes of memory that one entry may take when it is opened, decompressed and
            decoded, by an estimate; default 268,435,456 (256 MiB). An entry that would take more is
            damaged; an answer that would is returned, and not stored.
        same: rules of equality: a list of what `cachewrap.same` makes, or of functions that take a
            canonical request and give it as it counts; or the name of a TOML file that has them.
            Requests that a rule makes equal share an answer. The rules are in every key: entries
            of other rules, and of none, are not seen. By default none: requests are equal that
            are exactly equal.
        types: the only classes that the objects in entries may be of: classes, or their full names,
            or ``"package.*"`` for all of a package or module. Entries with others are damaged, and
            answers with others are returned, and not stored. What JSON has and the types of Python
            itself, such as dates, are always read; with ``[]`` nothing else is. None, the default,
            is every class that the program has imported.
        split: whether requests for the embeddings or moderations of several texts are served text
            by text, so that upstream is asked for those alone that are not stored. What a caller
            gets is then put together, and no longer the bytes of one answer. By default what the
            patch says (``patch_openai(split=True)``), else False.
    """

    ttl: Ttl | None
    mode: Mode
    replay: Replay
    samples: bool
    store_requests: bool
    single_flight: bool
    lease_seconds: float
    stream_leases: bool
    store_seconds: float
    breaker_seconds: float
    wait_seconds: float
    on_error: Literal["warn", "raise"]
    encryption_key: EncryptionKey | None
    ledger: bool
    on_event: Hook | None
    keyed: Collection[str]
    unkeyed: Collection[str]
    same: Same
    scrub: Callable[[str], str] | None
    max_entry_bytes: int
    types: Collection[type | str] | None
    split: bool


_LEAVES_HITS_ALONE: Final = frozenset(
    {
        "encryption_keys",
        "breaker_seconds",
        "lease_seconds",
        "ledger",
        "max_entry_bytes",  # is seen to by the guard, which opens all of them
        "on_event",  # hears of them
        "raise_errors",
        "replay",  # is for calls that are never hits
        "same",  # is in the key
        "scrub",  # is for what is stored
        "single_flight",
        "split",  # is seen to by those who serve lists
        "store_requests",
        "store_seconds",
        "stream_leases",
        "ttl",
        "types",  # as well
        "unkeyed",  # is left out of a request before it has a key
        "wait_seconds",
    }
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one cache: `CacheOptions`, checked. What is not told here is as it is there.

    Args:
        ttl: seconds for which an answer stays fresh; None is for ever.
        raise_errors: whether faults are raised.
        encryption_keys: encrypt what is stored, the first one, and decrypt it; none for plain text.
        keyed: names, in lower case, of what is in every key as a hash of its value.
        unkeyed: names, in lower case, of what is in none.
        same: the rules of equality; None for none.
        types: full names of the classes that objects in entries may be of, and of modules with
            ``.*`` behind them; None for all.
        split: None where the cache does not say.
    """

    ttl: float | None = None
    mode: Mode = "normal"
    replay: Replay = "models"
    samples: bool = False
    store_requests: bool = True
    single_flight: bool = True
    lease_seconds: float = 10.0
    stream_leases: bool = False
    store_seconds: float = STORE_SECONDS
    breaker_seconds: float = BREAKER_SECONDS
    wait_seconds: float = 600.0
    raise_errors: bool = False
    encryption_keys: tuple[bytes, ...] = field(default=(), repr=False)
    ledger: bool = True
    on_event: Hook | None = field(default=None, hash=False)  # it may have no hash
    keyed: Keyed = NONE_KEYED
    unkeyed: frozenset[str] = frozenset()
    same: Rules | None = None
    scrub: Callable[[str], str] | None = field(default=None, hash=False)
    max_entry_bytes: int = MAX_ENTRY_BYTES
    types: frozenset[str] | None = None
    split: bool | None = None

    @property
    def hits_by_key(self) -> bool:
        """Whether a hit depends on its request alone.

        What may be added to a policy, and is not known here to leave hits alone, does not.
        """
        return all(
            one.name in _LEAVES_HITS_ALONE or getattr(self, one.name) == one.default
            for one in fields(self)
        )

    def expires(self, now: float) -> float:
        """When an answer stored at ``now`` stops being fresh (epoch seconds); 0.0 is never."""
        return 0.0 if self.ttl is None else now + self.ttl


def check_flag(name: str, value: object) -> bool:
    """A setting that is on or off. Raises `ConfigurationError` for anything else."""
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name} must be true or false, got {value!r}")


def check_names(options: CacheOptions, place: str | None = None) -> None:
    """Raise `TypeError` for an option that a cache has not.

    Args:
        options: those that were given.
        place: the option beside them that says where the cache is; None where none does.
    """
    known = CacheOptions.__annotations__
    if unknown := options.keys() - known.keys():
        name = min(unknown)
        raise TypeError(
            f"a cache has no option {name!r}{hint(name, ['cache_seed', *known], place)}"
        )


def make_policy(options: CacheOptions) -> Policy:
    """Check the options of a cache.

    Raises `ConfigurationError`, and `TypeError` for an unknown one.
    """
    check_names(options)
    on_error = options.get("on_error", "warn")
    if on_error not in ("warn", "raise"):
        raise ConfigurationError(f'on_error must be "warn" or "raise", got {on_error!r}')
    replay = options.get("replay", "models")
    if replay not in get_args(Replay):
        raise ConfigurationError(f'replay must be "models" or "strict", got {replay!r}')
    on_event = options.get("on_event")
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(f"on_event takes a function of one Event, got {on_event!r}")
    scrub = options.get("scrub")
    if scrub is not None and not callable(scrub):
        raise ConfigurationError(f"scrub takes a function of one text, got {scrub!r}")
    lease_seconds = _wait(options.get("lease_seconds"), "lease_seconds", 10.0)
    wait_seconds = _wait(options.get("wait_seconds"), "wait_seconds", 600.0)
    if "encryption_key" in options:
        keys = read_keys(options["encryption_key"])
    else:
        keys = keys_from_environment()
    keyed = read_keyed(options.get("keyed", ()), keys)
    return Policy(
        ttl=ttl_seconds(options.get("ttl")),
        mode=check_mode(options["mode"]) if "mode" in options else mode_from_environment(),
        replay=replay,
        samples=check_flag("samples", options.get("samples", False)),
        store_requests=check_flag("store_requests", options.get("store_requests", True)),
        single_flight=check_flag("single_flight", options.get("single_flight", True)),
        lease_seconds=lease_seconds,
        stream_leases=check_flag("stream_leases", options.get("stream_leases", False)),
        wait_seconds=wait_seconds,
        **store_waits(options),
        raise_errors=on_error == "raise",
        encryption_keys=keys,
        ledger=_ledger(options),
        on_event=on_event,
        keyed=keyed,
        unkeyed=read_unkeyed(options.get("unkeyed"), keyed),
        same=rules_of(options.get("same")),
        scrub=scrub,
        max_entry_bytes=_bytes(options.get("max_entry_bytes", MAX_ENTRY_BYTES)),
        types=_types(options.get("types")),
        split=check_flag("split", options["split"]) if "split" in options else None,
    )


def _ledger(options: CacheOptions) -> bool:
    if "ledger" in options:
        return check_flag("ledger", options["ledger"])
    given = os.environ.get(LEDGER_VARIABLE, "").strip().lower()
    if given in ("", "0", "1", "false", "true"):
        return given in ("", "1", "true")
    raise ConfigurationError(f"{LEDGER_VARIABLE} must be 0 or 1, got {given!r}")


def rules_of(given: object) -> Rules | None:
    """The rules of equality that ``same=`` says; None for none.

    Raises `ConfigurationError` for what are no rules, and for a file that cannot be read as some.
    """
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        from cachewrap.same.files import read_rules

        return read_rules(given)
    from cachewrap.same.applied import check_rules

    return check_rules(given)


def store_waits(options: CacheOptions) -> dict[str, float]:
    """``store_seconds`` and ``breaker_seconds``, for a store as well.

    Raises `ConfigurationError` for what is no number, and unless it is positive and finite.
    """
    given = {"store_seconds": STORE_SECONDS, "breaker_seconds": BREAKER_SECONDS}
    return {name: _wait(options.get(name), name, usual) for name, usual in given.items()}


def _wait(given: object, name: str, usual: float) -> float:
    """The seconds of a wait, not more than every system can count; None is for the usual ones."""
    seconds = ttl_seconds(given, name)  # type: ignore[arg-type]
    return usual if seconds is None else min(seconds, _LONGEST_WAIT)


def _bytes(most: object) -> int:
    if type(most) is not int or most < 1:
        raise ConfigurationError(
            f"max_entry_bytes is a number of bytes, such as {MAX_ENTRY_BYTES}; got {most!r}"
        )
    return most


def _types(given: object) -> frozenset[str] | None:
    if given is None:
        return None
    if not isinstance(given, Collection) or isinstance(given, (str, bytes, Mapping)):
        raise ConfigurationError(
            f'types takes a list of classes, or of names such as "shop.orders.Item"; got {given!r}'
        )
    return frozenset(name for one in given for name in _names(one))


def _names(one: Any) -> list[str]:
    """The names by which entries know a class, and those that it is parametrised with."""
    if isinstance(one, str):
        if _CLASS.fullmatch(one):
            return [one]
        raise ConfigurationError(f'types takes names such as "shop.orders.Item", got {one!r}')
    made = vars(one).get("__pydantic_generic_metadata__") if isinstance(one, type) else None
    if made and made["origin"] is not None:
        origin, args = made["origin"], made["args"]
    else:
        origin, args = get_origin(one), get_args(one)
    if origin is not None:
        parts = args if origin is not Annotated else args[:1]
        return [name for part in (origin, *parts) for name in _names(part)]
    if isinstance(one, type):
        return [f"{one.__module__}.{one.__qualname__}"]
    if one is None or one is Ellipsis or one in (Union, Literal, Annotated):
        return []
    raise ConfigurationError(f"types takes classes and their full names, got {one!r}")
