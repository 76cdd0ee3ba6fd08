"""What a journal holds of one job, as values, and how those become columns and come back.

Nothing here opens a file. The signed URLs of a result are kept apart from the rest of its record, in the table
``place``, so that they can be wiped; the job's column ``place`` names their row. No record holds the API key, an image,
or the service's answer as it came; with ``keep_jobs`` the journal has images in tables of their own (``kept``).
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from hailuo_async import errors
from hailuo_async.errors import HailuoError, JournalError, shown
from hailuo_async.money import from_nanos
from hailuo_async.outcomes import Resource, Video

if TYPE_CHECKING:
    from cattrs import Converter

#: For how long a job stays with a session that has stopped renewing its leases.
LEASE_S = 30.0


class JournalState(enum.StrEnum):
    """Where a job stands on disk."""

    INTENDED = "intended"
    """Asked for, not sent."""
    SENDING = "sending"
    """Its POST may have left: from here on it may be paid for."""
    ACCEPTED = "accepted"
    """The service has it, and its task id is known."""
    SUCCESS = "success"
    """The video is there."""
    FAILED = "failed"
    """The service gave it up, or no longer knows it."""
    REFUSED = "refused"
    """The service did not take it. Not paid for; it is sent when it is asked for again."""
    UNKNOWN = "unknown"
    """Sent, and the service may have accepted it or not. It waits for ``resolve``."""


@attrs.frozen(kw_only=True)
class Intent:
    """A job about to be asked for.

    ``identity`` is what the journal knows it by: its ``key`` or, without one, its ``fingerprint`` and how many such
    came before. ``facts`` are its options, as JSON can say them. ``prompt`` is ``None`` unless it is to be kept.
    ``price`` is what it costs at most, in USD.
    """

    identity: str
    key: str | None
    fingerprint: str
    kind: str
    model: str
    facts: Mapping[str, Any]
    prompt: str | None = None
    price: Decimal | None = None


def _as_words(error: HailuoError | None) -> tuple[str, str] | None:
    return None if error is None else (type(error).__name__, str(error))


@attrs.frozen(kw_only=True)
class Record:
    """What the journal knows of one job. Times are Unix seconds, by the clock of the session or of the database.

    ``kind`` and ``fingerprint`` are ``None`` for a task that was submitted elsewhere and attached to. The URLs of
    ``video`` are empty once they have been wiped, see ``is_wiped``. ``saved_to`` says where the video was saved, and
    ``saved_bytes`` and ``saved_sha256`` what it was then: a file of another size or digest is not the video. ``holder``
    is the session that works the job, until ``lease_until`` unless it renews that.
    """

    identity: str
    key: str | None
    fingerprint: str | None
    kind: str | None
    model: str | None
    facts: Mapping[str, Any]
    prompt: str | None
    state: JournalState
    task_id: str | None = None
    sent_at: float | None = None
    accepted_at: float | None = None
    ended_at: float | None = None
    video: Video | None = None
    error: HailuoError | None = attrs.field(default=None, eq=_as_words)
    saved_to: str | None = None
    saved_bytes: int | None = None
    saved_sha256: str | None = None
    holder: str | None = None
    lease_until: float | None = None
    price: Decimal | None = None
    """What it costs at most, in USD, by the prices when it was asked for; ``None`` where no price was known."""
    cost: Decimal | None = None
    """What the service says that it cost, in USD."""
    cost_before: Decimal | None = None
    """What earlier POSTs of it cost, or may have cost, in USD: it failed or was in doubt, and was sent again."""

    @classmethod
    def of(cls, intent: Intent, holder: str, lease_until: float) -> Record:
        """The record of a job that was just entered, as it would be read."""
        asked = {name: getattr(intent, name) for name in _ASKED}
        asked["facts"] = _keepable(intent.facts)
        return cls(**asked, state=JournalState.INTENDED, holder=holder, lease_until=lease_until)

    @property
    def spent(self) -> Decimal:
        """What was paid for it, in USD. A failed task counts in full until the service says otherwise."""
        has_ended = self.state in (JournalState.SUCCESS, JournalState.FAILED)
        now = (self.price if self.cost is None else self.cost) if has_ended else None
        return (now or Decimal(0)) + (self.cost_before or Decimal(0))

    @property
    def is_wiped(self) -> bool:
        """Whether there was a video and its URLs are gone from here: it was saved, or its result has expired."""
        return self.video is not None and not any(resource.url for resource in self.video.resources)


@attrs.frozen
class Spending:
    """What a journal knows of money, in USD: what was paid, and the price of each job that was sent and has not ended.

    Those that have not ended are named by their identity: a job in doubt is among them.
    """

    spent: Decimal = Decimal(0)
    unfinished: Mapping[str, Decimal] = attrs.field(factory=dict)


class Permit(enum.Enum):
    """Whether a POST may leave."""

    GRANTED = "it may: its record says so"
    TAKEN = "another session works on the job"
    LATER = "not yet: it waits in its place"


@attrs.frozen
class Claim:
    """The journal's answer to "may I work on this?". ``ours``: yes, and no other session will for as long as we live.

    Not ours and unfinished: another session works on it, so ask again in a while. Not ours and ended: it says all.
    """

    record: Record
    ours: bool
    was_left: bool = False
    """Whether it was entered before, and left unsent: others of its stream may have come later."""


_MONEY = ("price", "cost", "cost_before")
#: What a record says as its intent does.
_ASKED = tuple(field.name for field in attrs.fields(Intent))
#: The columns of a record, in the order of its fields: all that are stored under the field's own name.
COLUMNS = tuple(field.name for field in attrs.fields(Record))
#: The parts of a job that never stand in ``facts``, even if a caller puts them there: images may be signed URLs or
#: data URLs, and a prompt is kept only if the user asks for that.
_NEVER_KEPT = frozenset({"prompt", "first_frame_image", "last_frame_image"})
#: A longer text among an error's facts is shortened: it may be a data URL of 20 MB.
_LONGEST_FACT = 2000
_ERRORS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, HailuoError)
}


#: What of a video and its resources is kept as it is.
_OF_VIDEO = tuple(field.name for field in attrs.fields(Video) if field.name not in ("raw", "resources"))
_OF_RESOURCE = tuple(field.name for field in attrs.fields(Resource) if field.name != "url")


@functools.cache
def _converter() -> Converter:
    """From JSON to videos. Made, and cattrs imported, for the first video that is read from a journal."""
    from cattrs.gen import make_dict_structure_fn, override
    from cattrs.preconf.json import make_converter

    converter = make_converter()
    converter.register_structure_hook(Decimal, lambda amount, _: Decimal(amount))
    converter.register_structure_hook(Video, make_dict_structure_fn(Video, converter, raw=override(omit=True)))
    return converter


def facts_text(facts: Mapping[str, Any]) -> str:
    """``facts`` as JSON, without what is never kept. Raises ``TypeError`` for what JSON cannot say."""
    return json.dumps(_keepable(facts))


def _keepable(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if name not in _NEVER_KEPT}


def video_text(video: Video) -> tuple[str, str]:
    """``video`` as JSON in two parts: all but its URLs, and its URLs."""
    facts: dict[str, Any] = {name: getattr(video, name) for name in _OF_VIDEO}
    facts["resources"] = [{name: getattr(each, name) for name in _OF_RESOURCE} for each in video.resources]
    return _encode(facts), _encode([each.url for each in video.resources])


def _text(fact: datetime | Decimal) -> str:
    return str(fact) if isinstance(fact, Decimal) else fact.isoformat()


_encode = json.JSONEncoder(default=_text).encode


def video_from(text: str, urls_text: str | bytes | None) -> Video:
    """The video of a ``video_text``; with empty URLs if those have been wiped."""
    facts = json.loads(text)
    resources = facts["resources"]
    urls = [""] * len(resources) if urls_text is None else json.loads(urls_text)
    for resource, url in zip(resources, urls, strict=True):
        resource["url"] = url
    return _converter().structure(facts, Video)


def error_text(error: HailuoError) -> str:
    """``error`` as JSON: the name of its class, and its facts."""
    pairs = ((field, getattr(error, field.name, None)) for field in attrs.fields(type(error)))
    facts = {field.name: _plain(fact) for field, fact in pairs if fact is not None or field.default is attrs.NOTHING}
    return json.dumps({"error": type(error).__name__, **facts})


def _plain(fact: object) -> object:
    fact = str(fact) if isinstance(fact, Decimal) else fact
    is_plain = fact is None or isinstance(fact, int | float | str)
    return fact if is_plain and not (isinstance(fact, str) and len(fact) > _LONGEST_FACT) else shown(fact)


def error_from(text: str, path: str) -> HailuoError:
    """The error of an ``error_text``, of the same class; a ``JournalError`` if this version has no such class."""
    facts = json.loads(text)
    name = facts.pop("error")
    try:
        return _ERRORS[name](**facts)
    except (KeyError, TypeError):
        reason = f"holds an error that this version does not know, {name}: {shown(text)}"
        return JournalError(path=path, reason=reason, task_id=facts.get("task_id"))


def record_from(row: Mapping[str, Any], path: str) -> Record:
    """One row, joined with where its result lies, as a value. ``path`` is the journal's, for the words of errors.

    Raises ``JournalError`` for a row that no version of this library has written: the journal is damaged.
    """
    try:
        return _record_from(row, path)
    except Exception as cause:  # of json, cattrs, or an enum: a damaged disk may give any bytes
        reason = (
            f"job {shown(row['identity'])} is damaged in it: restore it from a copy, or keep it to look at ({cause})"
        )
        raise JournalError(path=path, reason=reason) from cause


def _record_from(row: Mapping[str, Any], path: str) -> Record:
    columns = {name: row[name] for name in COLUMNS}
    columns["state"] = JournalState(row["state"])
    columns |= {name: from_nanos(row[name]) for name in _MONEY}
    columns["facts"] = json.loads(row["facts"])
    if row["video"] is not None:
        columns["video"] = video_from(row["video"], row["urls"])
    if row["error"] is not None:
        columns["error"] = error_from(row["error"], path)
    return Record(**columns)


def export_text(record: Record) -> str:
    """``record`` as one line of JSON, with no URL of its result in it."""
    facts = attrs.asdict(record, recurse=False)
    facts |= {name: None if facts[name] is None else str(facts[name]) for name in _MONEY}
    if record.video is not None:
        facts["video"] = json.loads(video_text(record.video)[0])
    if record.error is not None:
        facts["error"] = {**json.loads(error_text(record.error)), "words": str(record.error)}
    return json.dumps(facts, ensure_ascii=False)
