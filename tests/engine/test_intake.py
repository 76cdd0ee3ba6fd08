"""What a stream asks about an item before it is a job of the session."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hailuo_async import ImageToVideo, JobError, estimate
from hailuo_async._engine.admission import Terms
from hailuo_async._engine.intake import Intake
from hailuo_async._engine.spending_limit import SpendingLimit

from ..support.service import Line, job, picture

PRICE = estimate(job()).high or Decimal(0)


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


@pytest.mark.parametrize(("running", "ahead", "lacks"), [(0, 0, False), (1, 0, True), (0, 2, True), (0, 1, False)])
async def test_an_item_waits_while_running_jobs_and_those_ahead_hold_the_money_for_it(
    running: int, ahead: int, lacks: bool
) -> None:
    limit = SpendingLimit(max_cost=2 * PRICE)
    limit.committed = running * 2 * PRICE
    async with Line().session() as session:
        intake = Intake(session._running_engine().admission, Terms(limits=(limit,)), False)
        assert intake.has_max_cost
        assert intake.lacks_money(job(), [job()] * ahead) is lacks
        assert not intake.lacks_money("no job", [])
