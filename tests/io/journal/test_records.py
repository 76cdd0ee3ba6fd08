"""What becomes of an error on its way to disk and back."""

from __future__ import annotations

import pytest

from hailuo_async._io.journal.records import COLUMNS, error_from, error_text, record_from
from hailuo_async.errors import (
    HailuoError,
    JobError,
    JournalError,
    RateLimitedError,
    SubmissionUnknownError,
    TaskFailedError,
)


@pytest.mark.parametrize(
    "error",
    [
        RateLimitedError(message="slow", status=429, retry_after_s=2.5),
        SubmissionUnknownError(reason="cut", key="cat", sent_at=999.0, task_id=None),
        JobError(field="prompt", value=None, rule="is text"),
        TaskFailedError(reason="dark", task_id="t1"),
    ],
)
def test_an_error_comes_back_as_what_it_was(error: HailuoError) -> None:
    back = error_from(error_text(error), "batch.db")
    assert (type(back), vars(back)) == (type(error), vars(error))


def test_a_fact_that_is_no_plain_value_or_too_long_is_shortened() -> None:
    for value in (b"\x89PNG", "data:" + "A" * 5000):
        text = error_text(JobError(field="image", value=value, rule="is small"))
        assert len(text) < 250
        assert isinstance(error_from(text, "batch.db"), JobError)


@pytest.mark.parametrize("text", ['{"error": "NoSuchError", "task_id": "t1"}', '{"error": "TaskFailedError"}'])
def test_an_error_of_another_version_is_told_as_it_stands(text: str) -> None:
    error = error_from(text, "batch.db")
    assert isinstance(error, JournalError)
    assert "holds an error that this version does not know" in str(error)


@pytest.mark.parametrize("column", ["state", "facts", "video", "error"])
def test_a_row_that_is_damaged_is_a_journal_error_that_names_the_job(column: str) -> None:
    row = dict.fromkeys((*COLUMNS, "urls")) | {"identity": "cat", "state": "success", "facts": "{}", column: "{dam"}
    with pytest.raises(JournalError, match="job 'cat' is damaged in it: restore it from a copy"):
        record_from(row, "batch.db")
