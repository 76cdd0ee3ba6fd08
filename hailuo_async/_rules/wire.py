"""What is said to the service, and what its answers mean.

Here belongs everything that knows the shape of a request or an answer. It refuses to know sockets, time and retries:
``decipher`` is one pure function from (status, headers, body) to an ``Answer``, and its verdict is the only thing that
the rest of the library acts on. An answer may lack fields, have new ones, or carry values of another type: reading it
never raises.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeGuard
from urllib.parse import quote

import attrs

from hailuo_async._images.frame import Frame
from hailuo_async._rules.budget import Hints, read_hints
from hailuo_async.jobs import Job

#: Task ids stand in paths and logs; what is longer than this is not one.
MAX_TASK_ID_CHARACTERS = 256
#: A path that the service may name: visible ASCII as it stands in a request, without a host or a fragment.
_QUERY_PATH = re.compile(r"/(?!/)[!\"$-\[\]-~]*")

VALIDATE_PATH = "/api/v1/apikey/validate"
BALANCE_PATH = "/api/v1/team/balance"
UPLOAD_PATH = "/api/v1/media/files"


# --- What is said ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Part:
    """A stretch of a body, read as it is sent. ``pieces`` blocks, and gives ``length`` bytes in all, every time."""

    length: int
    pieces: Callable[[], Iterator[bytes]]


Body: TypeAlias = tuple[bytes | Part, ...]


@attrs.frozen
class Request:
    """One request: a path on the service's own origin and, for a POST, a body of known length."""

    method: str
    path: str
    body: Body = ()
    content_type: str = "application/json"

    @property
    def length(self) -> int:
        """The bytes of the whole body."""
        return sum(len(part) if isinstance(part, bytes) else part.length for part in self.body)

    @property
    def is_heavy(self) -> bool:
        """Whether its body is read from images as it is sent."""
        return any(isinstance(part, Part) for part in self.body)


def build_submit(job: Job, frames: Mapping[str, Frame]) -> Request:
    """The POST that asks for ``job``. ``frames`` are its images by field, looked at."""
    body: list[bytes | Part] = []
    opening = "{"
    for field, frame in frames.items():
        body += [f'{opening}"{field}":"'.encode(), _image_part(frame), b'"']
        opening = ","
    options = json.dumps(job.options)
    body.append(b"}" if options == "{}" else f",{options[1:]}".encode())
    return Request("POST", job.target.path, _joined(body))


def build_query(task_id: str, path: str | None = None) -> Request:
    """The GET that asks where a task stands, at ``path`` if the service named one."""
    return Request("GET", path or f"/api/v1/tasks/{quote(task_id, safe='')}")


def build_upload(frame: Frame, boundary: str) -> Request:
    """The POST that puts an image on the service, as multipart with one field, ``file``."""
    suffix = (frame.mime or "image/jpeg").removeprefix("image/")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="image.{suffix}"\r\n'
        f"Content-Type: {frame.mime}\r\n\r\n"
    )
    body = (head.encode(), Part(frame.size, frame.raw_pieces), f"\r\n--{boundary}--\r\n".encode())
    return Request("POST", UPLOAD_PATH, body, f"multipart/form-data; boundary={boundary}")


def _image_part(frame: Frame) -> bytes | Part:
    """A URL is short and needs no thread to be read; an image is neither."""
    return b"".join(frame.pieces()) if frame.is_url else Part(frame.encoded_length, frame.pieces)


def _joined(parts: list[bytes | Part]) -> Body:
    """``parts`` with neighbouring bytes made one."""
    joined: list[bytes | Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(last, bytes) and isinstance(part, bytes):
            joined[-1] = last + part
        else:
            joined.append(part)
    return tuple(joined)


# --- What an answer means -------------------------------------------------------------------------------------------


class Verdict(enum.Enum):
    """What became of a request. Only ``REFUSED`` and ``UNSENT`` allow a POST to be sent again."""

    ACCEPTED = "the service took it and answered"
    REFUSED = "the service certainly did not take it"
    UNSENT = "it certainly never reached the service"
    UNKNOWN = "nobody can tell"


class Refusal(enum.Enum):
    """Why the service refused."""

    REJECTED = "this request"
    AUTHENTICATION = "this key"
    BALANCE = "the balance"
    NOT_FOUND = "no such thing"
    REQUEST_RATE = "too many requests a minute"
    RUNNING_LIMIT = "too many tasks running"


#: The statuses that certainly refuse (API.md, "Refusals"). Every other one that is not 2xx leaves a doubt.
_REFUSALS: Mapping[int, Refusal] = {
    400: Refusal.REJECTED,
    401: Refusal.AUTHENTICATION,
    402: Refusal.BALANCE,
    403: Refusal.AUTHENTICATION,
    404: Refusal.NOT_FOUND,
    413: Refusal.REJECTED,
    422: Refusal.REJECTED,
    429: Refusal.REQUEST_RATE,
}


@attrs.frozen
class Answer:
    """An answer, or the want of one, read as far as anyone may act on it.

    ``message`` is the service's own, or says what happened instead. ``is_envelope`` tells whether the body had the
    documented form. ``problem`` is set when the request could not be made for a reason of ours.
    """

    verdict: Verdict
    message: str
    status: int | None = None
    refusal: Refusal | None = None
    data: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    hints: Hints = attrs.field(factory=Hints, repr=False)
    is_envelope: bool = False
    problem: Exception | None = None


def unsent(reason: str, problem: Exception | None = None) -> Answer:
    """No request reached the service."""
    return Answer(Verdict.UNSENT, reason, problem=problem)


def unknown(reason: str, status: int | None = None) -> Answer:
    """A request left, and no answer came that can be read."""
    return Answer(Verdict.UNKNOWN, reason, status)


def decipher(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """What an answer means: accepted, refused or unknown. Never raises, whatever it is given."""
    hints = read_hints(headers)
    envelope = _read_envelope(body)
    message = envelope.message or f"HTTP {status}"
    data, readable = envelope.data, envelope.is_envelope
    if 200 <= status < 300:
        if data is not None:
            return Answer(Verdict.ACCEPTED, message, status, None, data, hints, readable)
        reason = f"HTTP {status} with an answer that cannot be read: {envelope.problem}"
        return Answer(Verdict.UNKNOWN, reason, status, hints=hints)
    refusal = _REFUSALS.get(status)
    if refusal is None:
        return Answer(Verdict.UNKNOWN, message, status, hints=hints, is_envelope=readable)
    if refusal is Refusal.REQUEST_RATE and "concurrent" in message.casefold():
        refusal = Refusal.RUNNING_LIMIT
    return Answer(Verdict.REFUSED, message, status, refusal, {}, hints, readable)


@attrs.frozen
class _Envelope:
    message: str | None
    data: Mapping[str, Any] | None
    is_envelope: bool
    problem: str | None


def _read_envelope(body: bytes) -> _Envelope:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return _Envelope(None, None, False, "not JSON")
    if not isinstance(found, dict):
        return _Envelope(None, None, False, "not an object @ $")
    message, data = found.get("message"), found.get("data")
    words = single_line(message) if isinstance(message, str) else None
    problem = None if isinstance(data, dict) else "required field missing, or not an object @ $.data"
    return _Envelope(words, data if isinstance(data, dict) else None, words is not None or "code" in found, problem)


def single_line(text: str) -> str:
    """``text`` fit for one line of a log: a service's words are a stranger's words."""
    text = text[:500]
    return (text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)).strip()


# --- What a submit's answer says ------------------------------------------------------------------------------------


def read_task_id(data: Mapping[str, Any]) -> str | None:
    """The task id in an accepted answer. ``None`` if there is none that could be asked for."""
    found = data.get("task_id")
    task_id = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
    return task_id if is_task_id(task_id) else None


def is_task_id(value: object) -> TypeGuard[str]:
    """Whether ``value`` could be a task's id: a short, printable ``str`` without spaces."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_TASK_ID_CHARACTERS
        and value.isprintable()
        and " " not in value
    )


def read_query_path(data: Mapping[str, Any], origin: str) -> str | None:
    """The path of ``get_result.url``, if it lies on ``origin``: the key must not travel to another host."""
    get_result = data.get("get_result")
    url = get_result.get("url") if isinstance(get_result, dict) else None
    if not isinstance(url, str) or not url.startswith(origin + "/"):
        return None
    path = url.removeprefix(origin)
    return path if _QUERY_PATH.fullmatch(path) else None
