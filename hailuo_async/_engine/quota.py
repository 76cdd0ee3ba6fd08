"""How much may still be paid for: jobs, and dollars.

A job that is queued reserves its place in each of its quotas: one job, and its highest price. What it reserved it gives
back if it certainly was not accepted, and turns into what was spent once it has ended: the service's own amount, or the
highest price where the service says nothing. A job in doubt, and one that nobody here waits for any longer, may yet be
paid for, so what it reserved stays. Invariant: ``spent + committed <= max_cost`` whenever a job is let in, so the limit
is passed only if the service bills more than its own price list says.

With a journal the session's quota begins with what the journal knows (``begin_with``), so a batch that is run again
counts what it paid before.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from hailuo_async._io.journal.records import JournalState, Record, Spending
from hailuo_async.errors import SpendingLimitError
from hailuo_async.outcomes import Status
from hailuo_async.prices import PriceBook


@attrs.define(eq=False)
class Quota:
    """At most ``max_jobs`` jobs and ``max_cost`` USD; ``None`` is no limit."""

    max_jobs: int | None = None
    max_cost: Decimal | None = None
    used: int = attrs.field(default=0, init=False)
    spent: Decimal = attrs.field(default=Decimal(0), init=False)
    committed: Decimal = attrs.field(default=Decimal(0), init=False)
    _unfinished: dict[str, Decimal] = attrs.field(factory=dict, init=False)
    """What ``committed`` holds for jobs that are not at work here, by their identity in the journal."""

    def begin_with(self, spending: Spending) -> None:
        """What the journal knows of earlier sessions counts here."""
        self.spent += spending.spent
        self.committed += sum(spending.unfinished.values(), Decimal(0))
        self._unfinished |= spending.unfinished

    def check(self, price: Decimal | None, *, is_counted: bool) -> None:
        """Raises ``SpendingLimitError`` if a job of that price would pass the limit.

        ``is_counted``: the number of jobs is limited, so that one without a price may pass.
        """
        if self.max_jobs is not None and self.used >= self.max_jobs:
            raise SpendingLimitError(max_jobs=self.max_jobs)
        if self.max_cost is None or (price is None and is_counted):
            return
        if price is None or not self.has_room(price):
            raise SpendingLimitError(
                max_jobs=self.max_jobs,
                max_cost=self.max_cost,
                spent=self.spent,
                committed=self.committed,
                cost=price,
            )

    def has_room(self, price: Decimal) -> bool:
        """Whether so much more stays within ``max_cost``."""
        return self.max_cost is None or self.spent + self.committed + price <= self.max_cost

    def take_up(self, identity: str | None, price: Decimal) -> None:
        """A job that was sent before is waited for here: it is committed, unless it was all along."""
        if self._unfinished.pop(identity or "", None) is None:
            self.committed += price

    def leave(self, identity: str | None, price: Decimal) -> None:
        """A job that may yet be paid for is at work here no longer."""
        if identity is not None:
            self._unfinished[identity] = price


_MAY_BE_PAID_YET = (JournalState.SENDING, JournalState.ACCEPTED, JournalState.UNKNOWN)


@attrs.frozen(eq=False)
class Money:
    """What a session may pay for, and the prices that it goes by."""

    quota: Quota = attrs.field(factory=Quota)
    prices: PriceBook = attrs.field(factory=PriceBook)


@attrs.define(eq=False)
class Payment:
    """What one job takes from its quotas. ``price`` is what it costs at most, ``None`` if that is not known."""

    quotas: tuple[Quota, ...] = ()
    price: Decimal | None = None
    _jobs: int = attrs.field(default=0, init=False)
    """How often it counts as a job: once, if it was sent from here."""
    _committed: Decimal | None = attrs.field(default=None, init=False)
    """What it has reserved; ``None`` while that is nothing."""

    @property
    def _price(self) -> Decimal:
        return self.price or Decimal(0)

    @property
    def is_reserved(self) -> bool:
        """Whether it is to be sent from here, or was."""
        return self._jobs > 0

    def reserve(self) -> None:
        """Its place in each quota, or in none. Raises ``SpendingLimitError`` if one has no room left."""
        self._check()
        for quota in self.quotas:
            quota.used += 1
            quota.committed += self._price
        self._jobs, self._committed = 1, self._price

    def reserve_again(self) -> bool:
        """Room for another POST of a job in doubt, of which each may be paid for: whether there is any."""
        if self._committed is None:
            return True
        if not all(quota.has_room(self._price) for quota in self.quotas):
            return False
        for quota in self.quotas:
            quota.committed += self._price
        self._committed += self._price
        return True

    def adopt(self, record: Record | None) -> None:
        """A job that the journal knows as sent, or a task that was attached to: no limit can change that.

        The session's own quota comes first, and has counted the journal's from its beginning.
        """
        if self._committed is not None:
            return  # meanwhile another session went on with it: its end is to come
        for quota in self.quotas[1:]:
            quota.spent += Decimal(0) if record is None else record.spent
        if record is None or record.state in _MAY_BE_PAID_YET:
            self.price = None if record is None else record.price
            for quota in self.quotas[:1]:
                quota.take_up(None if record is None else record.identity, self._price)
            for quota in self.quotas[1:]:
                quota.committed += self._price
            self._committed = self._price

    def give_back(self) -> None:
        """It was never sent, or certainly refused."""
        self._release()
        for quota in self.quotas:
            quota.used -= self._jobs
        self._jobs = 0

    def end(self, status: Status, identity: str | None, cost: Decimal | None, *, has_task: bool) -> None:
        """The job has ended. ``cost`` is what the service says that it cost."""
        if self._committed is None:
            return
        if status in (Status.SUCCESS, Status.FAILED):
            self._settle(cost)
        elif status is Status.UNKNOWN or has_task:
            for quota in self.quotas[:1]:
                quota.leave(identity, self._committed)
        else:
            self.give_back()

    def _settle(self, cost: Decimal | None) -> None:
        earlier = (self._committed or Decimal(0)) - self._price  # POSTs in doubt before the one that was accepted
        self._release()
        for quota in self.quotas:
            quota.spent += self._price if cost is None else cost
            quota.committed += earlier

    def _release(self) -> None:
        for quota in self.quotas:
            quota.committed -= self._committed or Decimal(0)
        self._committed = None

    def _check(self) -> None:
        is_counted = any(quota.max_jobs is not None for quota in self.quotas)
        for quota in self.quotas:
            quota.check(self.price, is_counted=is_counted)
