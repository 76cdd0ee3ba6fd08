"""Spending limits: how many jobs, and how many dollars, may still be paid for.

A queued job reserves its share of each of its limits: one job, and its highest price. The reservation is given back if
the service certainly did not accept the job. Once the job has ended, it becomes spent money: the service's own amount,
or the highest price if the service names none. A job in doubt, or that the session no longer waits for, may still be
paid for, so its reservation stays. Invariant: ``spent + committed <= max_cost`` whenever a job is let in, so the limit
is passed only if the service bills more than its own price list says.

With a journal, the session's limit begins with the journal's sums (``begin_with``), so a batch that is run again counts
its earlier payments.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

import attrs

from hailuo_async._io.journal.records import JournalState, Record, Spending
from hailuo_async.errors import SpendingLimitError
from hailuo_async.prices import PriceBook

#: Tasks remembered as counted.
MAX_SETTLED = 4096


@attrs.define(eq=False)
class SpendingLimit:
    """At most ``max_jobs`` jobs and ``max_cost`` USD; ``None`` is no limit."""

    max_jobs: int | None = None
    max_cost: Decimal | None = None
    used: int = attrs.field(default=0, init=False)
    spent: Decimal = attrs.field(default=Decimal(0), init=False)
    committed: Decimal = attrs.field(default=Decimal(0), init=False)
    _unfinished: dict[str, Decimal] = attrs.field(factory=dict, init=False)
    """The parts of ``committed`` of jobs that this session does not work on, by their identity in the journal, or by
    their task where there is no journal."""
    settled: dict[str, bool] = attrs.field(factory=dict, init=False)
    """The last tasks that this session has counted in ``spent``, and whether for a job: else one was attached."""

    def begin_with(self, spending: Spending) -> None:
        """Counts the payments of earlier sessions, as the journal has them."""
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
                max_jobs=self.max_jobs, max_cost=self.max_cost, spent=self.spent, committed=self.committed, cost=price
            )

    def has_room(self, price: Decimal) -> bool:
        """Whether ``price`` more stays within ``max_cost``."""
        return self.max_cost is None or self.spent + self.committed + price <= self.max_cost

    def has_no_room_yet(self, price: Decimal, ahead: Collection[Decimal]) -> bool:
        """Whether ``price``, after those ``ahead``, passes a limit now, and need not once all that runs has ended.

        What runs may cost nothing, and what the service refuses does not count as a job.
        """
        if self.max_jobs is not None and self.used + len(ahead) >= self.max_jobs:
            return True
        if self.max_cost is None or self.has_room(price + sum(ahead)):
            return False
        return self.spent + sum(self._unfinished.values(), price) <= self.max_cost

    def commit_unfinished(self, identity: str | None, price: Decimal) -> None:
        """Commits the price of a job that was sent before, unless it was committed all along.

        Less was committed for another job of that name, which its owner has forgotten, and which may be paid for, too.
        """
        kept = self._unfinished.pop(identity or "", None)
        if kept is None or kept < price:
            self.committed += price

    def keep_unfinished(self, name: str | None, price: Decimal) -> None:
        """Keeps the price of a job that may still be paid for, though this session no longer works on it."""
        if name is not None:
            self._unfinished[name] = price

    def take_unfinished(self, name: str) -> Decimal | None:
        """The price that is kept for a job, which this session works on again."""
        return self._unfinished.pop(name, None)

    def resolve(self, record: Record) -> None:
        """Counts as spent what was committed for a doubt: its task has ended, and may be counted already."""
        price = self.take_unfinished(record.identity)
        if price is not None:
            self.committed -= price
            if record.task_id not in self.settled:
                self.spent += record.spent - (record.cost_before or Decimal(0))

    def has_counted(self, task_id: str | None, *, is_sent: bool) -> bool:
        """Whether ``spent`` has a task, for which a job was sent, or which was attached.

        Two jobs whose answers name one task are both paid for: something on the way has repeated an answer.
        """
        was_sent = self.settled.get(task_id or "")
        return was_sent is not None and not (was_sent and is_sent)

    def settle(self, task_id: str, *, is_sent: bool) -> None:
        """Remembers that a task is counted."""
        self.settled[task_id] = is_sent or self.settled.get(task_id, False)
        if len(self.settled) > MAX_SETTLED:
            del self.settled[next(iter(self.settled))]


_MAY_BE_PAID_YET = (JournalState.SENDING, JournalState.ACCEPTED, JournalState.UNKNOWN)


@attrs.frozen(eq=False)
class Money:
    """A session's limit, and the prices that it counts with."""

    limit: SpendingLimit = attrs.field(factory=SpendingLimit)
    prices: PriceBook = attrs.field(factory=PriceBook)


@attrs.define(eq=False)
class Payment:
    """One job's share of its limits. ``price`` is the most that the job costs, ``None`` if unknown."""

    limits: tuple[SpendingLimit, ...] = ()
    price: Decimal | None = None
    _jobs: int = attrs.field(default=0, init=False)
    """How often it counts as a job: once, if this session sends it."""
    _committed: Decimal | None = attrs.field(default=None, init=False)
    """The amount reserved; ``None`` without a reservation."""
    _is_sent: bool = attrs.field(default=False, init=False)
    """Whether some session sent the job: else its task was attached."""

    @property
    def _price(self) -> Decimal:
        return self.price or Decimal(0)

    @property
    def is_reserved(self) -> bool:
        """Whether this session is to send the job, or did."""
        return self._jobs > 0

    def reserve(self) -> None:
        """Reserves the job's share of all limits, or of none. Raises ``SpendingLimitError`` if one has no room left."""
        if self.is_reserved:
            return  # since before another session took it over: its earlier POSTs are in doubt
        self._release()  # what was counted for a session that was sending it, and left it unsent
        is_counted = any(limit.max_jobs is not None for limit in self.limits)
        for limit in self.limits:
            limit.check(self.price, is_counted=is_counted)
        self._jobs, self._committed, self._is_sent = 1, self._price, True
        for limit in self.limits:
            limit.used += 1
            limit.committed += self._committed

    def reserve_again(self) -> bool:
        """Reserves another POST of a job in doubt, as each may be paid for. Returns whether there was room."""
        if self._committed is None:
            return True
        if not all(limit.has_room(self._price) for limit in self.limits):
            return False
        for limit in self.limits:
            limit.committed += self._price
        self._committed += self._price
        return True

    def adopt_task(self, task_id: str) -> None:
        """Counts an attached task that no journal knows; ``settle`` does so once. It has one limit."""
        for limit in self.limits:
            self.price = limit.take_unfinished(task_id)
            self._committed = self._price

    def adopt(self, record: Record) -> None:
        """Counts a job that the journal knows as sent: no limit can stop it any more.

        The first limit is the session's own, which began with the journal's sums.
        """
        if self._committed is not None:
            return  # counted already: another session went on with the job, and its end is to come
        self._is_sent = record.kind is not None
        for limit in self.limits[1:]:
            limit.spent += record.spent
        if record.state in _MAY_BE_PAID_YET:
            self.price = record.price
            for limit in self.limits[:1]:
                limit.commit_unfinished(record.identity, self._price)
            for limit in self.limits[1:]:
                limit.committed += self._price
            self._committed = self._price

    def give_back(self) -> None:
        """Gives back the reservation of a job that was never sent, or certainly refused."""
        if self._committed is None:
            return
        self._release()
        for limit in self.limits:
            limit.used -= self._jobs
        self._jobs = 0

    def settle(self, cost: Decimal | None, task_id: str | None) -> None:
        """Counts a job whose task has ended. ``cost`` is the amount that the service billed, if it named one."""
        if self._committed is None:
            return
        earlier = self._committed - self._price  # POSTs in doubt before the one that was accepted
        self._release()
        for limit in self.limits:
            if not limit.has_counted(task_id, is_sent=self._is_sent):
                limit.spent += self._price if cost is None else cost
            if earlier > 0:
                limit.committed += earlier
        if task_id is not None:
            for limit in self.limits[:1]:
                limit.settle(task_id, is_sent=self._is_sent)

    def keep(self, name: str | None) -> None:
        """Keeps the reservation of a job that may still be paid for. ``name``: its identity, or its task.

        That name is of the last POST alone: what is heard of it later gives back nothing of those in doubt before it.
        """
        if self._committed is not None:
            for limit in self.limits[:1]:
                limit.keep_unfinished(name, min(self._price, self._committed))

    def give_back_last(self) -> None:
        """Gives back the reservation of the last POST, which was not accepted, and keeps those of earlier ones."""
        if self._committed is None:
            return
        for limit in self.limits:
            limit.committed -= self._price
        self._committed -= self._price

    def _release(self) -> None:
        if self._committed is not None:
            for limit in self.limits:
                limit.committed -= self._committed
            self._committed = None
