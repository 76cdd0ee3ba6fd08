"""What a stream may still spend, with what runs and what is taken before."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hailuo_async import estimate
from hailuo_async._engine.funds import Funds
from hailuo_async._engine.spending_limit import SpendingLimit
from hailuo_async._io.journal.records import JournalState, Record
from hailuo_async.prices import PriceBook

from ..support.service import Line, job
from ..support.tables import record_in

PRICE = estimate(job()).high or Decimal(0)


@pytest.mark.parametrize(("running", "ahead", "is_short"), [(0, 0, False), (1, 0, True), (0, 2, True), (0, 1, False)])
def test_funds_are_short_while_running_jobs_and_those_ahead_hold_the_money(
    running: int, ahead: int, is_short: bool
) -> None:
    limit = SpendingLimit(max_cost=2 * PRICE)
    limit.committed = running * 2 * PRICE
    funds = Funds((limit,), PriceBook(), None)
    assert funds.are_short(funds.price(job()), [PRICE] * ahead) is is_short
    assert not funds.are_short(funds.price("no job"), [])


def test_without_a_limit_there_is_nothing_to_ask() -> None:
    assert Funds.of((SpendingLimit(), SpendingLimit()), PriceBook(), None) is None
    assert Funds.of((SpendingLimit(), SpendingLimit(max_jobs=3)), PriceBook(), None) is not None
    assert Funds.of((SpendingLimit(), SpendingLimit(max_cost=PRICE)), PriceBook(), None) is not None


@pytest.mark.parametrize("state", JournalState)
async def test_only_a_job_that_was_never_sent_or_was_refused_needs_money(state: JournalState) -> None:
    async def ask(verb: object, key: str) -> Record:
        return record_in(state)

    journal: Any = SimpleNamespace(ask=ask, jobs=SimpleNamespace(find=None))
    needs_money = not await Funds((), PriceBook(), journal).knows_as_sent(job(key="cat"))
    assert needs_money is (state in (JournalState.INTENDED, JournalState.REFUSED))


async def test_a_job_counts_as_sent_by_its_key_in_the_journal(tmp_path: Path) -> None:
    async with Line().session(journal=tmp_path / "batch.db") as session:
        await session.generate(job(key="sent"))
        engine = session._running_engine()
        funds = Funds((), engine.admission.money.prices, engine.journal_or_raise())
        assert [await funds.knows_as_sent(item) for item in (job(key="sent"), job(key="new"), job(), "no job")] == [
            True,
            False,
            False,
            False,
        ]
    assert not await Funds((), PriceBook(), None).knows_as_sent(job(key="sent"))
