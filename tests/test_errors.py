"""The tree of errors: each carries its facts, says them in words, and survives a pickle. None holds a secret."""

from __future__ import annotations

import copy
import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

import hailuo_async
from hailuo_async import errors
from hailuo_async.errors import (
    AuthenticationError,
    ConfigError,
    DownloadError,
    HailuoError,
    ImageError,
    InsufficientBalanceError,
    JobError,
    JobNotFoundError,
    JournalError,
    ProtocolError,
    QueueFullError,
    RateLimitedError,
    RequestRejectedError,
    ServiceError,
    ServiceUnavailableError,
    SessionClosedError,
    SpendingLimitError,
    SubmissionUnknownError,
    TaskExpiredError,
    TaskFailedError,
    UnknownCommandWarning,
    WaitTimeoutError,
    shown,
)

#: One of each, and its words.
ONE_OF_EACH: list[tuple[HailuoError, str]] = [
    (HailuoError(), "HailuoError"),
    (JobError(field="duration", value=7, rule="must be 6 or 10"), "duration 7: must be 6 or 10"),
    (
        ImageError(field="first_frame_image", value="0 bytes", rule="must not be empty", image="cat.jpg"),
        "first_frame_image (cat.jpg): found 0 bytes; must not be empty",
    ),
    (ConfigError(field="max_running", value=0, rule="must be at least 1"), "max_running 0: must be at least 1"),
    (ConfigError(field="api_key", value=None, rule="set X or give api_key="), "no api_key: set X or give api_key="),
    (ServiceError(message="no", status=418), "418 no"),
    (AuthenticationError(message="Authentication failed: x", status=401), "401 Authentication failed: x"),
    (InsufficientBalanceError(message="insufficient balance: x", status=402), "402 insufficient balance: x"),
    (RequestRejectedError(message="Invalid parameters: x", status=400), "400 Invalid parameters: x"),
    (RateLimitedError(message="Rate limit exceeded: x", status=429, retry_after_s=7.5), "429 Rate limit exceeded: x"),
    (ServiceUnavailableError(message="cannot connect"), "cannot connect"),
    (ProtocolError(message="not JSON", status=200), "200 not JSON"),
    (ProtocolError(message="HTTP 418", status=418), "HTTP 418"),
    (
        SubmissionUnknownError(reason="the connection was cut", key="cat", sent_at=1_700_000_000.0),
        "job 'cat' may have been accepted and paid for: the connection was cut; it is not sent again by itself",
    ),
    (
        SubmissionUnknownError(reason="no answer in time"),
        "a job may have been accepted and paid for: no answer in time; it is not sent again by itself",
    ),
    (TaskFailedError(reason="too dark"), "the service gave the task up: too dark"),
    (
        TaskFailedError(reason="too bright", code=1026),
        "the service gave the task up: too bright; the input was found sensitive: change the prompt or the picture",
    ),
    (TaskFailedError(reason="too bright", code="dark"), "the service gave the task up: too bright"),
    (TaskExpiredError(), "the service does not know this task, or its result has expired"),
    (WaitTimeoutError(timeout_s=90.0), "no video within 90 s; it was never sent"),
    (DownloadError(reason="it is cut short"), "it is cut short"),
    (DownloadError(reason="it is cut short", path="a/b.mp4"), "a/b.mp4: it is cut short"),
    (JournalError(path="a.db", reason="the disk is full"), "journal a.db: the disk is full"),
    (JobNotFoundError(key="cat"), "no job 'cat' in the journal: check the key, and which journal the job was given to"),
    (QueueFullError(max_queued=10), "10 jobs wait already: try again when some have been sent, or raise max_queued"),
    (SpendingLimitError(max_jobs=5), "5 jobs may be paid for here, and as many were sent: raise max_jobs to send more"),
    (
        SpendingLimitError(max_cost=Decimal(5), spent=Decimal("1.2"), committed=Decimal(3), cost=Decimal("0.9")),
        "a job of up to $0.9 would pass max_cost ($1.2 spent and $3 committed of $5): raise max_cost to send it",
    ),
    (
        SpendingLimitError(max_cost=Decimal(5), spent=Decimal(0), committed=Decimal(0)),
        "no price of this job is known, so max_cost $5 cannot bound it: set max_jobs as well",
    ),
    (SessionClosedError(reason="the session is closed"), "the session is closed"),
]

each = pytest.mark.parametrize(("error", "words"), ONE_OF_EACH, ids=[type(error).__name__ for error, _ in ONE_OF_EACH])


def test_every_error_of_the_tree_is_here() -> None:
    found = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, HailuoError)}
    assert {type(error) for error, _ in ONE_OF_EACH} == found


def test_every_error_is_public() -> None:
    assert {type(error).__name__ for error, _ in ONE_OF_EACH} <= set(hailuo_async.__all__)


@each
def test_an_error_makes_its_words_from_its_facts(error: HailuoError, words: str) -> None:
    assert str(error) == words
    assert repr(error) == f"{type(error).__name__}({words!r})"


@each
def test_an_error_survives_a_copy_and_a_pickle_with_all_its_facts(error: HailuoError, words: str) -> None:
    pickled = [pickle.loads(pickle.dumps(error, level)) for level in range(6)]
    for twin in (copy.copy(error), copy.deepcopy(error), *pickled):
        assert twin is not error
        assert (type(twin), vars(twin), str(twin)) == (type(error), vars(error), words)


@each
def test_an_error_has_a_task_id_and_names_it_once_there_is_one(error: HailuoError, words: str) -> None:
    assert error.task_id is None
    accepted = copy.copy(error)
    accepted.task_id = "task-abc123"
    assert accepted.task_id == "task-abc123"
    assert str(accepted).endswith(" (task task-abc123)")
    assert error.task_id is None


def test_an_error_names_the_request_that_its_answer_had() -> None:
    error = TaskFailedError(reason="too dark", task_id="task-1", request_id="req-7")
    assert str(error) == "the service gave the task up: too dark (task task-1, request req-7)"
    assert error.summary == "the service gave the task up: too dark"


HTTP_STATUSES = {
    **dict.fromkeys((HailuoError, ConfigError, ServiceError, AuthenticationError, JournalError), 500),
    JobNotFoundError: 404,
    TaskExpiredError: 410,
    **dict.fromkeys((JobError, ImageError, RequestRejectedError), 422),
    **dict.fromkeys((ProtocolError, SubmissionUnknownError, TaskFailedError, DownloadError), 502),
    **dict.fromkeys((InsufficientBalanceError, RateLimitedError, ServiceUnavailableError), 503),
    **dict.fromkeys((QueueFullError, SpendingLimitError, SessionClosedError), 503),
    WaitTimeoutError: 504,
}


def test_every_class_says_what_a_web_handler_answers() -> None:
    assert {type(error): error.http_status for error, _ in ONE_OF_EACH} == HTTP_STATUSES


def test_a_deadline_says_whether_the_task_goes_on() -> None:
    error = WaitTimeoutError(timeout_s=0.5, task_id="task-abc123")
    assert (
        str(error) == "no video within 0.5 s; it goes on at the service: attach() waits for it again (task task-abc123)"
    )


def test_a_deadline_says_why_the_last_query_failed() -> None:
    error = WaitTimeoutError(timeout_s=9, task_id="task-1", reason="HTTP 502")
    assert (
        str(error) == "no video within 9 s; its last query failed: HTTP 502; attach() waits for it again (task task-1)"
    )


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (JobError, [HailuoError, ValueError]),
        (ImageError, [JobError]),
        (ConfigError, [HailuoError, ValueError]),
        (ServiceError, [HailuoError]),
        *[(kind, [ServiceError]) for kind in (AuthenticationError, InsufficientBalanceError, RequestRejectedError)],
        *[(kind, [ServiceError]) for kind in (RateLimitedError, ServiceUnavailableError, ProtocolError)],
        *[(kind, [HailuoError]) for kind in (SubmissionUnknownError, TaskFailedError, TaskExpiredError)],
        (WaitTimeoutError, [HailuoError, TimeoutError]),
        *[(kind, [HailuoError]) for kind in (DownloadError, JournalError, QueueFullError)],
        *[(kind, [HailuoError]) for kind in (SpendingLimitError, SessionClosedError)],
        (JobNotFoundError, [HailuoError, LookupError]),
        (UnknownCommandWarning, [UserWarning]),
    ],
)
def test_the_tree_is_as_its_page_draws_it(kind: type[Exception], parents: list[type[Exception]]) -> None:
    assert list(kind.__bases__) == parents
    assert kind.__doc__


def test_an_error_is_made_from_named_facts_alone() -> None:
    with pytest.raises(TypeError):
        TaskFailedError("too dark")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        TaskFailedError()  # type: ignore[call-arg]


def test_an_error_keeps_its_cause_and_notes_when_it_is_raised() -> None:
    def fail() -> None:
        raise DownloadError(reason="cut") from OSError("reset")

    with ThreadPoolExecutor(1) as pool, pytest.raises(DownloadError, match="cut") as caught:
        pool.submit(fail).result()
    assert isinstance(caught.value.__cause__, OSError)
    caught.value.add_note("at the third try")
    assert caught.value.__notes__ == ["at the third try"]


# --- Values in words ------------------------------------------------------------------------------------------------


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "7"),
        ("a", "'a'"),
        ("x" * 1_000_000, "'" + "x" * 79 + "…"),
        (b"x" * 1_000_000, "b'" + "x" * 78 + "…"),
        ("a\nb\x1b", "'a\\nb\\x1b'"),
        (list(range(1000)), repr(list(range(1000)))[:80] + "…"),
        (10**10_000, "<int>"),
        (Hostile(), "<Hostile>"),
    ],
    ids=lambda value: str(type(value)),
)
def test_a_value_is_shown_short_and_in_one_line_whatever_it_is(value: Any, words: str) -> None:
    assert shown(value) == words
    assert str(JobError(field="f", value=value, rule="r")) == f"f {words}: r"
