"""What others get cannot be chosen by who asks first: what may be read otherwise is no hit."""

from __future__ import annotations

from itertools import count

import pytest

from proxy.raw import Message, Wire, request
from proxy.running import Within
from proxy.upstream import Upstream, answer, chat, completion, json_of

CHAT = "/openai/v1/chat/completions"
UPLOADS = "/openai/v1/audio/transcriptions"
JSON = "Content-Type: application/json"
FORM = "Content-Type: multipart/form-data; boundary=X"


@pytest.fixture
def answering(upstream: Upstream) -> Upstream:
    """An upstream whose every answer is another one."""
    numbers = count()

    def reply(wire: Wire, asked: Message) -> None:
        number = f"answer {next(numbers)}"
        is_upload = asked.target.endswith("transcriptions")
        wire.send(answer(json_of({"text": number}) if is_upload else completion(number)))

    upstream.usual = reply
    return upstream


def post(*headers: str, body: bytes = chat(), target: str = CHAT) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: a", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def form(prompt: str = "") -> bytes:
    """A form, whose prompt may say how it is written."""
    told = "Content-Disposition: form-data; name="
    parts = [
        f'{told}"file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\nsound',
        f'{told}"prompt"{prompt}\r\n\r\n+AOk-',
        f'{told}"model"\r\n\r\nm',
    ]
    return "".join(f"--X\r\n{part}\r\n" for part in parts).encode() + b"--X--\r\n"


def upload(*headers: str, prompt: str = "") -> bytes:
    return post(*headers, body=form(prompt), target=UPLOADS)


TEXT = chat("é")
TWICE = b'{"model":"evil","model":"m","messages":[{"role":"user","content":"hi"}]}'
TWICE_WITHIN = b'{"model":"m","messages":[{"role":"user","content":"evil","content":"hi"}]}'
PLAIN = post(JSON)
UPLOAD = upload(FORM)
ODD = {
    "a header twice": (post(JSON, "X-A: evil", "X-A: b"), post(JSON, "X-A: b")),
    "a header twice, as a list": (post(JSON, "X-A: b", "X-A: c"), post(JSON, "X-A: b, c")),
    "two types": (post("Content-Type: text/csv", JSON), PLAIN),
    "two types, the other way": (post(JSON, "Content-Type: text/csv"), PLAIN),
    "another charset": (post(f"{JSON}; charset=latin-1", body=TEXT), post(JSON, body=TEXT)),
    "two charsets": (post(f"{JSON}; charset=utf-8; charset=latin-1"), PLAIN),
    "another JSON": (post(f"{JSON}-patch+json"), PLAIN),
    "another version of JSON": (post(f"{JSON}; v=2"), PLAIN),
    "XML wanted": (post(JSON, "Accept: application/xml"), PLAIN),
    "XML wanted more": (post(JSON, "Accept: application/xml, */*;q=0.1"), PLAIN),
    "JSON wanted less": (post(JSON, "Accept: application/json;q=0.1, */*"), PLAIN),
    "text wanted": (post(JSON, "Accept: text/plain"), PLAIN),
    "another charset wanted": (post(JSON, "Accept-Charset: utf-16"), PLAIN),
    "events wanted": (post(JSON, "Accept: TEXT/EVENT-STREAM"), PLAIN),
    "events wanted too": (post(JSON, "Accept: */*", "Accept: text/event-stream"), PLAIN),
    "another method": (post(JSON, "X-HTTP-Method-Override: GET"), PLAIN),
    "a name twice": (post(JSON, body=TWICE), PLAIN),
    "a name twice, within": (post(JSON, body=TWICE_WITHIN), PLAIN),
    "UTF-16": (post(JSON, body=chat().decode().encode("utf-16")), PLAIN),
    "a mark of UTF-8": (post(JSON, body=b"\xef\xbb\xbf" + chat()), PLAIN),
    "NUL behind it": (post(JSON, body=chat() + b"\0"), PLAIN),
    "two codings": (post(JSON, "Content-Encoding: identity", "Content-Encoding: gzip"), PLAIN),
    "bytes in a query": (post(JSON, target=f"{CHAT}?a=%ff"), post(JSON, target=f"{CHAT}?a=%fe")),
    "a path in capitals": (post(JSON, target="/openai/v1/Chat/completions"), PLAIN),
    "an encoded path": (post(JSON, target="/openai/v1/%63hat/completions"), PLAIN),
    "a parameter of a path": (post(JSON, target=f"{CHAT};a=b"), PLAIN),
    "a part of it": (post(JSON, "Range: bytes=0-1"), PLAIN),
    "a form's charset": (upload(f"{FORM}; charset=utf-7"), UPLOAD),
    "a form's charset first": (upload(FORM.replace("; ", "; charset=utf-16; ")), UPLOAD),
    "two boundaries": (upload(FORM.replace("; ", "; boundary=A; ")), UPLOAD),
    "two boundaries, the other way": (upload(f"{FORM}; boundary=A"), UPLOAD),
    "two forms": (upload(FORM, FORM.replace("=X", "=A")), UPLOAD),
    "a field's charset": (
        upload(FORM, prompt="\r\nContent-Type: text/plain; charset=utf-7"),
        UPLOAD,
    ),
    "a field that is encoded": (
        upload(FORM, prompt="\r\nContent-Transfer-Encoding: quoted-printable"),
        UPLOAD,
    ),
}
SAME = {
    "a charset": (post(f'{JSON};charset="UTF-8"'), PLAIN),
    "a list that is usual": (post(JSON, "Accept: application/json, text/plain, */*"), PLAIN),
    "sound wanted": (post(JSON, "Accept: audio/wav"), PLAIN),
    "a charset of a field": (
        upload(FORM, prompt="\r\nContent-Type: text/plain; charset=UTF-8"),
        UPLOAD,
    ),
    "a credential twice": (post(JSON, "Authorization: Bearer a", "Authorization: b"), PLAIN),
}


@pytest.mark.parametrize("case", ODD)
def test_what_may_be_read_otherwise_is_another_request(
    proxy: Within, answering: Upstream, case: str
) -> None:
    """Who asks the plain thing gets what was answered to just that."""
    odd, plain = ODD[case]
    first = proxy.ask(odd)
    second = proxy.ask(plain)
    assert (first.status, second.status, second.mark) == (200, 200, "miss")
    assert second.body != first.body
    assert len(answering.asked) == 2


@pytest.mark.parametrize("case", SAME)
def test_what_all_read_alike_is_one_request(proxy: Within, answering: Upstream, case: str) -> None:
    told = [proxy.ask(asked) for asked in SAME[case]]
    assert [one.mark for one in told] == ["miss", "hit"]


WAYS = ["Forwarded: host=evil.example", "X-Forwarded-Host: evil.example"]
WAYS += ["X-Forwarded-Prefix: /evil", "X-Forwarded-Proto: gopher", "x-envoy-original-path: /evil"]


def test_who_asks_does_not_say_where_the_upstream_is(proxy: Within, answering: Upstream) -> None:
    """Some make the addresses in an answer of that, which others are then given."""
    assert proxy.ask(post(JSON, *WAYS, "X-Forwarded-For: 192.0.2.1")).mark == "miss"
    sent = {name.lower() for name, _ in answering.last.headers}
    assert not [name for name in sent if b"evil" in name or b"original" in name]
    assert {name for name in sent if b"forwarded" in name} == {b"x-forwarded-for"}
    assert proxy.ask(PLAIN).mark == "hit"
    asked = request("/openai/v1/models", None, *WAYS)
    assert proxy.ask(asked).mark == "bypass"
    assert answering.last.get("x-forwarded-host") == "evil.example"  # nobody else is given that
