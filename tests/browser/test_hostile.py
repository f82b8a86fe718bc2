"""Whatever is stored is shown as text, and never runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.filling import answer_of, put, stream_of
from playwright.sync_api import expect

from browser.conftest import Noise, Opener, write_report

RUN = "window.ran=(window.ran||0)+1"
HOSTILE = [
    f"</script><script>{RUN}</script>",
    f"</ScRiPt ><script>{RUN}</script>",
    f"<!--<script>{RUN}</script>",
    f"--><script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f"<svg/onload={RUN}>",
    f'<iframe srcdoc="<script>parent.{RUN}</script>">',
    f'"><a href="javascript:{RUN}" autofocus onfocus="{RUN}">x</a>',
    f"</title></style></textarea><script>{RUN}</script>",
    f"{{{{constructor.constructor('{RUN}')()}}}} ${{{RUN}}} `<%= {RUN} %>",
    f'<meta http-equiv="refresh" content="0;url=javascript:{RUN}">',
    '<link rel="stylesheet" href="https://example.invalid/x.css"><base href="//example.invalid">',
    f"javascript:{RUN}",
    '"}]</script>{"constructor":{"prototype":{"x":1}},"__proto__":{"ran":1}}',
    f"[x](javascript:{RUN}) <javascript:{RUN}> ![x](x onerror={RUN}) [x](data:text/html,{RUN})\n\n"
    f'# x {{#page onclick="{RUN}"}}\n\n| <img src=x onerror={RUN}> |\n|---|\n| <b>{RUN}</b> |\n\n'
    f'```html" onload="{RUN}\n<script>{RUN}</script>\n```\n\n<a id=page name=search>x</a>',
    "\u2028\u2029\ufeff\uffff",
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each hostile text in every place that there is for a text."""
    folder = tmp_path_factory.mktemp("hostile")
    url = f"disk:{folder / 'cache<img src=x>'}"
    for i, bad in enumerate(HOSTILE):
        call = {"id": bad, "type": "function", "function": {"name": bad, "arguments": bad}}
        messages: list[Any] = [
            {"role": "system", "content": bad},
            {"role": bad, "content": [{"type": "text", "text": bad}, {"type": bad, bad: bad}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "user", "content": bad},
        ]
        body = {"model": bad, "messages": messages, bad: bad, "n": i}
        request = {"method": "POST", "url": "http://up/v1/chat/completions", "body": body}
        message = {"role": bad, "content": bad, "tool_calls": [call]}
        put(url, request, answer_of({"choices": [{"message": message}]}), model=bad, source=bad)
        events = [(0.1, {"choices": [{"delta": {"content": bad}}]})]
        put(url, {**request, "body": {**body, "stream": True}}, stream_of(events), model=bad)
        put(url, {"function": f"m:{bad}", "arguments": {bad: bad}}, {bad: bad}, source=f"m:{bad}")
    write_report(url, folder / "report.html", "--title", HOSTILE[0])
    return folder / "report.html"


def test_nothing_that_is_stored_runs(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file)
    openers = page.locator(".lines .opener")
    assert openers.count() == 3 * len(HOSTILE)
    page.evaluate("document.querySelectorAll('.lines .opener').forEach((it) => it.click())")
    page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    for button in page.get_by_role("button", name="Replay").all()[:3]:
        button.click()
    page.locator(".reach").first.hover()
    page.locator("#search").fill(HOSTILE[0])
    expect(page.get_by_role("status")).to_contain_text(f" of {3 * len(HOSTILE)}")
    assert page.evaluate("window.ran") is None
    made = "img, iframe, object, embed, base, link, a[href^=javascript], main script, main style"
    assert page.locator(made).count() == 0
    links = page.evaluate("[...document.querySelectorAll('main a')].map((it) => it.protocol)")
    assert set(links) <= {"http:", "https:", "mailto:"}
    named = "[...document.querySelectorAll('.talk [id], .talk [name], .talk [style]')]"
    ids = page.evaluate(f"{named}.map((it) => it.id || it.outerHTML)")
    assert [name for name in ids if not name.startswith("said-")] == []


def test_every_text_is_shown_as_it_is(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file)
    page.evaluate("document.querySelectorAll('.lines .opener').forEach((it) => it.click())")
    for button in page.get_by_role("button", name="As stored").all():
        button.click()
    said = page.evaluate("[...document.querySelectorAll('.said')].map((it) => it.textContent)")
    for bad in HOSTILE[:-1]:
        assert bad in said
    names = page.evaluate("[...document.querySelectorAll('.groups .name')].map(n => n.textContent)")
    assert {name for name in HOSTILE[:-1] if len(name) < 200} <= set(names)
    assert page.title() == page.locator("h1").text_content() == HOSTILE[0]


ODD = [
    ("a text that turns", "abc\u202egnp.exe", "abcU+202Egnp.exe"),
    ("isolates and marks", "\u2066a\u2069\u200f", "U+2066aU+2069U+200F"),
    ("control characters", "a\x00b\x1b[31m\x85", "aU+0000bU+001B[31mU+0085"),
    ("a lone surrogate", "\ud800 and \udfff", "U+D800 and U+DFFF"),
    ("what no one sees", "a\u200bb\ufeffc\xadd", "aU+200BbU+FEFFcU+00ADd"),
    ("tags that carry text", "a\U000e0041\U000e0042", "aU+E0041U+E0042"),
    ("joiners of scripts and emoji stay", "a\u200db\u200cc", "a\u200db\u200cc"),
    ("lines and tabs stay", "a\r\nb\tc\n", "a\nb\tc"),
]


def test_what_cannot_be_seen_is_spelt_out(tmp_path: Path, open_page: Opener) -> None:
    url = f"jsonl:{tmp_path / 'c.jsonl'}"
    for number, (_, text, _) in enumerate(ODD):
        message = {"role": "assistant", "content": text}
        put(url, {"key": number}, answer_of({"choices": [{"message": message}]}))
    page = open_page(write_report(url, tmp_path / "r.html"))
    page.evaluate("document.querySelectorAll('.lines .opener').forEach((it) => it.click())")
    said = page.evaluate("[...document.querySelectorAll('.said')].map((it) => it.textContent)")
    for name, _, shown in ODD:
        assert shown in said, name


def test_a_huge_text_costs_few_elements(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    put(url, {"function": "m:f", "key": "x" * 200_000}, "\x00a" * 100_000, source="m:f" * 5000)
    page = open_page(write_report(url, tmp_path / "r.html"))
    page.locator(".lines .opener").click()
    for _ in range(2):
        page.get_by_role("button", name="Show all").first.click()
    assert page.locator(".talk *").count() < 2500
    assert "150,000 more characters are not on this page" in page.locator(".talk").inner_text()


FORBIDDEN = {
    "an inline script": "const s = document.createElement('script');"
    " s.textContent = 'window.ran=1'; document.body.append(s)",
    "a script from elsewhere": "const s = document.createElement('script');"
    " s.src = 'https://example.invalid/x.js'; document.body.append(s)",
    "markup": "document.body.innerHTML = '<img src=x onerror=window.ran=1>'",
    "a handler": "document.body.setAttribute('onclick', 'window.ran=1'); document.body.click()",
    # Later: what the test itself has evaluated may evaluate.
    "eval": "new Promise((done) => setTimeout(() => {"
    " try { eval('window.ran=1'); } finally { done(); } }))",
    "a style": "const s = document.createElement('style'); s.textContent = 'body{color:red}';"
    " document.head.append(s); if (getComputedStyle(document.body).color === 'rgb(255, 0, 0)')"
    " window.ran = 1",
    "an image from elsewhere": "new Promise((done) => { const i = new Image();"
    " i.onload = () => { window.ran = 1; done(); }; i.onerror = done;"
    " i.src = 'https://example.invalid/x.png'; })",
    "a frame": "const f = document.createElement('iframe');"
    " f.src = 'data:text/html,<script>parent.ran=1</script>'; document.body.append(f);"
    " await new Promise((done) => setTimeout(done, 50))",
    "a request": "fetch('https://example.invalid/').then(() => { window.ran = 1; })",
}


@pytest.mark.parametrize("code", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_the_policy_is_in_force(tmp_path: Path, open_page: Opener, noise: Noise, code: str) -> None:
    url = f"jsonl:{tmp_path / 'c.jsonl'}"
    put(url, {"function": "m:f", "key": 1}, "x", source="m:f")
    page = open_page(write_report(url, tmp_path / "r.html"))
    page.evaluate(
        f"(async () => {{ try {{ await ({{async f() {{ {code} }}}}).f() }} catch {{}} }})()"
    )
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in heard or "Trusted" in heard for heard in noise.heard)
    assert not [heard for heard in noise.heard if heard.startswith(("dialog", "popup"))]
    noise.heard.clear()
