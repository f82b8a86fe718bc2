"""Prompts: the requests of a run as providers read them, part by part and in their order.

The order in which a provider builds a prompt is that in which its cache is looked up:

- Anthropic: ``tools``, ``system``, ``messages``. ``speed`` and the format of the output count as
  part of the system prompt; ``tool_choice``, ``thinking`` and ``effort`` as what stands before the
  messages ("Prompt caching", what invalidates the cache).
- OpenAI: tools, and the schema of a structured output as "a prefix to the system message", then
  instructions and messages ("Prompt caching"; "Prompt Caching 201" in its cookbook).
- Gemini: what is common belongs at the beginning ("Context caching"), which for a request with
  ``systemInstruction`` and ``tools`` are these.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from cachewrap.patterns import later
from cachewrap.request.key import readable

CHAT: Final = "chat"
RESPONSES: Final = "responses"
ANTHROPIC: Final = "anthropic"
CONVERSE: Final = "converse"
GEMINI: Final = "gemini"
FUNCTION: Final = "function"

MODEL, TOOLS, FORMAT, SYSTEM, SETTINGS, MESSAGES = ZONES = range(6)
"""The zones of a prompt, in the order in which they are read."""

_NONE: Final = b"\xc0"
_RAW: Final = msgspec.Raw(_NONE)

_MODEL_IN_PATH: Final = later(r"/(?:models?|deployments|publishers/[^/]+/models)/([^/:]+)")
_APIS: Final = (
    ("/chat/completions", CHAT),
    ("/responses", RESPONSES),
    ("/messages", ANTHROPIC),
    ("/converse", CONVERSE),
    ("/converse-stream", CONVERSE),
    (":generateContent", GEMINI),
    (":streamGenerateContent", GEMINI),
    (":rawPredict", ANTHROPIC),
    (":streamRawPredict", ANTHROPIC),
    ("/invoke", ANTHROPIC),
    ("/invoke-with-response-stream", ANTHROPIC),
    ("/api/chat", CHAT),
    ("/v2/chat", CHAT),
)

_TOOLS: Final = ("tools", "functions")
_FORMATS: Final[dict[str, tuple[str, ...]]] = {
    CHAT: ("response_format", "reasoning_effort"),
    RESPONSES: ("text.format", "reasoning.effort"),
    ANTHROPIC: ("speed", "output_format", "output_config.format"),
}
_SYSTEMS: Final[dict[str, tuple[str, ...]]] = {
    RESPONSES: ("instructions",),
    ANTHROPIC: ("system",),
    CONVERSE: ("system",),
    GEMINI: ("systemInstruction", "system_instruction", "cachedContent"),
    FUNCTION: ("system", "system_prompt", "instructions"),
}
_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    ANTHROPIC: ("tool_choice", "thinking", "output_config.effort"),
}
_SPOKEN: Final[dict[str, tuple[str, ...]]] = {
    CHAT: ("messages",),
    RESPONSES: ("input",),
    ANTHROPIC: ("messages",),
    CONVERSE: ("messages",),
    GEMINI: ("contents",),
    FUNCTION: ("messages", "history", "conversation"),
}


class Slot(NamedTuple):
    """A part of a prompt: its zone, what people call it, and its value as MessagePack."""

    zone: int
    label: str
    raw: bytes


class Head(NamedTuple):
    """All of a prompt that stands before its messages.

    Attributes:
        api: the kind of request.
        place: the host that is asked, or the function.
        model: the model.
        slots: the parts.
        spoken: the name of the conversation.
        previous: the id of the answer that it goes on with; ``""`` for none.
        said: the conversation, where it is no list.
    """

    api: str
    place: str
    model: str
    slots: list[Slot]
    spoken: str
    previous: str
    said: list[bytes]


class Prompt(NamedTuple):
    """A request: its head and its messages, as MessagePack."""

    head: Head
    messages: list[bytes]

    def slots(self) -> list[Slot]:
        """All of its parts, in order."""
        name = self.head.spoken
        return self.head.slots + [
            Slot(MESSAGES, f"{name}[{number}]", raw) for number, raw in enumerate(self.messages)
        ]


class Prompts:
    """The prompts in encoded requests. What many have in common is read once."""

    def __init__(self) -> None:
        self._heads: dict[tuple[bytes, bytes], Head | None] = {}

    def read(self, request: bytes) -> Prompt | None:
        """The prompt in a request; None for a request that holds none.

        Raises what a damaged one makes of it: `msgspec.MsgspecError` or a `ValueError`.
        """
        if request[:1] != b"\xc1":
            return None
        count = int.from_bytes(request[-4:])
        if count > len(request):
            raise ValueError("more messages than bytes")
        begin = b"\xdd" + (count + 2).to_bytes(4)
        first, part, *messages = _raws.decode(begin + request[1:-4])
        known = bytes(first), bytes(part)
        if known in self._heads:
            head = self._heads[known]
        else:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            head = self._heads[known] = _head(*known)
        if head is None:
            return None
        return Prompt(head, [bytes(one) for one in messages] or head.said)


_MOST_HEADS: Final = 512
_raws: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_members: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")


def _head(first: bytes, part: bytes) -> Head | None:
    name, spoken, told = msgspec.msgpack.decode(first)
    body = {key: bytes(raw) for key, raw in _members.decode(part).items()}
    if name == "arguments":
        api, place, url = FUNCTION, str(told.get("function", "")), ""
    else:
        url = str(told.get("url", ""))
        path = url.partition("?")[0]
        found = next((api for end, api in _APIS if path.endswith(end)), "")
        api = found or (CHAT if spoken == "messages" else GEMINI if spoken == "contents" else "")
        place = "/".join(url.split("/", 3)[:3])
    said = _SPOKEN.get(api, ())
    texts = [key for key in said if key in body]
    if spoken not in said and not texts:
        return None
    model = _text(body.get("model", _NONE))
    if not model and (in_path := _MODEL_IN_PATH.search(url)):
        model = in_path[1]
    slots = [Slot(MODEL, "model", _encoder.encode([place, model]))]
    for key in _TOOLS:
        slots += _listed(TOOLS, key, _at(body, "toolConfig.tools" if api == CONVERSE else key))
    slots += [Slot(FORMAT, key, _at(body, key)) for key in _FORMATS.get(api, ())]
    for key in _SYSTEMS.get(api, ()):
        if key in body:
            slots += _listed(SYSTEM, key, body[key])
    slots += [Slot(SETTINGS, key, _at(body, key)) for key in _SETTINGS.get(api, ())]
    previous = _text(body.get("previous_response_id", _NONE))
    alone = [] if spoken in said else [_message(body[texts[0]])]
    return Head(api, place, model, slots, spoken or texts[0], previous, alone)


def _at(body: dict[str, bytes], path: str) -> bytes:
    name, _, inner = path.partition(".")
    raw = body.get(name, _NONE)
    if not inner or raw == _NONE:
        return raw
    try:
        return bytes(_members.decode(raw).get(inner, _RAW))
    except msgspec.MsgspecError:
        return _NONE


def _listed(zone: int, label: str, raw: bytes) -> list[Slot]:
    if raw == _NONE:
        return []
    try:
        items = _raws.decode(raw)
    except msgspec.MsgspecError:
        return [Slot(zone, label, raw)]
    return [Slot(zone, f"{label}[{number}]", bytes(one)) for number, one in enumerate(items)]


def _text(raw: bytes) -> str:
    value = msgspec.msgpack.decode(raw)
    return value if isinstance(value, str) else ""


def _message(raw: bytes) -> bytes:
    # An input that is text stands for a message of a person's with that text.
    return _encoder.encode({"content": msgspec.Raw(raw), "role": "user"})


# -- what is known of a part -------------------------------------------------------------------

OTHER, TOLD, RULES = 0, 1, 2
"""Who said a message: somebody else, the model, or who made the system prompt."""


class _Said(msgspec.Struct):
    role: str = ""
    type: str = ""
    text: str | None = None
    content: msgspec.Raw = _RAW


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None


_said: Final = msgspec.msgpack.Decoder(_Said)
_blocks: Final = msgspec.msgpack.Decoder(list[_Block])
_ONLY_TEXT: Final = frozenset({"text", "input_text", "output_text"})
_ENCODED: Final = later(rb"[A-Za-z0-9+/=_-]{2000,}")
_PICTURE: Final = 4000
"""Characters that something in Base64 counts for: a picture has about a thousand tokens."""

_CONTENT: Final = b"content"
_SHAPELESS: Final = b"0123456789abcdefABCDEF \t\r\n-_:.,;+/\\T"
"""What times, numbers, identifiers in hexadecimal digits and white space are made of."""


class Parts:
    """The distinct parts of all prompts: each has a number.

    Attributes:
        size: of each, the characters that it counts for.
        shape: of each, a hash that it shares with those that differ in times, numbers and ids.
        front: of each, a hash of what its first words are shaped like.
        teller: of each, who said it.
        blocks: of each, the blocks that Anthropic's cache counts in it.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self.size: list[int] = []
        self.shape: list[int] = []
        self.front: list[int] = []
        self.teller = bytearray()
        self.blocks: list[int] = []

    def number(self, raw: bytes) -> int:
        """The number of a part; the same for what a provider reads as the same."""
        told = hash(raw)
        number = self._numbers.get(told)
        if number is None:
            plain = _plain(raw)
            number = self._numbers.get(hash(plain))
            if number is None:
                number = self._numbers[hash(plain)] = self._add(plain)
            self._numbers[told] = number
        return number

    def _add(self, raw: bytes) -> int:
        size = len(raw)
        if size > 2000 and (found := _ENCODED.findall(raw)):
            size += sum(_PICTURE - len(one) for one in found if len(one) > _PICTURE)
        self.size.append(0 if raw == _NONE else size)
        shape = raw.translate(None, _SHAPELESS)
        self.shape.append(hash(shape) if len(shape) > 4 else 0)
        begin = raw.find(_CONTENT) + len(_CONTENT) + 3  # behind the length of a long text
        self.front.append(hash(raw[begin : begin + 160].translate(None, _SHAPELESS)[:40]))
        teller, blocks = _teller(raw)
        self.teller.append(teller)
        self.blocks.append(blocks)
        return len(self.size) - 1


def _teller(raw: bytes) -> tuple[int, int]:
    try:
        said = _said.decode(raw)
    except msgspec.MsgspecError:
        return OTHER, 1
    blocks = 1
    try:
        kinds = [block.type for block in _blocks.decode(said.content)]
    except msgspec.MsgspecError:
        pass
    else:
        # "A run of consecutive tool_use blocks counts as one position, and so does a run of
        # consecutive tool_result blocks": Anthropic, "Prompt caching".
        runs = ("tool_use", "tool_result")
        blocks = sum(
            1
            for number, kind in enumerate(kinds)
            if not (number and kind in runs and kinds[number - 1] == kind)
        )
    if said.role in ("assistant", "model") or (
        not said.role and (said.type == "reasoning" or said.type.endswith("_call"))
    ):
        return TOLD, blocks
    return (RULES if said.role in ("system", "developer") else OTHER), blocks


def _plain(raw: bytes) -> bytes:
    """A part whose content is one block of text, as that text: a provider reads both the same."""
    if len(raw) < 4 or not 0x82 <= raw[0] <= 0x84:
        return raw
    try:
        said = _said.decode(raw)
        if said.text is not None and raw[0] == 0x82 and said.type in _ONLY_TEXT:
            return _encoder.encode(said.text)
        if bytes(said.content)[:2] == b"\x91\x82":
            block = _blocks.decode(said.content)[0]
            if block.text is not None and block.type in _ONLY_TEXT:
                message = msgspec.msgpack.decode(raw)
                return _encoder.encode({**message, "content": block.text})
    except msgspec.MsgspecError:
        pass
    return raw


def values(request: bytes, zone: int, rules: int, only: int | None = None) -> list[tuple[str, Any]]:
    """The parts of one zone of a request, with what people call them, as plain values.

    Args:
        request: the encoded request.
        zone: the zone.
        rules: how many of the first messages are the system prompt.
        only: the number of the one part that is wanted; None for all.
    """
    prompt = Prompts().read(request)
    if prompt is None:
        return []
    slots = [slot for slot in moved(prompt.slots(), rules) if slot.zone == zone]
    if only is not None:
        slots = slots[only : only + 1]
    return [(slot.label, readable(msgspec.msgpack.decode(_plain(slot.raw)))) for slot in slots]


def moved(slots: list[Slot], rules: int) -> list[Slot]:
    """The parts of a prompt with those messages that are its system prompt among these."""
    if not rules:
        return slots
    begin = next(at for at, slot in enumerate(slots) if slot.zone == MESSAGES)
    found = [Slot(SYSTEM, slot.label, slot.raw) for slot in slots[begin : begin + rules]]
    return sorted([*slots[:begin], *found, *slots[begin + rules :]], key=lambda slot: slot.zone)
