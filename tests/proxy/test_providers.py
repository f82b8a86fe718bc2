"""The providers that the proxy reaches, the paths that lead to them, and those that do not."""

from __future__ import annotations

import contextlib
import re
from fnmatch import fnmatch
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, strategies as st

from cachewrap import ConfigurationError
from cachewrap.http.httpx import HttpxWire
from cachewrap.http.routes import HOSTS
from cachewrap.proxy.known import PROVIDERS
from cachewrap.proxy.providers import NoUpstream, Upstreams, base_urls, upstreams_of
from proxy.asking import CALLS, answered

ROOT = "http://127.0.0.1:8141"
KNOWN = Upstreams()
MORE = Upstreams(["local=http://127.0.0.1:8000/api/", "Other.One=https://Gate.Example:8443"])


def sent(target: str, upstreams: Upstreams = MORE) -> str:
    """The place and the target that a request has upstream."""
    found = upstreams.find(target)
    origin = found.upstream.origin
    return f"{origin.scheme}://{origin.authority} {found.target}"


# -- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_is_one_whose_calls_the_patches_cache(name: str) -> None:
    base = PROVIDERS[name].base.format(resource="mine", region="us-central1")
    host = urlsplit(base).netloc
    assert any(fnmatch(host, pattern) for pattern in HOSTS), host


@pytest.mark.parametrize("base", ["https://aiplatform.eu.rep.googleapis.com"])
def test_so_is_every_place_of_it(base: str) -> None:
    moved = [base for provider in PROVIDERS.values() for base, _ in provider.moved.values()]
    for place in (base, *moved):
        assert any(fnmatch(urlsplit(place).netloc, pattern) for pattern in HOSTS), place


def test_a_variable_is_of_one_provider() -> None:
    variables = [variable for provider in PROVIDERS.values() for variable in provider.variables]
    assert len(set(variables)) == len(variables)


# -- paths that lead somewhere -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "to"),
    [
        ("/openai/v1/chat/completions", "https://api.openai.com /v1/chat/completions"),
        ("/OpenAI/v1/Models", "https://api.openai.com /v1/Models"),
        (
            "/openai/v1/files?after=a%2Fb&x=//../",
            "https://api.openai.com /v1/files?after=a%2Fb&x=//../",
        ),
        ("/openai/v1/files?", "https://api.openai.com /v1/files?"),
        ("/openai/v1/files/?a?b", "https://api.openai.com /v1/files/?a?b"),
        ("/openai", "https://api.openai.com /"),
        ("/openai?x", "https://api.openai.com /?x"),
        ("/openai/", "https://api.openai.com /"),
        ("/anthropic/api/hello", "https://api.anthropic.com /api/hello"),
        ("/ollama/api/chat", "http://127.0.0.1:11434 /api/chat"),
        ("/local/v1/x", "http://127.0.0.1:8000 /api/v1/x"),
        ("/local", "http://127.0.0.1:8000 /api/"),
        ("/other.one/~x/@y:z", "https://gate.example:8443 /~x/@y:z"),
        (
            "/gemini/v1beta/models/tuned%2Fmine:generateContent?alt=sse",
            "https://generativelanguage.googleapis.com"
            " /v1beta/models/tuned%2Fmine:generateContent?alt=sse",
        ),
        (
            "/huggingface/hf-inference/models/a/b",
            "https://router.huggingface.co /hf-inference/models/a/b",
        ),
        ("/openai/v1/files/a%20b.txt", "https://api.openai.com /v1/files/a%20b.txt"),
        ("/openai/v1/files/%E2%82%AC", "https://api.openai.com /v1/files/%E2%82%AC"),
        ("/openai/v1/x;version=1", "https://api.openai.com /v1/x;version=1"),
        ("/openai/v1/.hidden", "https://api.openai.com /v1/.hidden"),
    ],
)
def test_what_is_behind_the_name_is_sent_as_it_is(target: str, to: str) -> None:
    assert sent(target) == to


@pytest.mark.parametrize(
    ("target", "to"),
    [
        ("/anthropic/messages", "https://api.anthropic.com /v1/messages"),
        (
            "/anthropic/messages/count_tokens?beta=1",
            "https://api.anthropic.com /v1/messages/count_tokens?beta=1",
        ),
        ("/groq/chat/completions", "https://api.groq.com /openai/v1/chat/completions"),
        ("/groq/openai/v1/chat/completions", "https://api.groq.com /openai/v1/chat/completions"),
        ("/cerebras/chat/completions", "https://api.cerebras.ai /v1/chat/completions"),
        ("/mistral/chat/completions", "https://api.mistral.ai /v1/chat/completions"),
        (
            "/gemini/models/m:generateContent",
            "https://generativelanguage.googleapis.com /v1beta/models/m:generateContent",
        ),
        ("/ollama/chat/completions", "http://127.0.0.1:11434 /v1/chat/completions"),
        ("/deepseek/chat/completions", "https://api.deepseek.com /chat/completions"),
        ("/perplexity/chat/completions", "https://api.perplexity.ai /chat/completions"),
        ("/together/chat/completions", "https://api-inference.together.ai /v1/chat/completions"),
        ("/together/v1/chat/completions", "https://api-inference.together.ai /v1/chat/completions"),
        ("/together/v1/embeddings", "https://api.together.ai /v1/embeddings"),
        (
            "/fireworks/v1/chat/completions",
            "https://api.fireworks.ai /inference/v1/chat/completions",
        ),
        ("/fireworks/v1/accounts/a", "https://api.fireworks.ai /v1/accounts/a"),
        ("/fireworks/chat/completions", "https://api.fireworks.ai /inference/v1/chat/completions"),
    ],
)
def test_libraries_that_leave_the_version_to_the_base_url_are_served_too(
    target: str, to: str
) -> None:
    assert sent(target) == to


@pytest.mark.parametrize(
    ("target", "to"),
    [
        pytest.param("/anthropic/v1/v1/messages", "https://api.anthropic.com /v1/messages", id="a"),
        pytest.param(
            "/groq/openai/v1/openai/v1/chat/completions",
            "https://api.groq.com /openai/v1/chat/completions",
            id="of-several-parts",
        ),
        pytest.param(
            "/local/v1/chat/completions?a=1",
            "http://127.0.0.1:8000 /v1/chat/completions?a=1",
            id="of-a-given-one",
        ),
        pytest.param(
            "/deep/v1/models", "http://gate:1 /llm/v1/models", id="of-a-given-one-that-is-deep"
        ),
        pytest.param("/openai/v1/v1x/models", "https://api.openai.com /v1/v1x/models", id="other"),
        pytest.param("/local/v2/models", "http://127.0.0.1:8000 /v1/v2/models", id="another"),
        pytest.param("/mine/v1/models", "http://gate:2 /api/v1/models", id="no-version"),
    ],
)
def test_a_version_that_both_base_urls_have_is_there_once(target: str, to: str) -> None:
    given = [
        "local=http://127.0.0.1:8000/v1",
        "deep=http://gate:1/llm/v1",
        "mine=http://gate:2/api",
    ]
    assert sent(target, Upstreams(given)) == to


def test_a_provider_that_is_elsewhere_has_the_same_paths() -> None:
    upstreams = Upstreams(
        ["anthropic=http://gate:1", "openai=http://gate:2/v1", "together=http://a:3"]
    )
    assert sent("/anthropic/messages", upstreams) == "http://gate:1 /v1/messages"
    assert sent("/openai/chat/completions", upstreams) == "http://gate:2 /v1/chat/completions"
    assert sent("/together/v1/chat/completions", upstreams) == "http://a:3 /v1/chat/completions"


def test_its_errors_have_its_shape() -> None:
    upstreams = Upstreams(["anthropic=http://gate:1", "mine=http://gate:2"])
    shapes = {
        name: upstreams.find(f"/{name}/v1/x").upstream.shape for name in ("anthropic", "mine")
    }
    assert shapes == {"anthropic": "anthropic", "mine": "openai"}


@pytest.mark.parametrize(
    ("target", "to"),
    [
        ("/azure/mine/openai/v1/responses", "https://mine.openai.azure.com /openai/v1/responses"),
        (
            "/azure/My-1/openai/deployments/d/chat/completions?api-version=1",
            "https://my-1.openai.azure.com /openai/deployments/d/chat/completions?api-version=1",
        ),
        (
            "/vertex/v1/projects/p/locations/us-central1/publishers/google/models/m:predict",
            "https://us-central1-aiplatform.googleapis.com"
            " /v1/projects/p/locations/us-central1/publishers/google/models/m:predict",
        ),
        (
            "/vertex/v1beta1/projects/p/locations/global/x",
            "https://aiplatform.googleapis.com /v1beta1/projects/p/locations/global/x",
        ),
        (
            "/vertex/v1/projects/p/locations/eu/x",
            "https://aiplatform.eu.rep.googleapis.com /v1/projects/p/locations/eu/x",
        ),
        (
            "/vertex/v1/publishers/google/models/m:generateContent",
            "https://aiplatform.googleapis.com /v1/publishers/google/models/m:generateContent",
        ),
        ("/vertex/europe-west4/v1/x", "https://europe-west4-aiplatform.googleapis.com /v1/x"),
    ],
)
def test_a_resource_or_region_in_the_path_names_the_host(target: str, to: str) -> None:
    assert sent(target) == to


def test_one_that_is_given_needs_none() -> None:
    upstreams = Upstreams(["azure=https://gate/az", "vertex=https://v.example"])
    assert sent("/azure/openai/v1/responses", upstreams) == "https://gate /az/openai/v1/responses"
    assert sent("/vertex/v1/x", upstreams) == "https://v.example /v1/x"


@pytest.mark.parametrize(
    "target",
    [
        *("/azure", "/azure/", "/azure/openai/v1/responses", "/azure/mine/v1/x", "/azure/mine"),
        *("/azure/my.evil/openai/x", "/azure/-a/openai/x"),
        *("/azure/a-/openai/x", "/azure/a_b/openai/x"),
        *("/azure/evil.example%2Fx/openai/x", "/azure/a@b/openai/x", "/azure/a:1/openai/x"),
        *("/azure/%61/openai/x", f"/azure/{'a' * 65}/openai/x", "/azure/mine/openaix"),
        *("/vertex", "/vertex/x/v1/y", "/vertex/evil.example/v1/x"),
        *("/vertex/us-central1", "/vertex/a-b/v1"),
    ],
)
def test_a_host_is_named_in_no_other_way(target: str) -> None:
    with pytest.raises(NoUpstream, match="--upstream") as caught:
        KNOWN.find(target)
    assert caught.value.status == 404


@pytest.mark.parametrize("location", ["evil.example", "us-central1%2Fx", "a@b", "us-central1.evil"])
def test_a_location_that_is_none_leads_to_no_other_host(location: str) -> None:
    found = KNOWN.find(f"/vertex/v1/projects/p/locations/{location}/x")
    assert found.upstream.origin.host == "aiplatform.googleapis.com"


# -- paths that do not -------------------------------------------------------------------------


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(NoUpstream) as caught:
        MORE.find("/v1/chat/completions")
    message = str(caught.value)
    assert caught.value.status == 404
    assert message.startswith("no upstream is named 'v1'")
    assert "a path begins with one of local, other.one" in message
    assert "anthropic" in message
    assert "--upstream NAME=URL" in message


@pytest.mark.parametrize(
    ("target", "told"),
    [
        pytest.param("/v1/messages", " (the base URL names the provider first", id="a-version"),
        pytest.param("/chat/completions", " (the base URL names the provider first", id="a-call"),
        pytest.param("/opnai/v1/models", " (did you mean openai?): ", id="a-slip"),
        pytest.param("/locale/v1/models", " (did you mean local?): ", id="a-slip-in-a-given-one"),
        pytest.param("/nothing-like-it/v1", "'nothing-like-it': a path begins with", id="none"),
    ],
)
def test_what_was_meant_is_told(target: str, told: str) -> None:
    with pytest.raises(NoUpstream) as caught:
        MORE.find(target)
    assert told in str(caught.value)


def test_places_are_told_by_their_names() -> None:
    places = Upstreams(["local=http://127.0.0.1:8000/api/", "openai=https://gate"]).places
    assert list(places)[:3] == ["local", "openai", "anthropic"]
    assert places["local"] == "http://127.0.0.1:8000/api"
    assert places["openai"] == "https://gate"
    assert places["azure"] == "https://{resource}.openai.azure.com"


TRICKS = [
    *(
        "",
        "/",
        "*",
        "openai/v1",
        "?/openai",
        "#",
        "/openai/v1#x",
        "/openai/v1?a#x",
        "//openai/v1",
        "//evil.example/openai",
    ),
    *("http://evil.example/", "https://api.openai.com/v1/x", "HTTP://x/", "evil.example:443"),
    *("/openai//v1", "/openai/v1//", "/openai//", "//", "/openai//evil.example/x"),
    *("/openai/.", "/openai/..", "/openai/../x"),
    *("/openai/./x", "/openai/v1/../../x", "/openai/..?x"),
    *("/openai/...", "/openai/.../x", "/../openai/x", "/./openai", "/.."),
    *("/openai/%2e%2e/x", "/openai/%2E./x", "/openai/.%2e", "/openai/%2e", "/openai/%2e%2e%2fx"),
    *("/openai/..%2fx", "/openai/x%2f..%2f..", "/openai/%2fx", "/openai/x%2f", "/openai/a%2f%2fb"),
    *("/openai%2fv1", "/%6fpenai/v1", "/openai%2f..%2fx"),
    *("/openai%00/v1", "/openai;a=b/v1", "/openai;/x"),
    *("/openai/%252e%252e/x", "/openai/x%252fy", "/openai/%25%32%65"),
    *("/openai/%%32%65", "/openai/%25252e"),
    *("/openai\\v1", "/openai/..\\x", "/openai/%5c..%5cx", "/openai/x%5Cy", "\\openai\\x"),
    *("/openai/v1\r\nHost: x", "/openai/\t", "/openai/\x00"),
    *("/openai/ x", "/openai/\x7f", "/openai/%0d%0a"),
    *("/openai/%00", "/openai/x%00.json", "/openai/%7f"),
    *("/openai/%C2%85", "/openai/v1?x=\n", "/openai/v1?a b"),
    *("/openai/é", "/openai/v1?é", "/\u043epenai/v1", "/openai/v1?\u2028"),
    *("/openai/%", "/openai/%2", "/openai/%zz"),
    *("/openai/%u002e", "/openai/%ff", "/openai/%c0%ae%c0%ae/x"),
    *("/openai/..;/x", "/openai/..;a=b/x", "/openai/.;/x", "/openai/;/x", "/openai/%2e%2e%3b/x"),
    *("/openai/..%20/x", "/openai/%20/x", "/openai/.%20./x"),
    *("/openai/%EF%BC%8E%EF%BC%8E/x", "/openai/%E2%80%A5/x"),
    *("/openai/a%EF%BC%8Fb", "/openai/%EF%BC%85"),
    *("/-x/v1", "/.openai/v1", "/@openai/x", "/openai@evil.example/x", "/:80/x"),
]


@pytest.mark.parametrize("target", TRICKS, ids=ascii)
def test_a_path_that_may_be_read_as_another_is_refused(target: str) -> None:
    with pytest.raises(NoUpstream) as caught:
        MORE.find(target)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 200


LETTERS = st.sampled_from(
    [
        *("/", "..", ".", "//", "\\", "%2e", "%2E"),
        *("%2f", "%2F", "%5c", "%25", "%252e", "%00", ";"),
        *("openai", "local", "azure", "vertex", "evil.example", "v1", "models", "chat", "@", ":"),
        *("?", "#", "%", "%c0%ae", "%EF%BC%8E", " "),
        *("\r\n", "é", "http:", "locations/", "projects/p/"),
        *("us-central1", "openai/", "a", "-", "~", "%20", "="),
        *("&", "x", "/v1/", "%3b", "%3F", "%23"),
    ]
)


@given(st.one_of(st.lists(LETTERS, max_size=9).map("".join), st.text(max_size=30)))
@example("x" * 100_000)
@example("/" + "%2e" * 30_000)
def test_no_path_leads_elsewhere(rest: str) -> None:
    for target in (rest, f"/openai/{rest}", f"/local/{rest}", f"/azure/{rest}", f"/vertex/{rest}"):
        try:
            found = MORE.find(target)
        except NoUpstream:
            continue
        path = found.target.partition("?")[0]
        prefix = found.upstream.prefix
        assert found.target.isascii()
        assert found.target.startswith(f"{prefix}/")
        for _ in range(4):
            path = unquote(path)
            for read in (path, path.replace("\\", "/"), path.partition(";")[0]):
                assert f"{normpath(read)}/".startswith(f"{prefix}/")
                assert not normpath(read).startswith("//")
        place = urlsplit(found.url)
        origin = found.upstream.origin
        assert (place.scheme, place.netloc) == (origin.scheme, origin.authority)
        host = origin.host
        if host not in ("127.0.0.1", "gate.example"):
            assert any(fnmatch(host, pattern) for pattern in HOSTS), host


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20))
def test_the_url_is_the_one_that_httpx_shows(text: str) -> None:
    httpx = pytest.importorskip("httpx")
    for target in (f"/local/v1/{text}", f"/other.one/v1?{text}"):
        try:
            found = MORE.find(target)
        except NoUpstream:
            continue
        upstream = found.upstream
        origin = f"{upstream.origin.scheme}://{upstream.origin.authority}"
        assert str(httpx.URL(f"{origin}{found.target}")) == found.url


# -- upstreams that users name -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("local=http://127.0.0.1:8000", "http://127.0.0.1:8000 /v1"),
        ("LOCAL = https://Example.ORG:443/a/b/ ", "https://example.org /a/b/v1"),
        ("local=http://[::1]:8000", "http://[::1]:8000 /v1"),
        ("local=http://box", "http://box /v1"),
        ("local=http://my_box.internal.:80/", "http://my_box.internal. /v1"),
        ("local=HTTPS://xn--bcher-kva.example", "https://xn--bcher-kva.example /v1"),
        ("local=http://h:8000/a%20b", "http://h:8000 /a%20b/v1"),
    ],
)
def test_an_upstream_is_named_by_its_url(text: str, to: str) -> None:
    assert sent("/local/v1", Upstreams([text])) == to


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("local", "is named like local=http://127.0.0.1:8000, got 'local'"),
        ("http://127.0.0.1:8000", "is named like local="),
        ("http://u:secret@h/?a=b", "is named like local="),
        ("=http://h", "letters, digits"),
        ("a/b=http://h", "letters, digits"),
        ("-a=http://h", "letters, digits"),
        ("..=http://h", "letters, digits"),
        ("é=http://h", "letters, digits"),
        ("a b=http://h", "letters, digits"),
        ("healthz=http://h", "a page of the proxy's own"),
        ("Metrics=http://h", "a page of the proxy's own"),
        ("a=h:8000", "begins with http:// or https://"),
        ("a=", "begins with http:// or https://"),
        ("a=//h", "begins with http:// or https://"),
        ("a=ftp://h", "begins with http:// or https://"),
        ("a=http+unix://h", "begins with http:// or https://"),
        ("a=http://", "names a host"),
        ("a=http:///v1", "names a host"),
        ("a=http://é.example", "names a host"),
        ("a=http://h:0", "names a host"),
        ("a=http://a b", "names a host"),
        ("a=http://[fe80::1%25eth0]", "names a host"),
        ("a=http://h:99999", "is none"),
        ("a=http://h:x", "is none"),
        ("a=http://[::1", "is none"),
        ("a=http://user:secret@h", "no user and password"),
        ("a=http://secret@h", "no user and password"),
        ("a=http://h?x=secret", "no query and no fragment"),
        ("a=http://h#secret", "no query and no fragment"),
        ("a=http://h/?", "no query and no fragment"),
        ("a=http://h/../b", "a part of dots"),
        ("a=http://h//b", "two slashes"),
        ("a=http://h/a b", "is to be encoded"),
        ("a=http://h/é", "is to be encoded"),
        ("a=http://h/%252e", "encoded twice"),
    ],
)
def test_what_names_none_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Upstreams([text])
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_one_name_has_one_upstream() -> None:
    with pytest.raises(ConfigurationError, match="a is given twice"):
        Upstreams(["a=http://h", "A=http://i"])


# -- variables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "behind"),
    [
        ("OPENAI_BASE_URL", "/openai/v1"),
        ("OPENAI_API_BASE", "/openai/v1"),
        ("ANTHROPIC_BASE_URL", "/anthropic"),
        ("GROQ_BASE_URL", "/groq"),
        ("GOOGLE_GEMINI_BASE_URL", "/gemini"),
        ("OLLAMA_HOST", "/ollama"),
    ],
)
def test_variables_lead_to_the_proxy(variable: str, behind: str) -> None:
    assert base_urls(ROOT)[variable] == f"{ROOT}{behind}"
    assert base_urls(ROOT, "a/b c")[variable] == f"{ROOT}/a%2Fb%20c{behind}"


def test_azure_has_a_variable_where_its_resource_is_known() -> None:
    assert "AZURE_OPENAI_ENDPOINT" not in base_urls(ROOT)
    environ = {"AZURE_OPENAI_ENDPOINT": "https://Mine.openai.azure.com/"}
    found = base_urls(ROOT, environ=environ)
    assert found["AZURE_OPENAI_ENDPOINT"] == f"{ROOT}/azure/mine"
    # Its clients of Node refuse to have both, and LangChain's of Python.
    assert not {"OPENAI_BASE_URL", "OPENAI_API_BASE"} & found.keys()
    given = base_urls(ROOT, given=["azure=https://gate"])
    assert given["AZURE_OPENAI_ENDPOINT"] == f"{ROOT}/azure"


@pytest.mark.parametrize(
    "value",
    [
        *("https://mine.cognitiveservices.azure.com", "https://openai.azure.com.evil.example"),
        *("http://mine.openai.azure.com", "https://a.b.openai.azure.com", "x"),
    ],
)
def test_another_place_of_azure_is_left_as_it_is(value: str) -> None:
    environ = {"AZURE_OPENAI_ENDPOINT": value}
    assert "AZURE_OPENAI_ENDPOINT" not in base_urls(ROOT, environ=environ)
    assert upstreams_of(environ) == ()


@pytest.mark.parametrize(
    ("variable", "value", "upstream", "leads"),
    [
        (
            "OPENAI_BASE_URL",
            "https://gate.example/v1/",
            "openai=https://gate.example/v1",
            "/openai",
        ),
        ("OPENAI_API_BASE", "https://gate.example/v1", "openai=https://gate.example/v1", "/openai"),
        ("ANTHROPIC_BASE_URL", "http://gate:1", "anthropic=http://gate:1", "/anthropic"),
        ("OLLAMA_HOST", "box", "ollama=http://box:11434", "/ollama"),
        ("OLLAMA_HOST", "box:1", "ollama=http://box:1", "/ollama"),
        ("OLLAMA_HOST", "0.0.0.0:1", "ollama=http://127.0.0.1:1", "/ollama"),
        ("OLLAMA_HOST", ":1", "ollama=http://127.0.0.1:1", "/ollama"),
    ],
)
def test_who_asks_a_gateway_of_his_own_goes_on_asking_it(
    variable: str, value: str, upstream: str, leads: str
) -> None:
    environ = {variable: value}
    assert upstreams_of(environ, ["a=http://b"]) == ("a=http://b", upstream)
    assert base_urls(ROOT, environ=environ)[variable] == f"{ROOT}{leads}"
    assert Upstreams(upstreams_of(environ)).names[0] == upstream.partition("=")[0]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_BASE_URL", ""),
        ("OPENAI_BASE_URL", "https://api.openai.com/v1/"),
        ("TOGETHER_BASE_URL", "https://api.together.xyz/v1"),
        ("OLLAMA_HOST", "127.0.0.1"),
        ("OLLAMA_HOST", "0.0.0.0"),
        ("OLLAMA_HOST", "http://localhost:11434/"),
    ],
)
def test_a_variable_that_names_the_provider_itself_changes_nothing(
    variable: str, value: str
) -> None:
    assert upstreams_of({variable: value}) == ()
    assert base_urls(ROOT, environ={variable: value}) == base_urls(ROOT)


@pytest.mark.parametrize(
    "value", ["http://u:p@gate/v1", "gate", "https://gate/?a=b", "http://[", "é"]
)
def test_a_variable_that_cannot_be_an_upstream_is_left_as_it_is(value: str) -> None:
    environ = {"OPENAI_BASE_URL": value}
    assert upstreams_of(environ) == ()
    assert "OPENAI_BASE_URL" not in base_urls(ROOT, environ=environ)


def test_of_two_places_of_one_provider_one_can_be_reached() -> None:
    environ = {"OPENAI_BASE_URL": "http://a/v1", "OPENAI_API_BASE": "http://b/v1"}
    assert upstreams_of(environ) == ("openai=http://a/v1",)
    found = base_urls(ROOT, environ=environ)
    assert found["OPENAI_BASE_URL"] == f"{ROOT}/openai"
    assert "OPENAI_API_BASE" not in found


def test_an_upstream_that_is_named_goes_before_a_variable() -> None:
    environ, given = {"OPENAI_BASE_URL": "http://a/v1"}, ["openai=http://b"]
    assert upstreams_of(environ, given) == ("openai=http://b",)
    assert base_urls(ROOT, environ=environ, given=given)["OPENAI_BASE_URL"] == f"{ROOT}/openai/v1"


# -- the same request, in process and by the proxy ---------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_a_request_by_the_proxy_has_the_url_of_the_one_in_process(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    seen = answered(monkeypatch, 404, "application/json", b"{}")
    environ = {"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/"} if call == "azure" else {}
    for variable in base_urls(ROOT):
        monkeypatch.delenv(variable, raising=False)
    for values in (environ, base_urls(ROOT, environ=environ)):
        for variable, value in values.items():
            monkeypatch.setenv(variable, value)
        with contextlib.suppress(Exception):  # each SDK's own for status 404
            CALLS[call]()
    direct, proxied = seen
    found = KNOWN.find(proxied.url.raw_path.decode())
    assert (proxied.url.host, proxied.url.port) == ("127.0.0.1", 8141)
    assert found.url == HttpxWire(direct).url
    assert found.target == direct.url.raw_path.decode()


# -- the page ----------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


def test_the_page_has_the_table() -> None:
    part = PAGE.read_text(encoding="utf-8").partition("\n## Providers\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in part.splitlines() if line.startswith("| ")]
    told = {}
    for base, behind, *others in [row for row in rows if len(row) > 1]:
        variables = [one for one in others if not one.startswith("/")]
        told[behind.split("/")[1]] = (base, behind, variables)
    with_rows = {
        name: (provider.base, f"/{name}{next(iter(provider.variables.values()))}")
        for name, provider in PROVIDERS.items()
        if name in told
    }
    with_rows["azure"] = (PROVIDERS["azure"].base, "/azure/RESOURCE")
    assert {name: found[:2] for name, found in told.items()} == with_rows
    for name, (_, _, variables) in told.items():
        assert variables == list(PROVIDERS[name].variables)
    others = re.findall(r"`/([a-z0-9]+)(/[^`]+)`", part.partition("\nAlso ")[2].partition(".\n")[0])
    assert dict(others) == {
        name: provider.version for name, provider in PROVIDERS.items() if name not in told
    }
