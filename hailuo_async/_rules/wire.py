"""Requests to the service, and the meaning of its answers.

Here belongs everything that knows the shape of a request or an answer. It refuses to know sockets, time and retries:
``decipher`` is one pure function from (status, headers, body) to an ``Answer``, and its verdict is the only thing that
the rest of the library acts on. An answer may lack fields, have new ones, or carry values of another type: reading it
never raises.

This is also the one place that reads text from the service. The API key is hidden in it before anything is cut or
passed on, and values nested deeper than ``MAX_DEPTH`` are dropped, so that no later reader runs out of stack. Messages
lose the queries of the URLs that they quote: an image's URL may be signed.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

import attrs

from hailuo_async import contract
from hailuo_async._images.frame import Frame
from hailuo_async._rules.rate_headers import RateHeaders, read_rate_headers
from hailuo_async._rules.task_ids import MAX_TASK_ID_CHARACTERS, is_task_id
from hailuo_async.jobs import Job

#: The documented answers are five deep.
MAX_DEPTH = 64
#: A number with more digits than this is no amount, size or time; Python refuses to read one of 4,300.
_MAX_DIGITS = 400
#: The service issues no shorter key. Hiding one would tear messages, ids and URLs that happen to contain it.
_SHORTEST_KEY = 8
#: The search for a task id in an answer goes this deep, and through so many values.
_ID_DEPTH, _ID_VALUES = 4, 200
#: Made once: ``json.dumps`` makes an encoder for each call that asks for other separators than its own.
_compact = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode
#: A URL with a query or a fragment, as it stands in a sentence. An apostrophe may be part of either.
_URL_WITH_QUERY = re.compile(r"(https?://[^\s\"<>?#]*)[?#][^\s\"<>]*", re.IGNORECASE)
#: The query of an address that is quoted in some other way: without its scheme, or with escaped slashes.
_QUERY = re.compile(r"\?[^\s\"<>?]*=[^\s\"<>]*")
#: A path that the service may name: visible ASCII as it stands in a request, without a host or a fragment.
_QUERY_PATH = re.compile(r"/(?!/)[!\"$-\[\]-~]*")

# --- Requests -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Part:
    """A stretch of a body, read while it is sent. ``pieces`` blocks, and gives ``length`` bytes in all, every time."""

    length: int
    pieces: Callable[[], Iterator[bytes]]


Body: TypeAlias = tuple[bytes | Part, ...]


@attrs.frozen(slots=False)  # made for every request: frozen fields are set three times as fast in a dict
class Request:
    """One request: a path on the service's own origin and, for a POST, a body of known length.

    ``is_alone``: the request has a connection of its own, as every POST: ``_io/http`` says why.
    """

    method: str
    path: str
    body: Body = ()
    content_type: str = "application/json"
    is_alone: bool = False
    headers: Mapping[str, str] = attrs.field(factory=dict)
    may_go_on: Callable[[], bool] | None = attrs.field(default=None, eq=False, repr=False)
    """Called before each piece of the body is sent. Once it returns ``False``, no further piece is sent."""

    @property
    def length(self) -> int:
        """The bytes of the whole body."""
        return sum([len(part) if isinstance(part, bytes) else part.length for part in self.body])

    @property
    def is_heavy(self) -> bool:
        """Whether the body is read from images while it is sent."""
        return any(isinstance(part, Part) for part in self.body)


def build_submit(job: Job, frames: Mapping[str, Frame], webhook_url: str | None = None) -> Request:
    """The POST that asks for ``job``, with its inspected images by field; its end is announced to the webhook."""
    return build_kept_submit(job.target.path, job.options, frames, webhook_url)


def build_kept_submit(
    path: str, options: Mapping[str, object], frames: Mapping[str, Frame], webhook_url: str | None = None
) -> Request:
    """The POST of a job that the journal kept: its path, its options, and its images by field."""
    fields: dict[str, object] = {}
    body: list[bytes | Part] = []
    opening = b"{"
    for field, frame in frames.items():
        if frame.is_url:
            fields[field] = frame.url
        else:
            body += [opening + f'"{field}":"'.encode(), Part(frame.encoded_length, frame.pieces)]
            opening = b'",'
    fields |= options
    body.append((opening if fields else opening[:1]) + _compact(fields)[1:].encode())
    headers = {} if webhook_url is None else {contract.WEBHOOK_HEADER: webhook_url}
    return Request("POST", path, tuple(body), headers=headers)


def build_query(task_id: str, path: str | None = None, *, is_alone: bool = False) -> Request:
    """The GET that asks where a task stands, at ``path`` if the service named one."""
    return Request("GET", path or contract.TASKS_PATH + quote(task_id, safe=""), is_alone=is_alone)


def build_upload(frame: Frame, boundary: str) -> Request:
    """The POST that puts an image on the service, as multipart with one field, ``file``."""
    suffix = (frame.mime or "image/jpeg").removeprefix("image/")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="image.{suffix}"\r\n'
        f"Content-Type: {frame.mime}\r\n\r\n"
    )
    body = (head.encode(), Part(frame.size, frame.raw_pieces), f"\r\n--{boundary}--\r\n".encode())
    return Request("POST", contract.UPLOADS_PATH, body, f"multipart/form-data; boundary={boundary}")


# --- Answers --------------------------------------------------------------------------------------------------------


class Verdict(enum.Enum):
    """The fate of a request. Only ``REFUSED`` and ``UNSENT`` allow a POST to be sent again."""

    ACCEPTED = "the service accepted the request"
    REFUSED = "the service certainly did not accept it"
    UNSENT = "the request certainly never reached the service"
    UNKNOWN = "the service may have accepted it or not"


class Refusal(enum.Enum):
    """Why the service refused."""

    REJECTED = "this request"
    AUTHENTICATION = "this key"
    BALANCE = "the balance"
    NOT_FOUND = "no such thing"
    REQUEST_RATE = "too many requests a minute"
    RUNNING_LIMIT = "too many tasks running"


_REFUSALS: Mapping[int, Refusal] = {
    **dict.fromkeys(contract.REJECTED, Refusal.REJECTED),
    **dict.fromkeys(contract.NOT_AUTHENTICATED, Refusal.AUTHENTICATION),
    **dict.fromkeys(contract.NO_BALANCE, Refusal.BALANCE),
    **dict.fromkeys(contract.NOT_FOUND, Refusal.NOT_FOUND),
    **dict.fromkeys(contract.TOO_MANY, Refusal.REQUEST_RATE),
}


@attrs.frozen(slots=False)  # as ``Request``
class Answer:
    """An answer, or the lack of one, with every fact that the library acts on.

    ``message`` is the service's own, or says what happened instead. ``is_envelope``: the body had the documented form.
    ``problem``: the request could not be made, for a reason on our side. ``task_id`` is a task that the answer names
    anywhere; an acceptance names its own in ``data``.
    """

    verdict: Verdict
    message: str
    status: int | None = None
    refusal: Refusal | None = None
    data: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    rate_headers: RateHeaders = attrs.field(factory=RateHeaders, repr=False)
    is_envelope: bool = False
    problem: Exception | None = None
    task_id: str | None = None
    request_id: str | None = None
    code: int | str | None = None
    """The envelope's code, where it has one that is neither 0 nor the status."""
    whole: object = attrs.field(default=None, repr=False, eq=False)
    """The whole JSON value: some answers have no envelope."""

    @property
    def is_2xx(self) -> bool:
        """Whether its HTTP status is one of success."""
        return 200 <= (self.status or 0) < 300


def unsent(reason: str, problem: Exception | None = None) -> Answer:
    """The answer for a request that never reached the service."""
    return Answer(Verdict.UNSENT, reason, problem=problem)


def unknown(reason: str, status: int | None = None) -> Answer:
    """The answer for a request that was sent and got no readable answer."""
    return Answer(Verdict.UNKNOWN, reason, status)


def decipher(status: int, headers: Mapping[str, str], body: bytes, key: str = "") -> Answer:
    """Reads an answer: accepted, refused or unknown. Never raises. ``key``, the API key, is hidden in the result."""
    found, problem = _read_json(body, key)
    envelope = found if isinstance(found, dict) else {}
    code, own_message, data = read_code(envelope.get("code")), read_message(envelope), envelope.get("data")
    verdict = _judge(status, envelope, code)
    message = own_message or f"HTTP {status}"
    if verdict is Verdict.UNKNOWN and 200 <= status < 300:
        message = f"HTTP {status} {_why_unreadable(envelope, code, problem, own_message)}"
    return Answer(
        verdict,
        message,
        status,
        _read_refusal(status, message) if status in _REFUSALS else None,
        data if isinstance(data, dict) else {},
        read_rate_headers(headers),
        is_envelope=own_message is not None or "code" in envelope,
        task_id=_find_task_id(envelope),
        request_id=_read_request_id(headers, data, key),
        code=None if code == 0 or code == status else code,
        whole=found,
    )


def _judge(status: int, envelope: Mapping[str, Any], code: int | str | None) -> Verdict:
    if not 200 <= status < 300:
        # A 5xx is no refusal: a gateway may answer so after the service took the job, and that task is paid for.
        return Verdict.REFUSED if status in _REFUSALS else Verdict.UNKNOWN
    if not isinstance(envelope.get("data"), dict):
        return Verdict.UNKNOWN
    return Verdict.ACCEPTED if _is_success(envelope, code) else Verdict.UNKNOWN


def _is_success(envelope: Mapping[str, Any], code: int | str | None) -> bool:
    """Whether ``code`` is 0; some answers have ``success`` in its place, or neither."""
    return envelope.get("success") is not False if envelope.get("code") is None else code == 0


def _why_unreadable(
    envelope: Mapping[str, Any], code: int | str | None, problem: str | None, message: str | None
) -> str:
    if problem is None and not _is_success(envelope, code):
        word = "success: false" if envelope.get("code") is None else f"code {code}"
        return f"with {word}: {message or 'no reason given'}"
    problem = problem or "required field missing, or not an object @ $.data"
    return f"with an answer that cannot be read: {problem}"


def _read_refusal(status: int, message: str) -> Refusal:
    if status in contract.TOO_MANY and contract.RUNNING_LIMIT_WORD in message.casefold():
        return Refusal.RUNNING_LIMIT
    return _REFUSALS[status]


def read_message(envelope: object) -> str | None:
    """The service's own message in the whole of an answer: ``message``, or else that of ``error``."""
    if not isinstance(envelope, dict):
        return None
    error = envelope.get("error")
    message = envelope.get("message", error.get("message") if isinstance(error, dict) else error)
    return single_line(message) if isinstance(message, str) else None


def _read_request_id(headers: Mapping[str, str], data: object, key: str) -> str | None:
    """The service's id of this answer, from its header or from the metadata of a result."""
    result = data.get("result") if isinstance(data, dict) else None
    metadata = result.get("metadata") if isinstance(result, dict) else None
    own = metadata.get("request_id") if isinstance(metadata, dict) else None
    header = headers.get("X-Request-ID") or headers.get("x-request-id")
    found = own if isinstance(own, str) else header and _hidden(header, key)
    return (single_line(found)[:MAX_TASK_ID_CHARACTERS] or None) if found else None


def read_code(value: object) -> int | str | None:
    """A code as a number if it is one, else as a short word."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 10 else single_line(value)[:80] or None
    if (type(value) is int or type(value) is float) and abs(value) < 10**9 and value == int(value):
        return int(value)
    return None


def _read_json(body: bytes, key: str) -> tuple[object, str | None]:
    """The JSON value in ``body``, and what is wrong with it as an answer."""
    try:
        text = body.decode(json.detect_encoding(body), "replace")
        found = _loads(text)
        key = key if len(key) >= _SHORTEST_KEY else ""
        # The text alone shows that an answer needs no cleaning: it is flat, has no escapes, and lacks the key.
        if "\\" in text or (key and key in text) or text.count("{") + text.count("[") > MAX_DEPTH:
            found = _cleaned(found, key, MAX_DEPTH)
    except (ValueError, RecursionError):
        return None, "not JSON"
    return found, None if isinstance(found, dict) else "not an object @ $"


def _loads(text: str) -> object:
    try:
        return _decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of thousands of digits: only that number is lost, not the answer
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < _MAX_DIGITS else float("inf"))


def _cleaned(value: object, key: str, depth: int) -> object:
    """``value`` without the key, and without values nested deeper than ``depth``."""
    if isinstance(value, str):
        return _hidden(value, key)
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return "(nested too deep)"
    if isinstance(value, list):
        return [_cleaned(item, key, depth - 1) for item in value]
    return {_hidden(name, key): _cleaned(item, key, depth - 1) for name, item in value.items()}


def _hidden(text: str, key: str) -> str:
    return text.replace(key, "(hidden)") if len(key) >= _SHORTEST_KEY else text


def single_line(text: str) -> str:
    """``text`` fit for one line of a log: without line breaks, control characters and the queries of URLs."""
    text = text[:500]
    text = _URL_WITH_QUERY.sub(r"\1?…", text) if "://" in text else text
    text = _QUERY.sub("?…", text) if "=" in text else text
    return (text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)).strip()


# --- Answers to a submit --------------------------------------------------------------------------------------------


def read_submit(answer: Answer) -> Answer:
    """``answer``, read as the answer to a submit. With the verdict ACCEPTED it has a ``task_id`` that can be queried.

    A refusal that names a task is not certain: the task may exist and be paid for. A 429 while the headers say that
    requests are left means the limit on running tasks, not the request rate (``contract.RUNNING_LIMIT_WORD``).
    """
    if answer.verdict is Verdict.ACCEPTED:
        if (task_id := read_task_id(answer.data)) is not None:
            return answer if task_id == answer.task_id else attrs.evolve(answer, task_id=task_id)
        return attrs.evolve(answer, verdict=Verdict.UNKNOWN, message="the service accepted the job without a task id")
    if answer.verdict is Verdict.REFUSED and answer.task_id is not None:
        message = f"the service refused the job, yet named a task: {answer.status} {answer.message}"
        return attrs.evolve(answer, verdict=Verdict.UNKNOWN, refusal=None, message=message)
    if (
        answer.refusal is Refusal.REQUEST_RATE
        and answer.rate_headers.remaining
        and "minute" not in answer.message.casefold()
    ):
        return attrs.evolve(answer, refusal=Refusal.RUNNING_LIMIT)
    return answer


def _find_task_id(envelope: Mapping[str, Any]) -> str | None:
    """The task that an answer names: in its ``data``, or anywhere near its top."""
    if isinstance(data := envelope.get("data"), dict) and (task_id := read_task_id(data)) is not None:
        return task_id
    layer, left = [envelope], _ID_VALUES
    for _ in range(_ID_DEPTH):
        for found in layer[:left]:
            if (task_id := read_task_id(found)) is not None:
                return task_id
        left -= len(layer)
        inner = (value for found in layer for value in found.values())
        layer = [each for value in inner for each in _as_list(value) if isinstance(each, dict)]
    return None


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def read_task_id(data: Mapping[str, Any]) -> str | None:
    """The task id in an accepted answer; ``None`` if it has no usable one."""
    found = data.get("task_id", data.get("taskId"))
    task_id = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
    return task_id if is_task_id(task_id) else None


def read_query_path(data: Mapping[str, Any], origin: str) -> str | None:
    """The path of ``get_result.url``, if it lies on ``origin``: the key must not travel to another host."""
    get_result = data.get("get_result")
    url = get_result.get("url") if isinstance(get_result, dict) else None
    if not isinstance(url, str) or not url.startswith(origin + "/"):
        return None
    path = url.removeprefix(origin)
    return path if _QUERY_PATH.fullmatch(path) else None
