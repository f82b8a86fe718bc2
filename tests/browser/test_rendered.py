"""Markdown as it is rendered: what it stands for, and nothing that it could do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.filling import chat, put
from playwright.sync_api import Browser, Page

from browser.conftest import Noise, write_report


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    url = f"jsonl:{folder / 'c.jsonl'}"
    put(url, *chat("a", "b"))
    return write_report(url, folder / "r.html")


@pytest.fixture(scope="module")
def page(chromium: Browser, page_file: Path) -> Iterator[Page]:
    """One page for all: it stays as it is."""
    noise, context = Noise(), chromium.new_context()
    page = context.new_page()
    noise.listen(page, page_file)
    page.goto(page_file.as_uri())
    yield page
    context.close()
    assert noise.heard == []


_PLAIN = re.compile(r' (?:dir|rel|target|class|tabindex|role|aria-label|type)="[^"]*"')


def rendered(page: Page, text: str) -> str | None:
    """The elements of a Markdown text, without attributes that are always the same."""
    html = page.evaluate("(text) => markdown(text)?.innerHTML ?? null", text)
    return None if html is None else _PLAIN.sub("", html)


def code(text: str, language: str = "") -> str:
    name = f"<span>{language}</span>" if language else ""
    return f"<div><div>{name}<button>Copy</button></div><pre><code>{text}</code></pre></div>"


def link(href: str, text: str, shown: bool = True) -> str:
    target = f"<span> ({href})</span>" if shown else ""
    return f'<a href="{href}">{text}</a>{target}'


TABLE = (
    '<div><table><thead><tr><th scope="col">a</th><th scope="col">b</th></tr></thead>'
    "<tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>"
)
RENDERED = {
    "text": ("a", "<p>a</p>"),
    "lines stay lines": ("a\nb  \nc", "<p>a\nb\nc</p>"),
    "marks": (
        "**a** _b_ ~~c~~ `d` \\* *e",
        "<p><strong>a</strong> <em>b</em> <s>c</s> <code>d</code> * *e</p>",
    ),
    "lists": ("- a\n- b\n\n5) x", '<ul><li>a</li><li>b</li></ul><ol start="5"><li>x</li></ol>'),
    "a quotation": ("> a", "<blockquote><p>a</p></blockquote>"),
    "code": ("```py\nif a < b:\n    c\n```", code("if a &lt; b:\n    c", "py")),
    "code without an end": ("~~~\na", code("a")),
    "code that is indented": ("    a", code("a")),
    "a table": ("| a | b |\n|:-|-:|\n| 1 | 2 |", TABLE),
    "headings below those of the page": ("## a\n\n#### b", "<h4>a</h4><h5>b</h5>"),
    "a rule": ("a\n\n---", "<p>a</p><hr>"),
    "math in a line": (
        r"\(a_b_c\) and $x_1 + y_1$",
        r"<p><span>\(a_b_c\)</span> and <span>$x_1 + y_1$</span></p>",
    ),
    "math in lines of its own": ("$$\n- a\n+ b\n$$", "<div>$$\n- a\n+ b\n$$</div>"),
    "brackets of math": ("\\[\na\n= b\n\\]", "<div>\\[\na\n= b\n\\]</div>"),
    "prices are no math": ("$5 and $6", "<p>$5 and $6</p>"),
    "an address": (
        "https://a.example/b_c",
        f"<p>{link('https://a.example/b_c', 'https://a.example/b_c', False)}</p>",
    ),
    "a link shows where it leads": (
        "[a *b*](https://c.example/)",
        f"<p>{link('https://c.example/', 'a <em>b</em>')}</p>",
    ),
    "a mail address": (
        "<a@b.example>",
        f"<p>{link('mailto:a@b.example', 'a@b.example', False)}</p>",
    ),
    "a note stays": ("a[^1]\n\n[^1]: b", "<p>a[^1]</p><p>[^1]: b</p>"),
}


@pytest.mark.parametrize(("text", "html"), RENDERED.values(), ids=RENDERED.keys())
def test_markdown_is_rendered(page: Page, text: str, html: str) -> None:
    assert rendered(page, text) == html


EVIL = "https://evil.example/"
HARMLESS = {
    "a script's address": ("[a](javascript:x)", "<p>a<span> (javascript:x)</span></p>"),
    "in other letters": ("[a](JaVaScRiPt:x)", "<p>a<span> (JaVaScRiPt:x)</span></p>"),
    "behind an entity": ("[a](&#106;avascript:x)", "<p>a<span> (javascript:x)</span></p>"),
    "VBScript": ("[a](vbscript:x)", "<p>a<span> (vbscript:x)</span></p>"),
    "a document in an address": (
        "[a](data:text/html,x)",
        "<p>a<span> (data:text/html,x)</span></p>",
    ),
    "a file": ("[a](file:///etc/passwd)", "<p>a<span> (file:///etc/passwd)</span></p>"),
    "a path": ("[a](../b)", "<p>a<span> (../b)</span></p>"),
    "another host, by its name": ("[a](//b.example/)", "<p>a<span> (//b.example/)</span></p>"),
    "a place in the page": ("[a](#page)", "<p>a<span> (#page)</span></p>"),
    "an autolink": ("<javascript:x>", "<p>javascript:x</p>"),
    "a reference": ("[a][1]\n\n[1]: javascript:x", "<p>[a][1]</p><p>[1]: javascript:x</p>"),
    "an address that lies": (
        f"[https://bank.example/]({EVIL})",
        f"<p>{link(EVIL, 'https://bank.example/')}</p>",
    ),
    "a name before the host": (
        "[a](https://bank.example@evil.example/)",
        "<p>a<span> (https://bank.example@evil.example/)</span></p>",
    ),
    "letters that look like others": (
        "[a](http://\u0430pple.com)",
        f"<p>{link('http://xn--pple-43d.com/', 'a')}</p>",
    ),
    "an address of such letters": (
        "http://\u0430pple.com/",
        "<p>" + link("http://xn--pple-43d.com/", "http://\u0430pple.com/") + "</p>",
    ),
    "an address that turns": (
        "[a](https://a.example/\u202egnp)",
        f"<p>{link('https://a.example/%E2%80%AEgnp', 'a')}</p>",
    ),
    "a link without a text": (f"[]({EVIL})", f"<p><span> ({EVIL})</span></p>"),
    "a picture": (f"![a]({EVIL})", f"<p>{link(EVIL, '<span>[a]</span>')}</p>"),
    "a picture in a link": (
        f"[![a]({EVIL}i)](https://b.example/)",
        f"<p>{link('https://b.example/', f'<span>[a]</span><span> ({EVIL}i)</span>')}</p>",
    ),
    "a picture that is a document": (
        "![a](data:image/svg+xml,x)",
        "<p><span>[a]</span><span> (data:image/svg+xml,x)</span></p>",
    ),
    "a script": ("<script>x</script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
    "a block of markup": ("<div>\n*a*\n</div>", "<p>&lt;div&gt;\n<em>a</em>\n&lt;/div&gt;</p>"),
    "markup with a handler": ("<img src=x onerror=x>", "<p>&lt;img src=x onerror=x&gt;</p>"),
    "a name of the page's own": ("<a id=page>b</a>", "<p>&lt;a id=page&gt;b&lt;/a&gt;</p>"),
    "a heading with a name": ("# a {#page}", "<h4>a {#page}</h4>"),
    "a comment": ("<!-- a -->", "<p>&lt;!-- a --&gt;</p>"),
    "entities": ("&lt;b&gt; &#x202e;", "<p>&lt;b&gt; <span>U+202E</span></p>"),
    "a style in a fence": ('```a" style="x\nb\n```', code("b", 'a" style="x')),
    "a style in a table": ("| a |\n|---|\n| <b style=x> |", None),
    "what no one sees": ("a\u200bb\0c", "<p>a<span>U+200B</span>b<span>U+0000</span>c</p>"),
    "quotations, very deep": (">" * 10_000 + "a", None),
    "quotations, deep": ("> " * 40 + "a", None),
    "lists, very deep": ("- " * 10_000 + "a", None),
    "marks, very deep": ("*" * 9_000 + "a" + "*" * 9_000, None),
    "a huge text": ("a" * 70_000, None),
    "a huge table": ("|" * 100 + "\n" + "|-" * 99 + "|\n" + ("|a" * 99 + "|\n") * 240, None),
}  # fmt: skip
HARMLESS["a style in a table"] = (
    HARMLESS["a style in a table"][0],
    '<div><table><thead><tr><th scope="col">a</th></tr></thead>'
    "<tbody><tr><td>&lt;b style=x&gt;</td></tr></tbody></table></div>",
)


@pytest.mark.parametrize(("text", "html"), HARMLESS.values(), ids=HARMLESS.keys())
def test_markdown_does_no_harm(page: Page, text: str, html: str | None) -> None:
    assert rendered(page, text) == html


SLOW = {
    "brackets": "[" * 50_000,
    "links": "[a](" * 12_000,
    "pictures": "![[" * 16_000,
    "marks": "*a_" * 16_000,
    "stars": "**" * 20_000 + "a",
    "backticks": " ".join("`" * i for i in range(300)),
    "entities": "&" * 50_000,
    "addresses": "http://" * 7_000,
    "dots of an address": "http://a." + "a." * 20_000,
    "tags": "<a " * 16_000,
    "comments": "<!--" * 12_000,
    "lazy lines": "> a\n" + "x\n" * 20_000,
    "rules": "* * * " * 8_000 + "a",
    "math": "$a" * 20_000,
    "brackets of math": "\\[" * 20_000,
    "blocks of math": "$$\n" * 12_000 + "a",
    "backslashes": "\\" * 50_000,
    "no definitions": "[a]: <b\n" * 6_000,
    "JSON": '{"a":' * 8_000,
    "deep JSON": "[" * 25_000 + "]" * 25_000,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW.keys())
def test_no_text_stops_the_page(page: Page, text: str) -> None:
    millis = page.evaluate(
        "(text) => { const from = performance.now(); markdown(text); pretty(text);"
        " return performance.now() - from; }",
        text,
    )
    assert millis < 4000  # some 100 each; for a text that explodes it is minutes


LONG = "a" * 80
JSON = {
    "short": ('{"a":1,"b":[]}', '{"a": 1, "b": []}'),
    "long": (f'["{LONG}",{{"b":1.50}}]', f'[\n  "{LONG}",\n  {{\n    "b": 1.50\n  }}\n]'),
    "numbers as they are": ("[1234567890123456789,1e400,1.0]", "[1234567890123456789, 1e400, 1.0]"),
    "a name twice": ('{"a":1,"a":2}', '{"a": 1, "a": 2}'),
    "letters": ('["gr\\u00fc\\u00df\\n"]', '["grüß\\n"]'),
    "signs in texts": ('["{[,:]}\\""]', '["{[,:]}\\""]'),
    "no JSON": ("{a: 1}", None),
    "a text": ('"a"', None),
    "deep": ("[" * 60 + "]" * 60, None),
}  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), JSON.values(), ids=JSON.keys())
def test_json_is_spread(page: Page, text: str, shown: str | None) -> None:
    assert page.evaluate("(text) => pretty(text)", text) == shown


PICTURES = {
    "a picture": ("data:image/png;base64,AAAA", True),
    "a document": ("data:image/svg+xml;base64,AAAA", False),
    "a page": ("data:text/html;base64,AAAA", False),
    "more behind it": ("data:image/png;base64,AAAA#x", False),
    "a place": ("https://a.example/b.png", False),
    "a script": ("javascript:x", False),
}


@pytest.mark.parametrize(("address", "shown"), PICTURES.values(), ids=PICTURES.keys())
def test_an_address_is_a_picture_or_is_not_shown(page: Page, address: str, shown: bool) -> None:
    assert page.evaluate("(address) => IMAGE.test(address)", address) is shown
