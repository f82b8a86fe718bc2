"""A guess at what a word of the command line names: a folder, a file, several of them, a URL."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import click

from cachewrap import plugins
from cachewrap.errors import StoreError
from cachewrap.report import is_report
from cachewrap.stores.disk.store import LOGS
from cachewrap.stores.jsonl.lines import head_of
from cachewrap.stores.seed_folders import DATABASE, seed_of
from cachewrap.systems import files
from cachewrap.urls import REDIS_SCHEMES, absolute, url_of, url_of_path

CASSETTE: Final = ".jsonl"
PACKED: Final = ".jsonl.gz"
PAGES: Final = (".html", ".htm")

_KEY: Final = re.compile("[0-9a-f]{4,64}")
_SERVER: Final = re.compile(r"[\w.-]+:\d{1,5}(?:/\d*)?")
_SCHEMES: Final = ("disk", "jsonl", "memory", *REDIS_SCHEMES)
_FIRST_LINE: Final = 1 << 24
_PASSED_OVER: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env"})
_CASSETTES: Final = "cassettes"
_DEPTH: Final = 4
_MOST_FOLDERS: Final = 2000
_NAMED: Final = 4
"""Places, at most, that are named where another was looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """The caches that were found under what was typed.

    Args:
        urls: where they are, and under which names people know them.
        text: all of them, for people; ``""`` where a URL says it.
        notes: what is to be known of the guess.
    """

    urls: tuple[tuple[str, str], ...]
    text: str = ""
    notes: tuple[str, ...] = ()


def find(words: Sequence[str]) -> Found:
    """The caches that some words name, as one. Raises `StoreError` for what is no cache."""
    found = [_find(word) for word in words]
    urls = dict(url for one in found for url in one.urls)
    notes = tuple(note for one in found for note in one.notes)
    text = found[0].text if len(found) == 1 else ", ".join(words)
    return Found(tuple(urls.items()), text, notes)


def target_url(word: str) -> str:
    """The URL of a cache that may have to be made. Raises `StoreError` for a file of another kind.

    Args:
        word: a URL, a server, a file that ends in ``.jsonl``, or a folder.
    """
    _check_given(word)
    if is_url(word):
        return _url(word)
    path = absolute(word)
    if word.endswith(PACKED):
        raise StoreError(f"{word} is compressed, and nothing can be added to it: unpack it first")
    if os.path.isfile(path) and os.path.getsize(path) and not is_cassette(path):
        raise StoreError(_other_file(word, path))
    if word.endswith(CASSETTE) or os.path.isfile(path):
        return url_of_path("jsonl", path)
    return _of_seed(path) or url_of_path("disk", path)


def is_url(word: str) -> bool:
    """Whether a word is a URL, or the address of a server."""
    scheme, colon, _ = word.partition(":")
    known = scheme in _SCHEMES or scheme in plugins.store_schemes() if colon else False
    return known or "://" in word or _SERVER.fullmatch(word) is not None


def is_place(word: str) -> bool:
    """Whether a word names a place for sure. What may be the beginning of a key never does."""
    if _KEY.fullmatch(word) or not word:
        return False
    return is_url(word) or word.endswith((CASSETTE, PACKED)) or os.path.exists(absolute(word))


def is_path(word: str) -> bool:
    """Whether a word looks like a path, be there anything or not."""
    return os.sep in word or "/" in word or word.startswith((".", "~"))


def is_cassette(path: str) -> bool:
    """Whether a file begins as a file of entries does. One that is empty is none."""
    with suppress(OSError), files.reader(path) as file:
        for line in iter(lambda: file.readline(_FIRST_LINE), b""):
            if not line.strip():
                continue
            with suppress(ValueError):
                head = head_of(line)
                return head.cachewrap is not None or None not in (head.key, head.seed)
            return False
    return False


def nearby(word: str = "") -> str:
    """What can be read near a place that is not there, as the end of a message.

    Args:
        word: the place.
    """
    names = list(dict.fromkeys(map(_whole, _caches_below(os.curdir, 3))))
    above = os.path.dirname(absolute(word)) if word else ""
    if above and above != os.getcwd() and os.path.isdir(above):
        names += [os.path.join(os.path.dirname(word), name) for name in _caches_below(above, 1)]
    like = [name for name in names if _alike(name, word)]
    names = list(dict.fromkeys([*like, *sorted(names, key=lambda name: name != ".cache")]))
    if not names:
        return "; a program that is cached makes one: cachewrap run PROGRAM"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; there is {', '.join(names[:_NAMED])}{more}"


# -- words of several kinds ---------------------------------------------------------------------


def places_alone(words: Sequence[str], named: bool) -> tuple[Sequence[str], None]:
    """Words that are places, all of them.

    Args:
        words: what was typed.
        named: whether an option names the place as well. Raises `UsageError` where both do.
    """
    if words and named:
        raise click.UsageError(f"give {words[0]} or --url, --disk, --redis, not both")
    return words, None


def keys_and_places(words: Sequence[str], named: bool) -> tuple[list[str], list[str]]:
    """The places and the keys among some words, in any order, of which one at least is a key.

    A word of 4 to 64 hexadecimal digits is a key, even where a file has that name. Where an option
    names the place, every word is a key.
    """
    if named or (len(words) == 1 and not is_place(words[0])):
        return [], list(words)
    places = [word for word in words if is_place(word)]
    others = [word for word in words if word not in places]
    if len(others) > 1 and (lost := [word for word in others if is_path(word)]) != others:
        places, others = places + lost, [word for word in others if word not in lost]
    if not others:
        shown = " ".join(places)
        raise click.UsageError(f"give a key as well: cachewrap ls {shown} lists those of {shown}")
    return places, others


def runs_and_places(words: Sequence[str], named: bool) -> tuple[list[str], list[str]]:
    """The places and the names of runs among some words, in any order.

    A word is a place where it looks like one, or there is a cache of that name. Where an option
    names the place, every word is a run, and so is ``PLACE#NAME`` always.
    """
    places = [] if named else [word for word in words if _is_place_of_runs(word)]
    return places, [word for word in words if word not in places]


def run_file_and_places(
    words: Sequence[str], named: bool
) -> tuple[list[str], tuple[list[str], str | None]]:
    """The places, the names of runs, and the file that is written among some words, in any order.

    A file is ``-``, or a word with its ending that is no cache.
    """
    files = [
        word
        for word in words
        if word == "-" or (word.endswith((CASSETTE, ".csv")) and not is_cassette(absolute(word)))
    ]
    if len(files) > 1:
        raise click.UsageError(f"which one is the file, {' or '.join(files)}?")
    places, names = runs_and_places([word for word in words if word not in files], named)
    if len(names) == 2 and not files:
        names, files = names[:1], names[1:]
    return places, (names, files[0] if files else None)


def _is_place_of_runs(word: str) -> bool:
    if not word or "#" in word:
        return False
    if is_url(word) or word.endswith((CASSETTE, PACKED)) or word.startswith((".", "~", os.sep)):
        return True
    with suppress(StoreError):
        return os.path.exists(absolute(word)) and bool(_find(word))
    return False


def places_and_target(words: Sequence[str], named: bool) -> tuple[Sequence[str], str]:
    """The places that are read, and behind them the one that is written to."""
    places_alone(words[:-1], named)
    return words[:-1], words[-1]


def file_and_places(words: Sequence[str], named: bool) -> tuple[list[str], str]:
    """The places and the one file among some words, in any order.

    A place is a folder, a URL, or a file of entries; of several files of entries those that are
    there are places. Where an option names the place, there is one word, the file.
    """
    if named and len(words) > 1:
        raise click.UsageError(f"give {words[1]} or --url, --disk, --redis, not both")
    if len(words) == 1:
        if not named and (is_url(words[0]) or os.path.isdir(absolute(words[0]))):
            raise click.UsageError(f"{words[0]} is a cache: give the file as well")
        return [], words[0]
    alike = [word for word in words if not _is_cache(word)]
    for fits in (_is_no_lines, _is_absent):
        if len(alike) > 1:
            alike = [word for word in alike if fits(word)] or alike
    if len(alike) != 1:
        shown = " or ".join(alike or words)
        raise click.UsageError(f"which one is the file, {shown}? Name the cache with --url")
    return [word for word in words if word != alike[0]], alike[0]


def page_and_places(words: Sequence[str], named: bool) -> tuple[list[str], str | None]:
    """The places and the page among some words, in any order; None where no word names a page."""
    pages = [word for word in words if word.endswith(PAGES) and not is_url(word)]
    if len(pages) > 1:
        raise click.UsageError(f"which one is the page, {' or '.join(pages)}?")
    places = [word for word in words if word not in pages]
    places_alone(places, named)
    return places, pages[0] if pages else None


def _is_cache(word: str) -> bool:
    return is_url(word) or os.path.isdir(absolute(word))


def _is_no_lines(word: str) -> bool:
    return word == "-" or not word.endswith((CASSETTE, PACKED))


def _is_absent(word: str) -> bool:
    return word == "-" or not os.path.exists(absolute(word))


# -- one word -----------------------------------------------------------------------------------


def _whole(name: str) -> str:
    """The folder of all cassettes that a folder of some is in, else the name itself."""
    parts = name.split(os.sep)
    return os.sep.join(parts[: parts.index(_CASSETTES) + 1]) if _CASSETTES in parts else name


def meant_command(word: str, commands: Iterable[str], others: Mapping[str, str]) -> str:
    """What is meant by a word that is no command of a group; "" where nothing is near.

    Args:
        word: as it was typed.
        commands: those that there are.
        others: what other tools call them.
    """
    close = difflib.get_close_matches(word.lower(), commands, 1, 0.6)
    return others.get(word.lower()) or (close[0] if close else "")


def _alike(name: str, word: str) -> bool:
    names = [os.path.basename(one.rstrip("/" + os.sep)) for one in (name, word)]
    return bool(difflib.get_close_matches(names[1], names[:1], 1, 0.7))


def _find(word: str) -> Found:
    _check_given(word)
    if is_url(word):
        return Found(((_url(word), word),))
    path = absolute(word)
    if os.path.isdir(path):
        return _in_folder(word, path)
    if not os.path.exists(path):
        kind = "file" if word.endswith((CASSETTE, PACKED)) else "file or folder"
        raise StoreError(f"there is no cache at {word}: no such {kind}{nearby(word)}")
    if os.path.basename(path) == DATABASE and (url := _of_seed(os.path.dirname(path))):
        return Found(((url, word),))
    if word.endswith(PACKED):
        return Found(((url_of_path("jsonl", path), word),), word)
    if os.path.getsize(path) and not is_cassette(path):
        raise StoreError(_other_file(word, path))
    return Found(((url_of_path("jsonl", path), word),))


def _check_given(word: str) -> None:
    """Raise `StoreError` for a word that is empty: it is not the folder one is in."""
    if not word:
        raise StoreError('"" names no cache: a variable of the shell that is not set? . is here')


def _url(word: str) -> str:
    return f"redis://{word}" if _SERVER.fullmatch(word) else word


def _in_folder(word: str, path: str) -> Found:
    if holds_seeds(path) or _holds_runs(path):
        return Found(((url_of_path("disk", path), word),))
    if url := _of_seed(path):
        return Found(((url, word),))
    inside = os.path.join(path, ".cache")
    if holds_seeds(inside) or _holds_runs(inside):
        shown = os.path.normpath(os.path.join(word, ".cache"))
        return Found(((url_of_path("disk", inside), shown),), notes=(f"reading {shown}",))
    found: list[str] = []
    others: list[str] = []
    for name in _lines_below(path, _DEPTH):
        (found if is_cassette(os.path.join(path, name)) else others).append(name)
    if not found:
        raise StoreError(f"{word} is not a cache: {_lack(others)}{nearby(word)}")
    urls = tuple(
        (url_of_path("jsonl", os.path.join(path, name)), os.path.normpath(os.path.join(word, name)))
        for name in found
    )
    text = urls[0][1] if len(urls) == 1 else f"{len(urls)} files in {word}"
    return Found(urls, text, (f"left out {_lack(others)}",) if others else ())


def _lack(others: list[str]) -> str:
    if not others:
        return "it holds neither folders of seeds nor files of entries (.jsonl)"
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"{others[0]}{more}, without an entry of cachewrap's"


def _of_seed(path: str) -> str | None:
    """The URL of a folder that holds one seed of a cache."""
    seed = seed_of(os.path.basename(path))
    if seed is None or not os.path.isfile(os.path.join(path, DATABASE)):
        return None
    return url_of("disk", os.path.dirname(path), seed)


def holds_seeds(path: str) -> bool:
    with suppress(OSError), os.scandir(path) as inside:
        return any(
            seed_of(one.name) is not None and os.path.isfile(os.path.join(one.path, DATABASE))
            for one in inside
        )
    return False


def _holds_runs(path: str) -> bool:
    return os.path.isdir(os.path.join(path, LOGS))


def _folders(path: str, depth: int) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, as paths from the first, each with the names of its files."""
    waiting = [("", depth)]
    for _ in range(_MOST_FOLDERS):
        if not waiting:
            return
        name, depth = waiting.pop(0)
        with suppress(OSError), os.scandir(os.path.join(path, name)) as inside:
            below = sorted(inside, key=lambda one: one.name)
            yield name, [one.name for one in below if one.is_file()]
            if depth:
                waiting += [
                    (os.path.join(name, one.name), depth - 1)
                    for one in below
                    if one.is_dir(follow_symlinks=False)
                    and one.name not in _PASSED_OVER
                    and (not one.name.startswith(".") or one.name == ".cache")
                ]


def _lines_below(path: str, depth: int) -> list[str]:
    """The files of lines in a folder and below it, as paths from there."""
    found = [
        os.path.join(name, one)
        for name, inside in _folders(path, depth)
        for one in inside
        if one.endswith(CASSETTE)
    ]
    return sorted(found)


def _caches_below(path: str, depth: int) -> Iterator[str]:
    """What can be read in a folder and below it: caches, files of entries, folders of those."""
    for name, inside in _folders(path, depth):
        whole = os.path.join(path, name)
        if name and holds_seeds(whole):
            yield name
        found = (one for one in inside if one.endswith(CASSETTE))
        for one in (one for one in found if is_cassette(os.path.join(whole, one))):
            if name:
                yield name
                break
            yield one


def _other_file(word: str, path: str) -> str:
    """What a file is that is no cache."""
    with files.reader(path) as file:
        start = file.read(4096)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    what = "not a file of entries"
    if start.startswith(b"SQLite format 3\0"):
        what = f"a database of SQLite: if it is LangChain's cache, cachewrap import {word} reads it"
    elif start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")):
        what = "compressed: unpack it first"
    elif start.startswith(b"PK\x03\x04"):
        what = "a zip archive: unpack it first"
    elif is_report(start):
        what = "a report: open it in a browser, and give the cache here"
    elif text[:15].lower().startswith((b"<!doctype html", b"<html")):
        what = "a page of HTML"
    elif re.match(rb"(?:#.*\n|version:.*\n|---\n)*interactions:", text):
        what = "a cassette of VCR.py: its recordings have to be made again"
    elif path.endswith(CASSETTE):
        what = "a file whose lines are no entries"
    elif text[:1] in (b"{", b"["):
        what = (
            f"JSON, without a key and seed: if it is a request, cachewrap explain {word} reads it"
        )
    elif b"\0" in start:
        what = "no text"
    elif path.endswith((".py", ".pyw")):
        what = f"a program: cachewrap run {word}"
    return f"{word} is not a cache: it is {what}"
