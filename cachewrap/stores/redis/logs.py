"""Logs on a server: a list for each, and an index of all of a namespace, in one slot."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from cachewrap.errors import StoreError
from cachewrap.stores.base import LogFacts, Logs
from cachewrap.stores.redis.budget import TooLargeError
from cachewrap.stores.redis.commands import quoted, raised
from cachewrap.stores.redis.connections import Connections

_PIECES: Final = 1000
"""Pieces that are added or read at once, at most."""

_BYTES: Final = 2**22
"""Bytes of pieces that are added or read at once, as far as can be told from those before."""

_FIRST_PIECES: Final = 16

# What is sent twice, as its answer was lost, is done once: the third key says that it was done.
_ADD: Final = """
if not redis.call('SET', KEYS[3], '1', 'PX', 60000, 'NX') then return 0 end
local known = redis.call('HGET', KEYS[2], ARGV[1])
local size = known and tonumber(string.match(known, '^%d+')) or 0
for at = 3, #ARGV do
  if redis.call('RPUSH', KEYS[1], ARGV[at]) == 1 then size = 0 end
  size = size + #ARGV[at]
end
return redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f ', size) .. ARGV[2])
"""

_REMOVE: Final = """
return redis.call('HDEL', KEYS[2], ARGV[1]) + redis.call('UNLINK', KEYS[1])
"""


class RedisLogs(Logs):
    """The segment `Logs` of a store on a server.

    Names of keys are ``cachewrap:<namespace>:{<namespace>}:log:<name>``, and with ``logs`` at the
    end for the index: a hash of the size of each and the time of its last change. No seed has a
    brace in it, so that none of them is an entry's.
    """

    logs_hold = True

    _connections: Connections
    _namespace: str

    @property
    def logs_url(self) -> str:
        place = self._connections.place
        return f"{place}{'&' if '?' in place else '?'}namespace={quoted(self._namespace)}"

    def append_to_log(self, name: str, pieces: Sequence[bytes]) -> None:
        some: list[bytes] = []
        size = 0
        for piece in pieces:
            if some and (len(some) == _PIECES or size + len(piece) > _BYTES):
                self._append(name, some, size)
                some, size = [], 0
            some.append(piece)
            size += len(piece)
        if some:
            self._append(name, some, size)

    def _append(self, name: str, pieces: list[bytes], size: int) -> None:
        keys = self._log(name), self._log(), self._log_key(f"added:{uuid.uuid4().hex}")
        self._ask("EVAL", _ADD, 3, *keys, name, f"{time.time():.3f}", *pieces, size=size)

    def read_log(self, name: str) -> Iterator[bytes]:
        log, at, most = self._log(name), 0, _FIRST_PIECES
        while True:
            try:
                pieces = self._ask("LRANGE", log, at, at + most - 1)
            except StoreError as error:
                if most == 1 or not isinstance(error.__cause__, TooLargeError):
                    raise
                most = max(1, most // 8)
                continue
            if not pieces:
                return
            yield from map(bytes, pieces)
            at += len(pieces)
            size = sum(map(len, pieces)) / len(pieces)
            most = min(_PIECES, 4 * most, max(1, int(_BYTES / (size + 1))))

    def logs(self) -> list[LogFacts]:
        answer = self._ask("HGETALL", self._log())
        flat = isinstance(answer, list)
        found = zip(answer[::2], answer[1::2], strict=True) if flat else answer.items()
        return [_facts(name, known) for name, known in found]

    def remove_log(self, name: str) -> bool:
        return bool(self._ask("EVAL", _REMOVE, 2, self._log(name), self._log(), name))

    def _log(self, name: str = "") -> bytes:
        return self._log_key(f"log:{name}" if name else "logs")

    def _log_key(self, rest: str) -> bytes:
        namespace = quoted(self._namespace)
        return f"cachewrap:{namespace}:{{{namespace}}}:{rest}".encode()

    def _ask(self, *command: bytes | str | int, size: int = 0) -> Any:
        connections = self._connections
        with connections.asking(size) as client:
            (answer,) = connections.server.ask(client, [command], connections.idle)
            return raised(answer)


def _facts(name: bytes, known: bytes) -> LogFacts:
    size, _, changed = known.decode(errors="replace").partition(" ")
    try:
        return LogFacts(name.decode(errors="replace"), int(size), float(changed))
    except ValueError:  # another program's
        return LogFacts(name.decode(errors="replace"), 0, 0.0)
