"""What a life is held against: which tasks the service has accepted, whether their sessions heard of it, and who knows.

A job may be paid for again only if each task that was accepted for it before was *given up*: its owner has decided on
the job since, or the answer was lost to a session with ``on_unknown="resubmit"``. A job is lost if its last task is
neither given up, nor on record, nor told to a caller, nor in doubt for a reason, and does not wait to be sent again by
that setting.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from hailuo_async import HailuoError, TaskExpiredError, TaskFailedError, Video
from hailuo_async.emulator import Service
from hailuo_async.emulator.films import PlainFilm
from hailuo_async.money import from_nanos


@attrs.define(eq=False)
class Payer:
    """A session that makes POSTs."""

    name: str
    resubmits: bool = False
    """``on_unknown="resubmit"``."""
    is_struck: bool = False
    """Whether its process was stopped or killed: others may have taken over what it was to send again."""
    max_cost: Decimal | None = None
    max_jobs: int | None = None
    jobs: set[str] = attrs.field(factory=set)
    """The prompts of those jobs that were accepted from it."""
    spent_before: Decimal = Decimal(0)
    """What its journal had spent as it opened."""
    doubts: int = 0
    """Its POSTs whose answers could not be read: their prices stay reserved."""
    paid: Decimal = Decimal(0)
    """The cost of all that was accepted from it, as the service counts it."""


@attrs.define(eq=False)
class Post:
    """A POST under way, and for which prompt, once it has arrived."""

    session: Payer
    prompt: str | None = None
    began_at: float = 0.0


@attrs.define(eq=False)
class Books:
    """Keeps account of one life. ``problems`` are the promises that were broken, in words."""

    service: Service
    problems: list[str] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter)
    keyless: dict[str, str] = attrs.field(factory=dict)
    """The prompts of the jobs without a key in a journal, by their fingerprints: one may be made more than once."""
    told: set[str] = attrs.field(factory=set)
    """Tasks that a caller or a hook has heard of."""
    videos: list[Video] = attrs.field(factory=list, init=False)
    """Those that callers have got."""
    promised: set[str] = attrs.field(factory=set)
    """Keys of jobs that have to be made: a session that keeps jobs has taken them, and none was withdrawn or refused.

    Refused is also a job for which the service could not be reached for five minutes.
    """
    withdrawn: set[str] = attrs.field(factory=set)
    given_up: set[str] = attrs.field(factory=set)
    _forgotten: set[str] = attrs.field(factory=set)
    """Of those, the tasks of jobs that were taken out of the journal."""
    _decisions: Counter[str] = attrs.field(factory=Counter, init=False)
    unheard: dict[str, Payer] = attrs.field(factory=dict)
    """Tasks whose acceptance has not been heard by the session that made the POST."""
    _left_at: dict[str, float] = attrs.field(factory=dict)
    """Since when no caller wants a job, where each is asked for once."""
    _limits: list[tuple[list[str], int | None, Decimal | None]] = attrs.field(factory=list)
    """The jobs of each stream there, and how many of them, and for how much, may be paid for."""
    is_database_troubled: bool = False
    """Whether the journal's server had an outage: a doubt may be left behind by it."""
    _reasons: defaultdict[str, int] = attrs.field(factory=lambda: defaultdict(int))
    """How many POSTs for each prompt ended without an answer that could be read."""

    # --- POSTs ---

    def arrived(self, prompt: str, task_id: str | None, post: Post) -> None:
        """Notes that a POST for ``prompt`` has reached the service, and as which task it was accepted."""
        post.prompt = prompt
        if post.began_at > self._left_at.get(prompt, math.inf):
            self.problems.append(f"SENT FOR NO CALLER: {prompt}, {post.began_at - self._left_at[prompt]} s later")
        if task_id is None:
            return
        earlier = [task for task in self.service.ledger.accepted[prompt] if task != task_id]
        self.unheard[task_id] = post.session
        self._count(prompt, task_id, post.session)
        for task in set(earlier) - self.given_up if prompt not in self.keyless.values() else ():
            if not self._is_sent_again(task, post.session):
                self.problems.append(f"PAID TWICE: {prompt}, as {task} and then {task_id} by {post.session.name}")
            self.given_up.add(task)

    def _is_sent_again(self, task_id: str, by: Payer | None) -> bool:
        """Whether that task was not heard of, and its job is sent again by ``on_unknown="resubmit"``.

        That does its own session, or another one if that has gone without a word. One that closes leaves a doubt.
        """
        lost_to = self.unheard.get(task_id)
        if lost_to is None or not lost_to.resubmits:
            return False
        return by is lost_to or lost_to.is_struck or self.is_database_troubled

    def _count(self, prompt: str, task_id: str, by: Payer) -> None:
        by.jobs.add(prompt)
        if by.max_jobs is not None and len(by.jobs) > by.max_jobs:
            self.problems.append(f"TOO MANY JOBS: {by.name} may send {by.max_jobs}, it sent {by.jobs}")
        by.paid += self.service.ledger.costs[task_id]
        if by.max_cost is not None and by.spent_before + by.paid > by.max_cost:
            words = f"{by.name} may spend {by.max_cost}, {by.spent_before} stood in its journal, it paid {by.paid}"
            self.problems.append(f"OVER BUDGET: {words}, for {prompt} last")

    def answered(self, post: Post, task_id: str | None) -> None:
        """Notes what the session heard: the task, or nothing that could be read, or a refusal."""
        if task_id is not None:
            self.unheard.pop(task_id, None)
        elif post.prompt is not None:
            self._reasons[post.prompt] += 1
            post.session.doubts += 1

    def decide(self, prompt: str, *, forget: bool) -> Callable[[], None]:
        """Its owner gives up all tasks that were accepted for a job until now. Returns what takes that back."""
        tasks = {*self.service.ledger.accepted.get(prompt, ())}
        given_up, forgotten = tasks - self.given_up, tasks - self._forgotten if forget else set[str]()
        self.given_up |= given_up
        self._forgotten |= forgotten
        self._decisions[prompt] += 1
        number = self._decisions[prompt]

        def take_back() -> None:
            if self._decisions[prompt] == number:  # else there was another decision meanwhile
                self.given_up -= given_up
                self._forgotten -= forgotten

        return take_back

    def left(self, prompts: Iterable[str], at: float) -> None:
        """Notes that the only callers of jobs have left, or got their ends: no POST for them may begin."""
        for prompt in prompts:
            self._left_at.setdefault(prompt, at)

    def limit(self, prompts: Iterable[str], max_jobs: int | None, max_cost: str | None) -> None:
        """Notes what may be paid for the jobs of a stream, which no other caller asks for."""
        self._limits.append(([*prompts], max_jobs, None if max_cost is None else Decimal(max_cost)))

    # --- What callers hear ---

    def heard(self, prompt: str | None, video: Video) -> None:
        """A caller has got a video."""
        self.told.add(video.task_id)
        self.counts["videos"] += 1
        self.videos.append(video)
        if prompt is not None and video.task_id not in self.service.ledger.accepted.get(prompt, ()):
            self.problems.append(f"WRONG VIDEO: {prompt} got that of {video.task_id}")
        if self.ending(video.task_id) != "success":
            self.problems.append(f"WRONG VIDEO: {video.task_id} has ended as {self.ending(video.task_id)}")
        billed = self.service.ledger.costs.get(video.task_id)
        if video.cost not in (None, billed) and not self.counts["strange bills"]:
            self.problems.append(f"WRONG COST: {video.task_id} cost {billed}, a caller got {video.cost}")

    def saved(self, path: Path, task_id: str) -> None:
        """A caller has got a video that was saved."""
        self.counts["saved"] += 1
        film = PlainFilm(task_id, self.service.video_size)
        if path.read_bytes() != film.read(0, film.size):
            self.problems.append(f"WRONG FILE: {path} is not the video of {task_id}")

    def failed(self, error: HailuoError) -> None:
        """A caller has got an error."""
        self.counts[type(error).__name__] += 1
        if error.task_id is not None:
            self.told.add(error.task_id)
            ending = self.ending(error.task_id)
            if isinstance(error, TaskFailedError | TaskExpiredError) and ending == "success":
                self.problems.append(f"WRONG END: {error.task_id} has succeeded, and a caller got {error!r}")
            if isinstance(error, TaskExpiredError) and ending is not None:
                self.problems.append(f"WRONG END: {error.task_id} is known, and a caller got {error!r}")

    def ending(self, task_id: str) -> str | None:
        """How a task ends, by the service's own books."""
        task = self.service._tasks.find(task_id)
        return None if task is None else task.ending

    # --- The end ---

    @property
    def digest(self) -> str:
        """Of all requests that have reached the service: another life of the same seed has the same."""
        return hashlib.sha256(repr(self.service.ledger.entries).encode()).hexdigest()

    def close(
        self, rows: Mapping[str, Mapping[str, Any]] | None, spent: Decimal, spent_on_removed: Decimal = Decimal(0)
    ) -> None:
        """Compares the service's ledger with the journal's ``rows``, by identity; ``None`` if there is no journal.

        ``spent``: what the journal says that all its jobs have cost, ``spent_on_removed`` that of those which it has
        no row of any more, as their owner has forgotten them, or their caller took them back.
        """
        accepted = self.service.ledger.accepted
        for prompt, tasks in accepted.items():
            self.counts["paid"] += len(tasks)
            if rows is not None and prompt in self.keyless.values():
                self.problems += self._check_keyless(prompt, tasks, rows)
            elif (last := tasks[-1]) not in self.given_up and not self._is_known(prompt or "", last, rows):
                heard = f"not heard by {self.unheard[last]}" if last in self.unheard else "heard"
                self.problems.append(f"LOST: {prompt}, task {last}, {heard}; the journal has {_row(rows, prompt)}")
        self.problems += self._check_limits()
        if rows is not None:
            self.problems += self._check_rows(rows)
            self.problems += self._check_sum(rows, spent)
            self.problems += self._check_costs(rows, spent_on_removed)

    def _is_known(self, prompt: str, task_id: str, rows: Mapping[str, Mapping[str, Any]] | None) -> bool:
        if rows is None:
            return task_id in self.told or task_id in self.unheard
        if any(row["task_id"] == task_id for row in rows.values()):
            return True
        row = rows.get(prompt)
        if row is None or row["state"] == "unknown":
            return row is not None
        # It waits to be sent again: its price is in ``cost_before`` then, as ``_check_costs`` sees.
        return row["state"] == "intended" and row["cost_before"] is not None and self._is_sent_again(task_id, None)

    def _check_keyless(
        self, prompt: str | None, tasks: list[str], rows: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[str]:
        """Each task is a job's own, or in doubt, or its job was sent again by ``on_unknown="resubmit"``."""
        own = [row for name, row in rows.items() if self._prompt_of(name) == prompt]
        others = {*tasks} - {row["task_id"] for row in own}
        others -= {task for task, payer in self.unheard.items() if payer.resubmits}
        if len(others) > len([row for row in own if row["state"] == "unknown"]):
            yield f"PAID TWICE, OR LOST: {others} of {prompt}; the journal has {[dict(row) for row in own]}"

    def _prompt_of(self, identity: str) -> str:
        return self.keyless.get(identity.partition("#")[0], identity)

    def _check_limits(self) -> Iterator[str]:
        accepted, costs = self.service.ledger.accepted, self.service.ledger.costs
        for prompts, max_jobs, max_cost in self._limits:
            paid = [prompt for prompt in prompts if prompt in accepted]
            cost = sum((costs[task] for prompt in paid for task in accepted[prompt]), Decimal(0))
            if len(paid) > (max_jobs or math.inf) or cost > (max_cost or math.inf):
                yield f"OVER LIMIT: of {max_jobs} jobs and {max_cost} USD a stream paid for {paid}, {cost} USD"

    def _check_rows(self, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        # A task that was attached before its own submit was answered has a row of its own beside its job's.
        times = Counter(row["task_id"] for name, row in rows.items() if name != f"task:{row['task_id']}")
        yield from (f"OF TWO JOBS: {task_id}" for task_id in times if task_id is not None and times[task_id] > 1)
        for identity, row in rows.items():
            state, task_id, prompt = row["state"], row["task_id"], self._prompt_of(identity)
            if state in ("sending", "accepted"):
                yield f"NO END: the journal has {dict(row)}"
            elif state in ("success", "failed"):
                ending = self.ending(task_id)
                if (ending == "success") is not (state == "success"):
                    yield f"WRONG END: {task_id} has ended as {ending}, the journal has {state}: {row['error']}"
            elif state == "unknown" and not self._is_doubt_due(prompt):
                yield f"DOUBT WITHOUT A REASON: {identity}, {row['error']}"
            if state == "intended" and identity in self.promised - self.withdrawn:
                yield f"NOT MADE: {identity} was taken by a session that keeps jobs"

    def _is_doubt_due(self, prompt: str) -> bool:
        tasks = self.service.ledger.accepted.get(prompt, [])
        if self._reasons[prompt] or self.is_database_troubled or any(task in self.unheard for task in tasks):
            return True
        return self.counts["killed"] + self.counts["stopped"] + self.counts["hurried"] > 0

    @property
    def _is_certain(self) -> bool:
        """Whether nothing has happened that leaves a sum uncertain."""
        troubles = [self.counts[name] for name in ("killed", "stopped", "hurried", "strange bills")]
        return not any([self._reasons, self.unheard, self.given_up, self.is_database_troubled, *troubles])

    def _check_sum(self, rows: Mapping[str, Mapping[str, Any]], spent: Decimal) -> Iterator[str]:
        """All that was accepted is in the journal's sum, at its cost or its highest price, or it is in doubt."""
        nanos = [row["price"] or 0 for row in rows.values() if row["state"] == "unknown"]
        in_doubt = from_nanos(sum(nanos)) or Decimal(0)
        paid = self.service.ledger.spent
        if spent + in_doubt < paid:
            yield f"WRONG SUM: {paid} USD were paid; the journal has {spent}, and {in_doubt} in doubt"
        elif self._is_certain and not in_doubt and spent != paid:
            yield f"WRONG SUM: {paid} USD were paid; the journal has {spent}, and nothing is in doubt"

    def _check_costs(self, rows: Mapping[str, Mapping[str, Any]], spent_on_removed: Decimal) -> Iterator[str]:
        """A job's cost is its task's. Its earlier tasks are in ``cost_before``, at their cost or a higher price.

        Or they are in ``spent_on_removed``: a job that its caller took back may have been given again.
        """
        costs = self.service.ledger.costs
        known = {row["task_id"] for row in rows.values()} | self._forgotten
        spare = max(Decimal(0), spent_on_removed - sum((costs[task] for task in self._forgotten), Decimal(0)))
        for identity, row in rows.items():
            cost, billed = from_nanos(row["cost"]), costs.get(row["task_id"])
            if None not in (cost, billed) and cost != billed and not self.counts["strange bills"]:
                yield f"WRONG COST: {row['task_id']} cost {billed}, the journal has {cost}"
            tasks = self.service.ledger.accepted.get(identity, [])
            earlier = sum((costs[task] for task in tasks if task not in known), Decimal(0))
            before = (row["cost_before"] or 0) + ((row["price"] or 0) if row["state"] == "unknown" else 0)
            spare -= max(Decimal(0), earlier - (from_nanos(before) or Decimal(0)))
            if spare < 0:
                yield f"WRONG COST: {earlier} were paid before for {identity}, the journal has {dict(row)}"
                spare = Decimal(0)


def _row(rows: Mapping[str, Mapping[str, Any]] | None, prompt: str | None) -> object:
    return None if rows is None else rows.get(prompt or "")


@attrs.define(eq=False)
class Listener(logging.Handler):
    """Takes what the library logs as its own fault for a problem."""

    books: Books

    def __attrs_pre_init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Notes a bug, and what was logged about notes that are lost."""
        message = record.getMessage()
        if message.endswith("please report this") or record.name == "asyncio":
            error = record.exc_info[1] if record.exc_info else None
            self.books.problems.append(f"BUG: {message} {error!r}")
