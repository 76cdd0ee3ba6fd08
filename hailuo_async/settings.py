"""The settings of a session, checked once when it is made. Later changes of the environment change nothing."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import attrs

from hailuo_async.contract import API_KEY_VARIABLE, BASE_URL_VARIABLE, DEFAULT_BASE_URL
from hailuo_async.errors import ConfigError, without_query
from hailuo_async.money import read_amount

T = TypeVar("T")

OnUnknown: TypeAlias = Literal["raise", "resubmit"]

_HIDDEN = "(hidden)"
_MAX_WEBHOOK_URL = 2000
#: A name in ASCII or an IP address, and a port: all layers below read these in the same way.
_HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]*:[0-9a-f:.]*\])(:[0-9]*)?", re.IGNORECASE | re.ASCII)


def _api_key(field: str, given: object) -> str:
    value = os.environ.get(API_KEY_VARIABLE) if given is None else given
    if value is None or (isinstance(value, str) and not value):
        raise ConfigError(field=field, value=None, rule=f"set {API_KEY_VARIABLE} or give api_key=")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(field=field, value=_HIDDEN, rule="must be printable ASCII without spaces")
    return value


def _base_url(field: str, given: object) -> str:
    """The origin ``scheme://host[:port]``. Raises ``ConfigError`` for a URL with more or fewer parts."""
    value = (os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL) if given is None else given
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ConfigError(field=field, value=value, rule="must be an https origin, a str")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(field=field, value=value, rule="must be an https origin with a valid host and port") from None
    if "@" in parts.netloc:
        raise ConfigError(field=field, value=_HIDDEN, rule="must not hold a user name or a password")
    if not _HOST.fullmatch(parts.netloc) or parts.path not in ("", "/") or "?" in value or "#" in value:
        bare = without_query(value)  # a key may stand in it
        raise ConfigError(field=field, value=bare, rule="must be an origin: scheme and host, no path, no query")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise ConfigError(
            field=field, value=value, rule="must be https; plain http is for localhost and loopback addresses alone"
        )
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" if port is None else f"{parts.scheme}://{name}:{port}"


def is_this_machine(host: str) -> bool:
    """Whether ``host`` is this machine: ``localhost`` or a loopback address. DNS decides where other names lead."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def seconds(field: str, value: object) -> float:
    """A finite, positive number of seconds. Raises ``ConfigError`` for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
        raise ConfigError(field=field, value=value, rule="must be a finite number of seconds over 0")
    return float(value)


def count(field: str, value: object, least: int = 1) -> int:
    """A whole number of at least ``least``. Raises ``ConfigError`` for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(field=field, value=value, rule=f"must be a whole number of at least {least}")
    return value


def dollars(field: str, value: object) -> Decimal:
    """US dollars over 0 and under a million. Raises ``ConfigError`` for anything else."""
    amount = read_amount(value)
    if not amount:
        rule = "must be US dollars, over 0 and under a million, such as 20 or Decimal('14.58')"
        raise ConfigError(field=field, value=value, rule=rule)
    return amount


def _or_none(check: Callable[[str, object], T]) -> Callable[[str, object], T | None]:
    """``check``, which lets ``None`` pass."""
    return lambda field, value: None if value is None else check(field, value)


optional_seconds: Callable[[str, object], float | None] = _or_none(seconds)
optional_count: Callable[[str, object], int | None] = _or_none(count)
optional_dollars: Callable[[str, object], Decimal | None] = _or_none(dollars)


def _interval(field: str, value: object) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ConfigError(field=field, value=value, rule="must be a pair of seconds, the shortest and the longest")
    shortest, longest = (seconds(field, bound) for bound in value)
    if shortest > longest:
        raise ConfigError(field=field, value=value, rule="must have its shortest before its longest")
    return shortest, longest


def _on_unknown(field: str, value: object) -> OnUnknown:
    if isinstance(value, str) and value in ("raise", "resubmit"):
        return "raise" if value == "raise" else "resubmit"
    raise ConfigError(field=field, value=value, rule='must be "raise" or "resubmit"')


#: The beginning of a URL, which is no path: a mistyped DSN may hold a password, which the error for a path would show.
_URL = re.compile(r"[\w+.-]+://")
#: A host and its port, as libpq takes them: a name, an address, or the quoted directory of a socket.
_DSN_HOST = re.compile(r"(?:[\w.%-]*|\[[0-9a-f:.]+\])(?::[0-9]*)?", re.IGNORECASE | re.ASCII)


@attrs.frozen(repr=False)
class Dsn:
    """Where a PostgreSQL database is. Neither ``str`` nor ``repr`` shows a password from any part of the URL."""

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        user_info, at, hosts = parts.netloc.rpartition("@")
        shown = [f"{name}={quote(value)}" for name, value in parse_qsl(parts.query) if "password" not in name]
        query = f"?{'&'.join(shown)}" if shown else ""
        return f"postgresql://{user_info.partition(':')[0]}{at}{hosts}{parts.path}{query}"

    def __repr__(self) -> str:
        return f"Dsn({str(self)!r})"

    @property
    def options(self) -> str:
        """The options that the session sets at the server: ``-csearch_path=…`` says where the journal lies."""
        return " ".join(value for name, value in parse_qsl(urlsplit(self.url).query) if name == "options")

    def hide(self, text: str) -> str:
        """``text`` without the password."""
        parts = urlsplit(self.url)
        secrets = [parts.netloc.rpartition("@")[0].partition(":")[2]]
        secrets += [value for name, value in parse_qsl(parts.query) if "password" in name]
        for secret in {*secrets, *map(unquote, secrets)} - {""}:
            text = text.replace(secret, "***")
        return text


JournalLocation: TypeAlias = Path | Dsn
"""Where a journal is: in a file, or a database."""


#: What other programs take for a database in memory or elsewhere, and would be a file of that name here.
_NAMES_OF_SQLITE = (":memory:", "file:")
#: libpq's other form, "host=… password=…": the error for it says how to write a URL.
_KEYWORDS = re.compile(r"\s*(?:host|hostaddr|port|dbname|user|password|service)\s*=", re.IGNORECASE)


def journal_location(value: object) -> JournalLocation:
    """The file or the database that ``value`` names. Raises ``ConfigError``, without a password in it."""
    if isinstance(value, Dsn):
        return value
    if isinstance(value, str) and (_URL.match(value) or _KEYWORDS.match(value)):
        return _dsn(value)
    path = os.fsdecode(value) if isinstance(value, str | os.PathLike) else ""
    if not path or "\0" in path or (isinstance(value, str) and value.startswith(_NAMES_OF_SQLITE)):
        raise ConfigError(field="journal", value=value, rule="must be the path of a file, a PostgreSQL DSN, or None")
    return Path(path)


def _dsn(value: str) -> Dsn:
    # A password with an unquoted / ? # or @ would be read as a path or a host, and shown with them.
    parts = re.fullmatch(r"postgres(?:ql)?://(?:[^@/?#]*@)?([^@/?#]*)(?:/[^@/?#]*)?(?:\?[^#@]*)?", value)
    if parts is None or not all(_DSN_HOST.fullmatch(host) for host in parts[1].split(",")) or not value.isprintable():
        rule = "must be a path or postgresql://user@host/database, with %XX for reserved characters such as / and @"
        raise ConfigError(field="journal", value=_HIDDEN, rule=rule)
    return Dsn(value)


def is_http_url(url: str) -> bool:
    """Whether ``url`` is an http(s) URL with a host and a port that can be connected to."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _webhook_url(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        shown = without_query(value) if isinstance(value, str) else value
        raise ConfigError(field=field, value=shown, rule="must be an https URL in printable ASCII, a str")
    if len(value) > _MAX_WEBHOOK_URL:
        rule = f"must have at most {_MAX_WEBHOOK_URL} characters"
        raise ConfigError(field=field, value=without_query(value), rule=rule)
    if not is_http_url(value):
        rule = "must be an https URL with a valid host and port"
        raise ConfigError(field=field, value=without_query(value), rule=rule)
    if "@" in urlsplit(value).netloc:
        raise ConfigError(field=field, value=_HIDDEN, rule="must hold no user name and no password")
    if "#" in value:
        rule = "must have no fragment: it would not be sent"
        raise ConfigError(field=field, value=without_query(value), rule=rule)
    return value


def _check_webhook_host(settings: Settings) -> None:
    """The service calls public https alone. One on this machine or network is for tests, and has to be allowed."""
    url = settings.webhook_url
    if url is None or (settings.allow_private_network and is_private(urlsplit(url).hostname or "")):
        return
    if not url.startswith("https:"):
        rule = "must be https: the service calls nothing else"
        raise ConfigError(field="webhook_url", value=without_query(url), rule=rule)
    if is_private(urlsplit(url).hostname or ""):
        rule = "must be a public address, as the service calls no other; allow_private_network=True allows it in tests"
        raise ConfigError(field="webhook_url", value=without_query(url), rule=rule)


def is_private(host: str) -> bool:
    """Whether ``host`` cannot be reached from the internet, by its wording alone."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        _, dot, top = host.strip(".").rpartition(".")
        is_address = not top[:1].isalpha()  # in an old spelling, such as 127.1 or 0x7f.1: no top-level domain is so
        return not dot or is_address or top in ("localhost", "local", "internal")


def flag(field: str, value: object) -> bool:
    """True or False. Raises ``ConfigError`` for anything else."""
    if not isinstance(value, bool):
        raise ConfigError(field=field, value=value, rule="must be True or False")
    return value


def _checked(check: Callable[[str, Any], Any], **options: Any) -> Any:
    """A field whose value passes through ``check``, which gets the field's name for its errors."""

    def convert(value: Any, field: attrs.Attribute[Any]) -> Any:
        return check(field.name, value)

    return attrs.field(converter=attrs.Converter(convert, takes_field=True), **options)


@attrs.frozen(kw_only=True)
class Settings:
    """Every setting of a session, checked: ``ConfigError`` names the field, the value and the rule.

    ``AsyncSession`` documents each of them. Times are in seconds. ``repr`` never shows the key, nor the query of the
    webhook's URL: nothing but its secrecy keeps strangers from it.
    """

    api_key: str = _checked(_api_key, repr=False)
    base_url: str = _checked(_base_url)
    max_running: int | None = _checked(optional_count)
    max_queued: int = _checked(count)
    max_jobs: int | None = _checked(optional_count)
    max_cost: Decimal | None = _checked(optional_dollars)
    timeout: float | None = _checked(optional_seconds)
    poll_interval: tuple[float, float] = _checked(_interval)
    journal: JournalLocation | None = _checked(_or_none(lambda _, value: journal_location(value)))
    journal_prompts: bool = _checked(flag)
    keep_jobs: bool = _checked(flag)
    max_kept_bytes: int = _checked(count)
    on_unknown: OnUnknown = _checked(_on_unknown)
    allow_private_network: bool = _checked(flag)
    webhook_url: str | None = _checked(_or_none(_webhook_url), repr=lambda url: repr(url and without_query(url)))

    def __attrs_post_init__(self) -> None:
        _check_webhook_host(self)

    @property
    def is_local(self) -> bool:
        """Whether the service is on this machine, as the emulator is."""
        return is_this_machine(urlsplit(self.base_url).hostname or "")


def check_settings(**given: Any) -> Settings:
    """``Settings`` from a caller's values of any type. Raises ``ConfigError``."""
    settings = Settings(**given)
    if settings.keep_jobs and settings.journal is None:
        raise ConfigError(field="keep_jobs", value=True, rule="needs a journal to keep them in: give journal=")
    return settings
