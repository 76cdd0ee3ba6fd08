"""What comes back: values that can be kept, compared and pickled, and that show no signature."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest

from hailuo_async import Account, Failure, ImageToVideo, Resource, Stats, Status, Success, TaskFailedError, Video
from hailuo_async.errors import without_query

SIGNED = "https://results.example.com/x.mp4?sig=0123456789abcdef"


def resource(url: str = SIGNED, kind: str | None = "video") -> Resource:
    return Resource(url, kind, 1366, 768, "mp4", "primary")


def video(*resources: Resource) -> Video:
    return Video(
        task_id="task-abc123",
        model="model-123",
        resources=resources or (resource(),),
        seconds_taken=93.5,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=datetime(2026, 1, 2, tzinfo=UTC),
        raw={"result": {"resources": [{"url": SIGNED}]}},
    )


JOB = ImageToVideo("https://example.com/start-frame.jpg")
STATS = Stats(
    queued=1,
    running=2,
    limit=3,
    requests_left=None,
    refusals=4,
    succeeded=5,
    failed=6,
    refused=7,
    unknown=8,
    abandoned=9,
)
VALUES = [
    resource(),
    video(),
    Success(JOB, "mine", 3, video()),
    Account(is_valid=True, balance=Decimal("12.5")),
    Account(is_valid=False, balance=None),
    STATS,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_an_outcome_can_be_copied_pickled_and_kept_in_a_set(value: object, duplicate: Callable[[Any], Any]) -> None:
    twin = duplicate(value)
    assert twin == value
    assert len({twin, value}) == 1


@pytest.mark.parametrize("duplicate", [copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_failure_keeps_its_error_with_all_its_facts(duplicate: Callable[[Failure], Failure]) -> None:
    failure = duplicate(Failure(JOB, "mine", 3, TaskFailedError(reason="dark", task_id="task-abc123")))
    assert (failure.job, failure.key, failure.index) == (JOB, "mine", 3)
    assert isinstance(failure.error, TaskFailedError)
    assert (failure.error.reason, failure.error.task_id) == ("dark", "task-abc123")


def test_a_video_keeps_the_answer_as_it_came_through_a_pickle() -> None:
    assert pickle.loads(pickle.dumps(video())).raw == video().raw


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_an_outcome_cannot_be_changed(value: Any) -> None:
    field = attrs.fields(type(value))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, field, None)


@pytest.mark.parametrize(
    "value", [resource(), video(), Success(JOB, None, 0, video())], ids=lambda value: type(value).__name__
)
def test_a_repr_shows_where_a_video_lies_and_hides_its_signature(value: object) -> None:
    assert "https://results.example.com/x.mp4?…" in repr(value)
    assert "0123456789abcdef" not in repr(value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (SIGNED, "https://results.example.com/x.mp4?…"),
        ("https://a/b", "https://a/b"),
        ("https://a/b?", "https://a/b?…"),
    ],
)
def test_a_url_is_shown_without_its_query(url: str, shown: str) -> None:
    assert without_query(url) == shown


def test_the_url_is_that_of_the_first_video() -> None:
    cover, first, second = resource("https://a/cover", "image"), resource("https://a/1"), resource("https://a/2")
    assert video(cover, first, second).url == "https://a/1"


def test_without_types_the_url_is_that_of_the_first_resource() -> None:
    assert video(resource("https://a/1", None), resource("https://a/2", "image")).url == "https://a/1"


def test_a_status_is_its_own_word() -> None:
    assert [str(status) for status in Status] == [
        "queued",
        "sending",
        "pending",
        "processing",
        "success",
        "failed",
        "refused",
        "unknown",
        "abandoned",
    ]


def test_a_status_is_final_when_nothing_follows_it() -> None:
    moving = [status for status in Status if not status.is_final]
    assert moving == [Status.QUEUED, Status.SENDING, Status.PENDING, Status.PROCESSING]


def test_stats_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Stats(0, 0, 0, None, 0, 0, 0, 0, 0, 0)  # type: ignore[call-arg]
