"""Credentials and names of accounts: what is one, by its name, its container or its shape.

This decides for all that is hashed, stored or shown. Two kinds of places are told apart. What no
model reads, the settings of a call, loses its credentials before it is hashed. What a model reads
counts in the key as it is, and its credentials are hidden where it is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from cachewrap.patterns import later

HIDDEN: Final = "(hidden)"
"""What stands in place of a credential."""

KEYED: Final = "(keyed "
"""How a hash begins that stands in place of one."""

_MARKS: Final = (HIDDEN, KEYED)

_LEAST: Final = 8  # characters of text that is looked through
_CREDENTIAL: Final = later(
    # x-api-key, helicone-auth, x-amz-security-token, ?sig=
    r"(^|[-_.])(key|token|auth|authorization|bearer|secret|password|passwd|passphrase|pwd|sig|cookie"
    r"|apikey|assertion|dpop|otp|pat)$"
    r"|(^|[-_.])(set-cookie2?|credentials?|secret|password|jwt|signature|hmac)([-_.]|$)"
    r"|(api|app|auth|access|bearer|client|csrf|private|refresh|secret|session)(key|token)$"
    r"|authorization|authenticat|api[-_]?key|access[-_]?token|client[-_]cert|access[-_]?key"
    r"|^(x[-_])?(session|session[-_]?id|sid)$|^x-honeycomb-team$"
    r"|^code$"  # of an Azure function
    r"|^x-amzn-oidc-|^x-ms-client-principal"
    r"|^(anthropic-(organization|workspace)-id|openai-(organization|project))$",
    re.IGNORECASE,
)
# What gateways take at the top of a body, to call a provider with the caller's own account.
_BODY: Final = later(
    r"(?i:(?:.*_)?(?:api_?key|(?:access|auth|ad|session|credit)_token|secret|password|credentials"
    r"|secret_access_key)|aws_access_key_id)"
)
# Fields of data, of their names in lower case with `_` between the words.
_FIELD: Final = later(
    r"""(?:.*_)?(?:
    api_?keys? | api_?key_(?:string|value|secret) | access_?keys? | (?:secret_)?access_key_id
    | access_key_secret | secret_?keys? | private_?keys? | (?:shared|account)_access_key
    | (?:account|app|application|auth|client|consumer|encryption|functions?|insert|license|master
      |proxy|provider|query|service_account|signing|ssh|storage|subscription|virtual|webhook)_key
    | authorizations? | auth | auth_header | auth_value | bearer | jwt | pat | otp | assertion
    | pass(?:word|wd|phrase|code)s? | pwd | pw | (?:user|admin|db|smtp)_?pass | secrets?
    | secret_(?:value|text|string|token) | credentials? | cookies? | connection_?string | dsn
    | service_account_json | bearer_token_bedrock
    )""",
    re.VERBOSE,
)
# Words of a vocabulary, of a page and of a count, not of an account.
_TOKENS: Final = frozenset(
    "added bos budget cached cls completion continuation cursor decoder each end eos extra final "
    "first image input last mask max middle min n new next num output pad page per prefix prompt "
    "reasoning resume sep skip special start stop sub suffix sync target text thinking total unk "
    "word".split()
)
# What may be one counts in the key, and is hidden where it is stored if it looks random.
_LIKELY: Final = later(
    r"(?!(?:.*_)?(?:public|cache|sort|primary|foreign)_keys?$)(?:.*key|.+_keys|constants|mcp_servers"
    r"|(?:.*_)?(?:pin|pem|hmac|[cx]srf|tokens|webhook|(?:webhook|server)_url))"
)
_BETWEEN_WORDS: Final = later(r"(?<=[a-z0-9])(?=[A-Z])|[-.\s]+")


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether a header or query parameter of this name carries a credential or an account."""
    return _CREDENTIAL.search(name) is not None


@lru_cache(maxsize=4096)
def is_named(name: str) -> bool:
    """Whether a field of data of this name holds a credential, if it holds text."""
    name = _BETWEEN_WORDS.sub("_", name.strip("-_")).lower()
    if name.endswith("token"):
        return name[:-5].rstrip("_").rpartition("_")[2] not in _TOKENS
    return _FIELD.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_likely(name: str) -> bool:
    return _LIKELY.fullmatch(_BETWEEN_WORDS.sub("_", name.strip("-_")).lower()) is not None


@lru_cache(maxsize=1024)
def is_account(name: object) -> bool:
    """Whether a field at the top of a body is a credential, whatever it holds."""
    return isinstance(name, str) and _BODY.fullmatch(name) is not None


# In them names are those of headers and of environment variables.
_HEADERS: Final = later(
    r"(?:.*_)?(?:headers|env|environ|environment|env_?vars|(?:environment_)?variables|metadata_headers)"
)
# In them all text is a credential but what says which one it is.
_SECRETS: Final = later(
    r"(?:.*_)?(?:secrets|credentials?|auth|authentication|api_auth|byok|cookies|service_account_json)"
)
_TELLING: Final = frozenset(
    "allowed_domains audience auth_type auth_uri base_url domain domains enabled endpoint header "
    "host id in kind managed_identity_resource_id method mode model name path project_id provider "
    "region resource scheme scope scopes strategy token_uri type universe_domain url".split()
)
_SCHEMAS: Final = frozenset(
    "properties patternProperties $defs definitions parameter_definitions".split()
)
_PLAIN, _WIDE, _ALL, _SCHEMA, _RANDOM = range(5)
"""How the members of an object are judged."""


@lru_cache(maxsize=4096)
def _container(name: str) -> int:
    if name in _SCHEMAS:
        return _SCHEMA
    name = _BETWEEN_WORDS.sub("_", name).lower()
    return _WIDE if _HEADERS.fullmatch(name) else _ALL if _SECRETS.fullmatch(name) else _PLAIN


# Every one takes a time that grows as its text does: runs begin where no run goes on, and are never
# given back. The group `_` is what is hidden.
_RUNS: Final = {
    "Stripe": r"(?:[spr]k_(?:live|test)_[A-Za-z0-9]{16,}+|whsec_[A-Za-z0-9+/=]{24,}+)",
    "a key sk-": r"sk[-_](?=[A-Za-z_-]{0,40}\d)[\w-]{20,}+",
    "Google": r"(?:AIza[\w-]{30,}+|AQ\.[\w-]{30,}+|ya29\.[\w-]{20,}+|GOCSPX-[\w-]{20,}+)",
    "GitHub": r"(?:gh[opsur]_[A-Za-z0-9]{30,}+|github_pat_\w{30,}+)",
    "GitLab": r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt)-[\w-]{20,}+",
    "Slack": r"(?:xox[abeoprs]-[A-Za-z0-9-]{10,}+|xapp-\d-[A-Za-z0-9-]{10,}+)",
    "AWS": r"(?:(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![\w-])|ABSK[\w+/=]{40,}+)",
    "a provider": r"(?:(?:pplx|xai|nvapi|tvly|dapi|csk|fw|fc|lsv2_(?:pt|sk)|ntn|lin_api|sntrys"
    r"|dop_v1|shp(?:at|ss|ca|pa)|glsa|figd|pcsk|sbp|sgp|jina|tgp_v1|vck|dckr_pat|esecret|bedrock-api-key"
    r")[-_]?(?=[A-Za-z_-]{0,40}\d)[\w-]{30,}+|(?:hf|api_org|r8|npm)_[A-Za-z0-9]{30,}+"
    r"|gsk_[A-Za-z0-9]{20,}+|pypi-[\w-]{50,}+|SG\.[\w-]{16,}+\.[\w-]{16,}+|hvs\.[\w-]{24,}+"
    r"|ATATT3x[\w=-]{40,}+)",
    "a JWT": r"eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]{8,}+",
    "a webhook": r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/[\w/-]{20,}+"
    r"|discord(?:app)?\.com/api/webhooks/\d{5,25}/[\w-]{40,}+)",
}
_SIGNATURE: Final = (
    "x-amz-(?:signature|security-token|credential)|x-goog-(?:signature|credential)|x-oss-signature"
    "|q-signature|signature|sig"
)
_PARAMETER: Final = (
    "api[-_]?key|access[-_]?token|auth[-_]?token|client[-_]secret|token|password|key"
)
PARAMETERS: Final = f"{_SIGNATURE}|{_PARAMETER}"
"""The names of parameters of an address that are its signature, or a credential."""
SIGNATURES: Final = later(_SIGNATURE, re.IGNORECASE)
"""The names of parameters that are the signature of an address."""

_FRONT: Final = (
    "api.key apikey access.key secret.key token secret password passwd authorization".split()
)
_QUOTES: Final = ("", "[\"']", r"\\[\"']")
WRITTEN: Final = "|".join(rf"(?<={name}{quote}.)" for quote in _QUOTES for name in _FRONT)
"""What stands in front of a value in a file of settings, a command, a header; up to `=` or `:`."""
_TOKEN: Final = r"(?i:(?:bearer|basic)[ \t]{1,4}(?P<_>(?=[a-z._~+/=-]{0,64}\d)[\w.~+/=-]{16,}+))"
_OTHERS: Final = {
    "a scheme": rf"(?<![\w-]){_TOKEN}",
    "a private key": r"(?P<_>-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:\s|\\[nr])*+(?=[A-Za-z0-9+/=]{16}|Proc-Type:|Version:|Comment:)(?:[^-]|-(?!----))*+"
    r"(?:-----END [A-Z ]{0,40}-----)?)",
    "an address": r"""://(?P<_>[^\s/:@"'<>\\?#]{0,128}:[^\s/@"'<>\\?#]{1,256})@""",
    "a signature": rf"""[?&](?i:{_SIGNATURE})=(?P<_>[^&\s"'<>()#\\]{{8,}})""",
    "a parameter": rf"""[?&](?i:{_PARAMETER})="""
    r"""(?P<_>(?=[a-z._~-]{0,40}[\dA-Z])[^&\s"'<>()#\\]{16,})""",
    "Telegram": r":(?<=\d{8}:)(?P<_>AA[\w-]{30,}+)",
    "a connection": r"(?i:(?:account|sharedaccess)key)=(?P<_>[\w+/=]{32,}+)",
    "a name": rf"""[=:](?is:{WRITTEN})[ \t]{{0,4}}(?:[\\"']{{1,2}})?(?i:token[ \t])?"""
    r"(?P<_>(?=(?:[A-Za-z_.~+/@!#%^*$-]{0,40}\d){2})[\w.~+/@!#%^*$-]{12,}+={0,2})(?![(\[])",
}
_BOTH: Final = {name: rf"(?<![\w-])(?P<_>{run})" for name, run in _RUNS.items()} | _OTHERS
_RULES: Final = tuple(_BOTH)
_GROUPED: Final = (rule.replace("(?P<_>", f"(?P<r{at}>") for at, rule in enumerate(_BOTH.values()))
_SHAPE: Final = later("|".join(_GROUPED), re.ASCII)
LONG: Final = f"(?:{'|'.join(_RUNS.values())}|{_TOKEN.replace('?P<_>', '?:')})"
"""The shapes that are a long run of letters and digits, or end with one: they follow no letter."""

# How each of them begins; behind a `~` is the letter that is looked for, as texts have few of it.
_BEGINNINGS: Final = (
    r"sk~-|sk~_|pk~_live_|rk~_live_|pk~_test_|rk~_test_|whsec~_|AIza|AQ\.|ABSK|ATATT3x|ya29~\.|GOCSPX-"
    r"|gh[opsur]~_|github~_pat_|gl[a-z]{2}~-|gl[a-z]{3}~-|gl[a-z]{4}~-|gl[a-z]{5}~-|glsa~_|xox[a-z]~-"
    r"|xapp~-|A[KSBC][IC]A[A-Z0-9]|hf~_|api~_org_|gsk~_|r8~_|npm~_|pypi~-|SG\.|ppl~x|xai|n~vapi|t~vly"
    r"|da~pi|cs~k|fw~-|fw~_|fc~-|lsv2~_|ntn~_|lin~_api|sntr~ys|shp[a-z]{2}~_|figd~_|pcsk~_|sbp~_|sgp~_"
    r"|jina~_|tgp~_v1|vck~_|dckr~_pat|esecret~_|bedrock~-api-key|dop~_v1|hvs~\.|ey~J|hooks~\.slack"
    r"|discord~\.|discordapp~\.|-----BEGIN|b(?:earer|asic)[ \t]|B(?:earer|asic|EARER|ASIC)[ \t]|:AA"
    r"|Account~Key=|account~key=|SharedAccess~Key=|sharedaccess~key=|://[^/\s]{0,384}@"
    r"|\?(?i:x-|q-|s|api|acc|auth|client|tok|pass|key)|&(?i:x-|q-|s|api|acc|auth|client|tok|pass|key)"
    rf"|=(?is:{WRITTEN})|:(?is:{WRITTEN})"
)
_begun: Final = later(_BEGINNINGS.replace("~", ""))
BEGINNINGS: Final = re.sub(r"([^|~]+)~(\\?.)", r"\2(?<=\1\2)", _BEGINNINGS)
"""What shows, somewhere in it, that a shape may begin."""
_may_begin: Final = later(BEGINNINGS)

_SCHEME: Final = later(
    r"\s*(?:(?:bearer|basic|digest|negotiate|googlelogin|snowflake)\s"
    r"|(?:token|api-?key|apikey|ntlm|dpop|hmac|sso-key|signature|aws4-hmac-sha256)\s+\S+\s*$"
    r"|(?:bot|key|oauth|sharedkey(?:lite)?|geniekey|splunk)\s+(?=\S*\d)\S{12,}\s*$)",
    re.IGNORECASE,
)
# Words of people who explain or fill in later, and what guardrails are told to do with passwords.
_PLACEHOLDER: Final = later(
    r"""\W*|(?:your|insert|enter)[-_ ].*|.*[-_ ]here|<.*>|\{.*\}|\$\{.*\}|\$[A-Z_]+|\[.*\]|[x*.-]+
    |allow|anonymi[sz]e|auto|block|boolean|changeme|deny|dummy|empty|example|fake|false|hash|ignore
    |integer|key|log|mask|n/?a|no|none|null|number|object|optional|pass|password|redact|redacted
    |replace|report|required|str|string|test|token|true|undefined|unset|warn|yes|secret""",
    re.IGNORECASE | re.VERBOSE,
)
_USERS: Final = later(r"(?i:(?:user(?:name)?|name|me)?:(?:pass(?:word|wd)?|pwd|secret|pw))")


def is_placeholder(value: str) -> bool:
    """Whether text stands where a credential would, and is none."""
    known = len(value) < 64 and _PLACEHOLDER.fullmatch(value) is not None
    return known or value.startswith(_MARKS)


def is_secret_value(value: object) -> bool:
    """Whether a header's value is a credential by its scheme or shape, whatever it is called."""
    return isinstance(value, str) and bool(_SCHEME.match(value) or next(_shapes(value), None))


def is_telling(text: str) -> bool:
    """Whether text may have a credential in it, or is an address or JSON: a quick look."""
    return "://" in text or text[:1] in "{[" or _may_begin.search(text) is not None


def _shapes(text: str) -> Iterator[tuple[str, int, int]]:
    """The rule, start and end of each credential that a text has in it."""
    if len(text) < _LEAST or text.startswith("data:") or _may_begin.search(text) is None:
        return
    begun = _begun.search(text)
    while begun is not None:
        found = _SHAPE.match(text, begun.start())
        if found is None:
            begun = _begun.search(text, begun.start() + 1)
            continue
        begun = _begun.search(text, found.end())
        group = found.lastgroup or ""
        rule = _RULES[int(group[1:])]
        start, end = found.span(group)
        value = text[start:end]
        if rule == "an address":
            if _USERS.fullmatch(value):
                continue
            value = value.partition(":")[2]
        if not is_placeholder(value):
            yield rule, start, end


# -- a walk through data -----------------------------------------------------------------------


GONE: Final = object()
"""Stands for what is left out."""

Path: TypeAlias = tuple[str | int, ...]
_URL: Final = later(r"[a-z][a-z0-9+.-]{1,20}://[^\s]+", re.IGNORECASE)


class Found(NamedTuple):
    """A credential that was found: where, by which rule, and what it is."""

    path: Path
    rule: str
    value: str


class Walk:
    """A walk through plain data, with what stands in place of each credential in it.

    Args:
        put: what stands in place of every credential; `GONE` leaves out what it is in.
        mark: gives what stands for the value of a name that is counted by a hash, else None.
        address: takes the credentials off an address, in the settings that no model reads.
        wary: whether what looks random goes too, where a credential is likely.

    Attributes:
        found: the credentials.
    """

    def __init__(
        self,
        put: object,
        mark: Callable[[str, Any], str | None] | None = None,
        address: Callable[[str], str] | None = None,
        wary: bool = False,
    ) -> None:
        self.found: list[Found] = []
        self._put = put
        self._mark = mark
        self._address = address
        self._wary = wary

    def of(self, value: Any, path: Path, held: int = _PLAIN) -> Any:
        """The value without its credentials; the very value where it has none."""
        if isinstance(value, str):
            return self._text(value, path, held)
        if isinstance(value, Mapping):
            return self._members(value, path, held)
        if isinstance(value, (list, tuple)):
            return self._items(value, path, held, self.of)
        return value

    def _items(
        self, value: Any, path: Path, held: int, each: Callable[[Any, Path, int], Any]
    ) -> Any:
        named = path[-1:] == ("!",) or (held == _WIDE and "=" not in str(value[:1]))
        if named and len(value) == 2 and isinstance(value[0], str):
            new = self.member(value[0], value[1], path, held)  # the pair of a name and a value
            return value if new is value[1] else [value[0], HIDDEN if new is GONE else new]
        items, option = [], False
        for at, item in enumerate(value):
            new = (self._all if option else each)(item, (*path, at), held)
            items.append(new)
            option = isinstance(item, str) and item[:2] == "--" and is_named(item)
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return [item for item in items if item is not GONE]

    def _members(self, value: Mapping[Any, Any], path: Path, held: int) -> Any:
        if len(value) == 1 and type(pairs := value.get("!members", value.get("!dict"))) is list:
            items = [self.of(pair, (*path, "!"), held) for pair in pairs]
            same = all(new is old for new, old in zip(items, pairs, strict=True))
            return value if same else {next(iter(value)): items}
        found: dict[Any, Any] | None = None
        told = value.get("name", value.get("key")) if "value" in value else None
        for name, inner in value.items():
            if type(name) is not str:
                new = self.of(inner, (*path, str(name)), held)
            elif name == "value" and isinstance(told, str) and _names(told, held):
                new = self._all(inner, (*path, name), held)
            else:
                new = self.member(name, inner, path, held)
            if new is not inner:
                found = dict(value) if found is None else found
                if new is GONE:
                    del found[name]
                else:
                    found[name] = new
        return value if found is None else found

    def member(self, name: str, inner: Any, path: Path, held: int = _PLAIN) -> Any:
        """What stands for one member of an object."""
        path = (*path, name)
        if held == _SCHEMA:
            return self.of(inner, path)
        if self._mark is not None and (mark := self._mark(name, inner)) is not None:
            self.note(inner, path)
            return mark
        if name[:1] == "!":
            return self.of(inner, path, _RANDOM if name == "!namedtuple" else held)
        inside = _container(name)
        named = inside == _ALL or (held == _ALL and name.lower() not in _TELLING)
        if (named or _names(name, held)) and (not isinstance(inner, Mapping) or _is_tagged(inner)):
            return self._all(inner, path, inside or held)
        code = path in _CODES and isinstance(inner, str)
        if not (inside or held) and (code or (_is_likely(name) and path != ("key",))):
            inside = _RANDOM
        return self.of(inner, path, inside or held)

    def _all(self, value: Any, path: Path, held: int) -> Any:
        """What stands for a value that is a credential, or a list of some."""
        if isinstance(value, str):
            if is_placeholder(value) and (
                held != _WIDE or not self._address or value.startswith(_MARKS)
            ):
                return value
            return self._take(path, "name", value)
        if isinstance(value, (list, tuple)):
            return self._items(value, path, held, self._all)
        if isinstance(value, Mapping) and _is_tagged(value):
            ((tag, inner),) = value.items()
            new = self._all(inner, path, held)
            return value if new is inner else new if isinstance(inner, str) else {tag: new}
        return self.of(value, path, held)

    def _take(self, path: Path, rule: str, value: str) -> Any:
        self.found.append(Found(path, rule, value))
        return self._put

    def note(self, value: Any, path: Path) -> None:
        """Note all text in a value that goes as a whole."""
        if isinstance(value, str):
            self._take(path, "name", value)
        elif isinstance(value, (Mapping, list, tuple)):
            for inner in value.values() if isinstance(value, Mapping) else value:
                self.note(inner, path)

    def _text(self, value: str, path: Path, held: int) -> Any:
        if held == _WIDE and _SCHEME.match(value):
            return self._take(path, "scheme", value)
        if len(value) < _LEAST:
            return value
        if value[0] in "{[" and value[-1] in "}]":
            return self._json(value, path, held)
        if self._address and _URL.fullmatch(value) and (clean := self._address(value)) != value:
            self._take(path, "an address", value)
            return clean
        clean = self._shaped(value, path)
        if self._wary and held in (_WIDE, _RANDOM) and isinstance(clean, str):
            covered = _RUN.sub(lambda run: self._opaque(run[0], path), clean)
            return clean if covered == clean else covered
        return clean

    def _opaque(self, run: str, path: Path) -> str:
        return self._take(path, "random", run) if _MIXED.search(run) else run

    def _json(self, value: str, path: Path, held: int) -> Any:
        """JSON that is text: a header of a gateway's, the arguments of a tool's call."""
        try:
            plain = json.loads(value)
            new = self.of(plain, path, held)
        except (ValueError, RecursionError):
            return self._shaped(value, path)
        return value if new is plain else json.dumps(new, ensure_ascii=False)

    def _shaped(self, value: str, path: Path) -> Any:
        parts, at, new = [], 0, HIDDEN
        for rule, start, end in _shapes(value):
            new = self._take(path, rule, value[start:end])
            parts += [value[at:start], HIDDEN]
            at = end
        if len(parts) == 2 and not parts[0].strip() and not value[at:].strip():
            return new
        return "".join((*parts, value[at:])) if parts else value


_CODES: Final = (("code",), ("code", "begins"))
_RUN: Final = later(r"[\w+=~-]{16,}", re.ASCII)
_MIXED: Final = later(r"(?<![A-Za-z0-9])(?=[A-Za-z]*\d[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16}")
"""What no person has written: letters and several digits without anything between them."""

_TAGS: Final = frozenset({"!bytes", "!bytearray", "!tuple", "!set", "!frozenset"})


def _names(name: str, held: int) -> bool:
    return is_named(name) or (held == _WIDE and is_secret(name))


def _is_tagged(value: Mapping[Any, Any]) -> bool:
    return len(value) == 1 and next(iter(value)) in _TAGS


def hidden(value: Any) -> Any:
    """Plain data with `HIDDEN` in place of every credential; the very data where there are none."""
    return Walk(HIDDEN, wary=True).of(value, ())


def search(value: Any, *, headers: bool = False, wary: bool = False) -> list[Found]:
    """The credentials in plain data; `wary` looks through a request, of which more is hidden."""
    walk = Walk(HIDDEN, wary=wary)
    walk.of(value, (), _WIDE if headers else _PLAIN)
    return walk.found


# -- constants ----------------------------------------------------------------------------------


# A constant that is hidden does not count in keys: what only sounds like a credential has to look
# like one.
_CONSTANT_NAME: Final = later(
    r"[^a-z]key$|(^|[^a-z])(token|passwd|passphrase|pwd|auth|bearer|cookie|signature)$"
    r"|authorization|api[-_]?key|access[-_]?key|secret|password|credential",
    re.IGNORECASE,
)
_CONSTANT: Final = later(
    r"\b(bearer|basic)\s+[-\w.~+/]{16}|\b(sk|pk|rk|ghp|gho|github_pat|glpat|xox[a-z]|hf|gsk|AKIA|AIza)[-_A-Z0-9]"
    r"[-\w]{8}|\beyJ[\w-]{8}|-----BEGIN|://[^/\s:@]+:[^/\s@]+@",
    re.IGNORECASE,
)
_VAGUE: Final = later(r"[-_](?:key|token)$", re.IGNORECASE)  # of a cache, of a vocabulary


def is_secret_constant(name: str, value: str | bytes) -> bool:
    """Whether a constant is a credential and nothing else, by its form or by the name it has."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    words = text.split(None, 2)
    alone = len(words) < 3 or words[0].startswith("-----BEGIN")
    if alone and _CONSTANT.search(text) and re.search(r"\d|://", text):
        return True
    vague = _VAGUE.search(name) and not _MIXED.search(text)
    sounds = _CONSTANT_NAME.search(name) and re.search(r"\d", text) and "://" not in text
    return len(text) > 7 and words == [text] and (is_named(name) or bool(sounds and not vague))
