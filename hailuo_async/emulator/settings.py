"""The settings of the emulated service, and their checks."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any

import attrs

from .facts import FILES_LAST_S, MAX_FILES, RESULTS_LAST_S, RUNNING_LIMIT_WORDINGS, TIERS, UPLOADS_AT_ONCE
from .faults import Faults

DEFAULT_API_KEY = "emulator-key"
#: Without a tier: few enough for a test to reach.
_MAX_RUNNING = 3
_REQUESTS_PER_MINUTE = 100


class ReasonIn(enum.StrEnum):
    """Where the answer about a failed task gives its reason: all these places are documented or were seen."""

    ERROR = "error"
    """``data.error``, an object with ``code`` and ``message``."""
    ERROR_TEXT = "error_text"
    """``data.error``, a string."""
    ERROR_MESSAGE = "error_message"
    MESSAGE = "message"
    """``data.message``."""
    ENVELOPE = "envelope"
    """The envelope's ``message``, in place of "success"."""
    NOWHERE = "nowhere"


def _from(lowest: int, highest: float = math.inf) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not lowest <= value <= highest:
            bounds = f"at least {lowest}" if highest == math.inf else f"from {lowest} to {highest:g}"
            raise ValueError(f"{attribute.name} must be {bounds}; got {value!r}")

    return check


def _find_tier(name: str | None) -> str | None:
    if name is not None and name not in TIERS:
        raise ValueError(f"there is no tier {name!r}: give one of {', '.join(map(repr, TIERS))}")
    return name


def _apply_tier(settings: Settings, _: attrs.Attribute[str | None], value: str | None) -> str | None:
    if value is not None:
        settings.max_running = TIERS[value].max_running
        settings.requests_per_minute = TIERS[value].requests_per_minute
    return value


def _max_running(settings: Settings) -> int:
    return _MAX_RUNNING if settings.tier is None else TIERS[settings.tier].max_running


def _requests_per_minute(settings: Settings) -> int:
    return _REQUESTS_PER_MINUTE if settings.tier is None else TIERS[settings.tier].requests_per_minute


@attrs.define(kw_only=True)
class Settings:
    """The arguments of ``Service``. Those that are not frozen may also be set while it runs.

    Raises ``ValueError`` for a setting out of its range, ``TypeError`` for faults that are not ``Faults``.
    """

    api_key: str = attrs.field(default=DEFAULT_API_KEY, repr=False)
    origin: str = "http://emulator.invalid"
    """Scheme and host of the URLs that it hands out."""
    tier: str | None = attrs.field(default=None, converter=_find_tier, on_setattr=[attrs.setters.convert, _apply_tier])
    """A top-up by name, such as ``"$100"``: sets ``max_running`` and ``requests_per_minute`` if they are not given."""
    max_running: int | None = attrs.field(default=attrs.Factory(_max_running, takes_self=True), validator=_from(0))
    """How many tasks the team may run at once; ``None`` for any number."""
    others_running: int = attrs.field(default=0, validator=_from(0))
    """How many of those are held by other programs of the team."""
    requests_per_minute: int | None = attrs.field(
        default=attrs.Factory(_requests_per_minute, takes_self=True), validator=_from(0)
    )
    """``None`` for no limit, and no headers that tell of one."""
    running_limit_wordings: tuple[str, ...] = attrs.field(
        default=RUNNING_LIMIT_WORDINGS[:1], validator=attrs.validators.min_len(1)
    )
    """The messages of a refusal for running tasks, one of which is drawn each time; ``{limit}`` is filled in."""
    generation_s: float = attrs.field(default=4.0, validator=_from(0))
    """How long a task takes in the mean."""
    spread: float = attrs.field(default=0.2, validator=_from(0, 1))
    """By which share of the mean a task may take more or less."""
    fail_rate: float = attrs.field(default=0.0, validator=_from(0, 1))
    """The share of tasks that fail."""
    cancel_rate: float = attrs.field(default=0.0, validator=_from(0, 1))
    """The share of tasks that end as canceled. With ``fail_rate``, at most 1."""
    fail_reason: str = "failed on purpose"
    fail_code: str | int = "generation_failed"
    reason_in: ReasonIn = attrs.field(default=ReasonIn.ERROR, converter=ReasonIn)
    """Where the answer about a failed task gives its reason."""
    bare_answers: bool = False
    """Whether submits and queries are answered as ``{"success": true, "data": …}``, without ``code``."""
    get_result_origin: str | None = None
    """Scheme and host of ``get_result.url``, where they are to differ from ``origin``."""
    results_last_s: float = attrs.field(default=RESULTS_LAST_S, validator=_from(0))
    """How long after its end a task is known."""
    url_lasts_s: float = attrs.field(default=RESULTS_LAST_S, validator=_from(0))
    """How long a result's URL opens it, from the query that gave it; never longer than the task is known."""
    balance: float = attrs.field(default=100_000.0, validator=_from(0))
    """USD."""
    price_per_s: float | None = attrs.field(default=None, validator=_from(0))
    """USD for a second of any video; ``None`` for the list prices of each model."""
    bills_failures: bool = True
    """Whether a task that failed or was canceled is paid for."""
    prices_as_text: bool = False
    """Whether the list of models gives prices as text."""
    max_files: int | None = attrs.field(default=MAX_FILES, validator=_from(0))
    """How many uploads the team may hold."""
    uploads_at_once: int | None = attrs.field(default=UPLOADS_AT_ONCE, validator=_from(0))
    """How many uploads may be on their way at once. Held on a socket only: in memory an upload takes no time."""
    upload_s: float = attrs.field(default=0.0, validator=_from(0))
    """How long an upload is on its way after its last byte has come. On a socket only, as above."""
    files_last_s: float = attrs.field(default=FILES_LAST_S, validator=_from(0))
    iso_times: bool = False
    """Whether ``created_at`` of an upload is ISO text, not Unix milliseconds."""
    delete_answers: bool = False
    """Whether a deletion answers an envelope, not 204."""
    webhook_retry_s: float = attrs.field(default=1.0, validator=_from(0))
    """How long after a failed delivery the first retry comes; each further one waits twice as long."""
    webhook_late_s: float = attrs.field(default=10.0, validator=_from(0))
    """How late the fault ``late`` makes a delivery."""
    faults: Faults = attrs.field(factory=Faults, validator=attrs.validators.instance_of(Faults))
    render: bool = attrs.field(default=False, on_setattr=attrs.setters.frozen)
    """Whether films are made of the tasks' pictures, which are kept for that. ``Emulator`` needs an extra for it."""
    video_size: int = attrs.field(default=4096, validator=_from(1))
    """Bytes of a film that is not rendered."""
    ledger_entries: int = attrs.field(default=100_000, validator=_from(0), on_setattr=attrs.setters.frozen)
    seed: int = attrs.field(default=0, on_setattr=attrs.setters.frozen)
    """Everything that is left to chance follows from it."""
