"""What passes between a client and the stand-in upstream: requests and answers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a multipart body: a form value, or a file if it has a file name."""

    name: str
    filename: str | None
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the stand-in received it.

    Args:
        method: the HTTP method.
        path: the path, without the query.
        query: the query as sent, without the question mark.
        headers: the headers, by lower-case name.
        body: the body, decoded from its transfer coding.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def endpoint(self) -> str:
        """The path without what differs between OpenAI and Azure: ``chat/completions``.

        What goes to Anthropic's models on Bedrock and Vertex is ``messages`` as well.
        """
        parts = self.path.strip("/").split("/")
        if parts[0] == "model" and parts[-1].startswith("invoke"):
            return "messages"
        if parts[-1].endswith(":rawPredict") or parts[-1].endswith(":streamRawPredict"):
            return "messages/count_tokens" if parts[-1].startswith("count-") else "messages"
        if parts[0] == "openai":
            parts = parts[1:]
        if parts[:1] == ["deployments"]:
            parts = parts[2:]
        elif parts[:1] == ["v1"]:
            parts = parts[1:]
        return "/".join(parts)

    @property
    def multipart(self) -> bool:
        """Whether the body is a multipart form."""
        return self.headers.get("content-type", "").startswith("multipart/form-data")

    def json(self) -> dict[str, Any]:
        """The JSON body, or an empty dictionary if there is none.

        Raises:
            ValueError: the body is not a JSON object.
        """
        document = json.loads(self.body or b"{}")
        if not isinstance(document, dict):
            raise ValueError(f"a JSON object was expected, not {type(document).__name__}")
        return document

    def parts(self) -> list[Part]:
        """The fields of a multipart body, in the order sent."""
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + self.body)
        parts = []
        for item in message.iter_parts():
            content = item.get_payload(decode=True)
            parts.append(
                Part(
                    name=str(item.get_param("name", header="content-disposition") or ""),
                    filename=item.get_filename(),
                    content_type=item.get_content_type(),
                    content=content if isinstance(content, bytes) else b"",
                )
            )
        return parts

    def fields(self) -> dict[str, Any]:
        """What was asked, whether it came as JSON or as a form; files are left out of a form."""
        if not self.multipart:
            return self.json()
        return {part.name: part.content.decode() for part in self.parts() if part.filename is None}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, before the transport decides how to send it.

    Args:
        content_type: the media type.
        pieces: the body; more than one piece is sent piece by piece.
        events: events (name or ``""``, data), if the answer is a stream of them.
        binary: whether the events are sent in frames as Amazon Bedrock has them, rather than as
            server-sent events.
        done: whether such a stream ends with ``[DONE]``.
        status: the HTTP status.
    """

    content_type: str = "application/json"
    pieces: tuple[bytes, ...] = ()
    events: tuple[tuple[str, str], ...] = ()
    done: bool = False
    status: int = 200
    binary: bool = False


@dataclass(slots=True)
class Draw:
    """What makes one answer unlike every other: a counter and a random token.

    Args:
        number: how many requests the stand-in had received, this one included.
        token: 16 random hexadecimal digits.
        finish: whether the answer says that it is finished.
        status: the status that a Responses answer claims.
        says: what is said to the last message, or None for a sentence unlike every other.
    """

    number: int
    finish: bool = True
    status: str = "completed"
    says: Callable[[str], str | None] | None = None
    steady: bool = False
    shuffled: bool = False
    token: str = field(default_factory=lambda: f"{random.SystemRandom().getrandbits(64):016x}")

    @property
    def created(self) -> int:
        """The time that the answer claims for itself, in seconds since the epoch."""
        return 1_700_000_000 + self.number

    def text(self, subject: str = "") -> str:
        """A sentence of its own, with characters of two, three and four bytes in it."""
        if self.says is not None and (said := self.says(subject)) is not None:
            return said
        about = f" to “{subject[:60]}”" if subject else ""
        return f"Answer {self.number} ({self.token}){about}: grüß dich, 世界 🌍!"


def dump(document: object) -> str:
    """JSON as the stand-in sends it: compact, and not limited to ASCII."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def plain(document: object, status: int = 200) -> Answer:
    """An answer of one JSON document."""
    return Answer(pieces=(dump(document).encode(),), status=status)


def fault(status: int, message: str, code: str | None = None) -> Answer:
    """An answer as the API gives it when something is wrong."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return plain({"error": error}, status)


def morsels(text: str, size: int = 9) -> Iterator[str]:
    """The text in pieces of at most ``size`` characters."""
    for start in range(0, len(text), size):
        yield text[start : start + size]
