"""What a stream asks about an item before it is a job of the session."""

from __future__ import annotations

import pytest

from hailuo_async import ImageToVideo, JobError
from hailuo_async._engine.admission import Terms
from hailuo_async._engine.intake import Intake

from ..support.service import Line, job, picture


@pytest.mark.parametrize(
    ("item", "always_waits", "waits"),
    [(job(), False, False), (job(), True, True), (ImageToVideo(picture()), False, True), ("no job", False, True)],
)
async def test_only_a_job_of_urls_is_taken_without_waiting(item: object, always_waits: bool, waits: bool) -> None:
    async with Line().session() as session:
        admission = session._running_engine().admission
        assert Intake(admission, Terms(), always_waits).waits(item) is waits


async def test_what_is_no_job_is_not_taken() -> None:
    async with Line().session() as session:
        with pytest.raises(JobError, match="must be an ImageToVideo"):
            await Intake(session._running_engine().admission, Terms(), False).take("no job", None)
