"""What can be set, checked once when the session is made. Nothing here is read again later, and nothing is global."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from hailuo_async.errors import ConfigError

#: The service's own tools read these two (cli).
API_KEY_VARIABLE = "MODELLIX_API_KEY"
BASE_URL_VARIABLE = "MODELLIX_BASE_URL"
DEFAULT_BASE_URL = "https://api.modellix.ai"

OnUnknown: TypeAlias = Literal["raise", "resubmit"]

_HIDDEN = "(hidden)"
#: A name in ASCII or an IP address, and a port: what every layer below reads in the same way.
_HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]*:[0-9a-f:.]*\])(:[0-9]*)?", re.IGNORECASE | re.ASCII)


def _api_key(field: str, given: object) -> str:
    value = os.environ.get(API_KEY_VARIABLE) if given is None else given
    if value is None or value == "":
        raise ConfigError(field=field, value=None, rule=f"set {API_KEY_VARIABLE} or give api_key=")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(field=field, value=_HIDDEN, rule="must be printable ASCII without spaces")
    return value


def _base_url(field: str, given: object) -> str:
    """The origin ``scheme://host[:port]``. Raises ``ConfigError`` for anything that is more, or less, than that."""
    value = (os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL) if given is None else given
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ConfigError(field=field, value=value, rule="must be an https origin, a str")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(field=field, value=value, rule="must be an https origin with a valid host and port") from None
    if "@" in parts.netloc:
        raise ConfigError(field=field, value=_HIDDEN, rule="must hold no user name and no password")
    if not _HOST.fullmatch(parts.netloc) or parts.path not in ("", "/") or "?" in value or "#" in value:
        raise ConfigError(field=field, value=value, rule="must be an origin: scheme and host, no path, no query")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise ConfigError(field=field, value=value, rule="must be https; plain http is for localhost alone")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" if port is None else f"{parts.scheme}://{name}:{port}"


def is_this_machine(host: str) -> bool:
    """Whether ``host`` names this machine: ``localhost`` or a loopback address."""
    if host == "localhost" or host.endswith(".localhost"):
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


def optional_seconds(field: str, value: object) -> float | None:
    """``None``, or ``seconds``."""
    return None if value is None else seconds(field, value)


def optional_count(field: str, value: object) -> int | None:
    """``None``, or ``count``."""
    return None if value is None else count(field, value)


def count(field: str, value: object) -> int:
    """A whole number of at least 1. Raises ``ConfigError`` for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(field=field, value=value, rule="must be a whole number of at least 1")
    return value


def _interval(field: str, value: object) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ConfigError(field=field, value=value, rule="must be a pair of seconds, the shortest and the longest")
    shortest, longest = (seconds(field, bound) for bound in value)
    if shortest > longest:
        raise ConfigError(field=field, value=value, rule="must have its shortest before its longest")
    return shortest, longest


def _on_unknown(field: str, value: object) -> OnUnknown:
    if value == "raise" or value == "resubmit":
        return value
    raise ConfigError(field=field, value=value, rule='must be "raise" or "resubmit"')


def _optional_path(field: str, value: object) -> Path | None:
    if value is None:
        return None
    path = os.fsdecode(value) if isinstance(value, str | os.PathLike) else ""
    if not path or "\0" in path:
        raise ConfigError(field=field, value=value, rule="must be the path of a file, or None")
    return Path(path)


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(field=field, value=value, rule="must be True or False")
    return value


def _checked(check: Callable[[str, Any], Any], **options: Any) -> Any:
    """A field whose value passes through ``check``, which is told the field's name."""

    def convert(value: Any, field: attrs.Attribute[Any]) -> Any:
        return check(field.name, value)

    return attrs.field(converter=attrs.Converter(convert, takes_field=True), **options)


@attrs.frozen(kw_only=True)
class Settings:
    """Every setting of a session, checked: ``ConfigError`` names the field, the value and the rule.

    What each means stands in ``AsyncSession``. Times are in seconds. The key never shows in ``repr``.
    """

    api_key: str = _checked(_api_key, repr=False)
    base_url: str = _checked(_base_url)
    max_running: int | None = _checked(optional_count)
    max_queued: int = _checked(count)
    max_jobs: int | None = _checked(optional_count)
    timeout: float | None = _checked(optional_seconds)
    poll_interval: tuple[float, float] = _checked(_interval)
    journal: Path | None = _checked(_optional_path)
    journal_prompts: bool = _checked(_flag)
    on_unknown: OnUnknown = _checked(_on_unknown)
    allow_private_network: bool = _checked(_flag)

    @property
    def is_local(self) -> bool:
        """Whether the service is on this machine, as the emulator is."""
        return is_this_machine(urlsplit(self.base_url).hostname or "")


def check_settings(**given: Any) -> Settings:
    """``Settings`` from what a caller gave, of whatever type. Raises ``ConfigError``."""
    return Settings(**given)
