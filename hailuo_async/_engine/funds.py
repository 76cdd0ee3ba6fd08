"""What a stream may still spend: before it takes a job that its limits do not admit yet, it waits for what runs."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from hailuo_async._engine.spending_limit import SpendingLimit
from hailuo_async._io.journal.records import JournalState
from hailuo_async.jobs import is_job
from hailuo_async.prices import PriceBook

if TYPE_CHECKING:
    from hailuo_async._io.journal.writer import JournalWriter

#: Jobs in these states are sent when they are given again, if the limits admit them. No limit stops the others.
_UNPAID = (JournalState.INTENDED, JournalState.REFUSED)


@attrs.frozen(eq=False)
class Funds:
    """The spending limits of a stream, the prices of its jobs, and the journal that says which are sent already."""

    _limits: tuple[SpendingLimit, ...]
    _prices: PriceBook
    _journal: JournalWriter | None

    @classmethod
    def of(cls, limits: tuple[SpendingLimit, ...], prices: PriceBook, journal: JournalWriter | None) -> Funds | None:
        """The funds of a stream; ``None`` if nothing limits it."""
        limits = tuple(limit for limit in limits if (limit.max_jobs, limit.max_cost) != (None, None))
        return cls(limits, prices, journal) if limits else None

    def price(self, item: object) -> Decimal:
        """The most that a job costs; 0 if that is unknown, or the item is no job."""
        return (self._prices.estimate(item).high if is_job(item) else None) or Decimal(0)

    def are_short(self, price: Decimal, ahead: Collection[Decimal]) -> bool:
        """Whether ``price``, after those ``ahead``, passes a limit now, and need not when running jobs have ended."""
        return any(limit.has_no_room_yet(price, ahead) for limit in self._limits)

    async def knows_as_sent(self, item: object) -> bool:
        """Whether the journal knows the item, by its key, as sent: it costs nothing more. Raises ``JournalError``."""
        key = item.key if is_job(item) else None
        if self._journal is None or key is None:
            return False
        record = await self._journal.ask(self._journal.jobs.find, key)
        return record is not None and record.state not in _UNPAID
