"""What of a call may be written down?  Shapes, keys and ids; no secrets and no personal values."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from urllib.parse import unquote_plus, urlsplit

MARK = "…"
PATH_LENGTH = 500  # ApiCall.path
BODY_LENGTH = 10_000  # characters kept in debug mode

# Parts of key names, compared without case and punctuation.
SECRET_KEYS = (
    "token", "secret", "password", "passwd", "pwd", "authorization", "apikey", "accesskey", "privatekey", "credential",
    "signature", "cookie", "assertion", "session", "verifier", "otp",
)  # fmt: skip
PERSONAL_KEYS = (
    "email", "mail", "phone", "mobile", "fax", "name", "address", "addr", "street", "line1", "line2", "line3", "city",
    "postal", "zip", "birth", "gender", "ssn", "taxid", "taxidentifier", "iban", "accountnumber", "acctnum",
    "salutation", "nick", "note", "memo", "description", "comment", "subject", "body", "content", "url", "website",
    "latitude", "longitude",
)  # fmt: skip
WHOLE_KEYS = frozenset({"sig", "code", "state", "key", "q", "search", "lat", "long", "pin", "auth", "x-amz-credential"})
# Query keys whose words are grammar, not values; the literals inside are taken out.
GRAMMAR_KEYS = frozenset(
    {"query", "$filter", "$select", "$orderby", "$expand", "$apply", "conditions", "fields", "orderby", "entities"}
)

_LITERAL = re.compile(r"'(?:[^'\\]|\\.|'')*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.:,+*()/{} -]{0,100}")
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 " + MARK),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"), MARK),  # JWT
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), MARK),  # e-mail
    (re.compile(r"https?://[^\s/\"'<>]*:[^\s/\"'<>]*@"), "https://" + MARK + "@"),
    (re.compile(r"(https?://[^\s\"'<>?]+)\?[^\s\"'<>]+"), r"\1?" + MARK),  # a signed URL's signature is in its query
    (re.compile(r"\+\d[\d ().-]{7,}\d"), MARK),  # telephone
    (
        re.compile(
            r"(?i)([\"']?[\w-]*(?:token|secret|password|passwd|api_?key|authorization|signature|\bsig)[\w-]*[\"']?"
            r"\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s&,;}\"']+)"
        ),
        r"\1" + MARK,
    ),
    # Anything long and random: 40 characters or more of a token's alphabet with digits and letters.  A GUID is shorter;
    # without the slash, which base64 has too, else any long path would be one.
    (re.compile(r"(?<![\w-])(?=[\w~+=-]*\d)(?=[\w~+=-]*[A-Za-z])[\w~+=-]{40,}"), MARK),
)


@lru_cache(maxsize=2048)
def _hidden(key: str) -> bool:
    """Tell whether values under this key are secret or personal."""
    if key.lower() in WHOLE_KEYS:
        return True
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    return any(part in plain for part in (*SECRET_KEYS, *PERSONAL_KEYS))


def personal(key: str) -> bool:
    """Tell whether what stands under this key is a person's own: what is hidden in the log of calls."""
    return _hidden(key)


def text(message: str) -> str:
    """Return a message without what looks like a secret or a person's address."""
    for pattern, instead in _PATTERNS:
        message = pattern.sub(instead, message)
    return message


def path(url: str) -> str:
    """Return path and query of a URL with keys and ids kept and values taken out, at most 500 characters."""
    parts = urlsplit(url)
    shown = text(_LITERAL.sub(f"'{MARK}'", unquote_plus(parts.path.replace("+", "%2B")))) or "/"
    if parts.query:
        shown += "?" + "&".join(_pair(pair) for pair in parts.query.split("&"))
    return shown if len(shown) <= PATH_LENGTH else shown[: PATH_LENGTH - 1] + MARK


def _pair(pair: str) -> str:
    key, equals, value = pair.partition("=")
    key = unquote_plus(key)
    if not equals:
        return text(key)
    value = unquote_plus(value)
    if key.lower() in GRAMMAR_KEYS:
        return f"{key}={text(_LITERAL.sub(repr(MARK), value))}"
    if _hidden(key):
        return f"{key}={MARK}"
    cleaned = text(_LITERAL.sub(repr(MARK), value))
    return f"{key}={cleaned if _PLAIN.fullmatch(cleaned) or MARK in cleaned else MARK}"


def body(content: bytes) -> str:
    """Return a JSON body with hidden values taken out; of any other body only its size, since no keys can be told."""
    if not content:
        return ""
    try:
        shape = json.loads(content)
    except ValueError:
        return f"({len(content)} bytes that are not JSON)"
    return json.dumps(_clean(shape, False), ensure_ascii=False)[:BODY_LENGTH]


def _clean(value: object, hidden: bool) -> object:
    if isinstance(value, dict):
        # An object under a personal key (an address) is personal in all its parts, ids excepted.
        return {k: _clean(v, _hidden(k) or (hidden and k.lower() not in {"id", "value"})) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(item, hidden) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if hidden:
        return MARK
    return text(_LITERAL.sub(repr(MARK), value) if " eq '" in value else value) if isinstance(value, str) else value
