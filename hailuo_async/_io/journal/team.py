"""The team in the journal: its state, its members, and the line in which they wait.

``team`` has one row: the state as text, and which step of which member wrote it (``TeamRow``). ``member`` has a row for
each session: its lease, and since when the first of its queue waits (``Members``). A step is one transaction, decided
on the state that was read last. If another member was quicker, or came first, it changes nothing, brings the present
state, and is made again. Where reading costs nothing (SQLite, whose transaction has the file to itself) the state is
read in it, and holds.

No step waits for a result before it commits, so on PostgreSQL each takes one round trip, and no lock outlives it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import attrs

from hailuo_async._io.journal import holders, team_sql
from hailuo_async._io.journal.database import NOTICE, Row, Rows
from hailuo_async._io.journal.last_connection import LastConnection
from hailuo_async._io.journal.members import Members
from hailuo_async._io.journal.records import JournalState, Permit
from hailuo_async._io.journal.rows import Changed, Later
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.team_row import TeamRow
from hailuo_async._io.journal.team_values import JobChange, Refreshed, Renewed, Step, StepDone, TeamStatus, Turn
from hailuo_async._rules.line import Moved, Standing, is_passed_over, whom_to_wake
from hailuo_async._rules.team import Grant, MemberStep, exchange

#: A step that others forestall is made again so often. Then its POSTs wait for the next one.
_TRIES = 8


@attrs.define(eq=False)
class TeamTable:
    """One session's part in the team's tables. Lives on the journal's thread."""

    jobs: JobTable
    members: Members = attrs.field(init=False)
    row: TeamRow = attrs.field(init=False)
    _status: TeamStatus = attrs.field(init=False)
    _tried: Step | None = attrs.field(default=None, init=False)
    """The last step that was made."""
    _doubted: Step | None = attrs.field(default=None, init=False)
    """A step that may be on record although its commit failed: its answer may have been lost."""
    _came: set[str] = attrs.field(factory=set, init=False)
    """The notifications that came with a call, for the next refresh."""
    _refreshed_over: LastConnection = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.row, self.members = TeamRow(self.jobs), Members(self.jobs)
        self._refreshed_over = LastConnection(self.jobs.database)
        self._status = TeamStatus(state=None, members=1, first=None)

    # --- Membership ---

    def join(self) -> Refreshed:
        """Makes this session a member. A team without other members begins again."""
        self.jobs.database.notifications()  # what was before is read now
        self.row.clock = holders.boot() if self.jobs.database.IS_LOCAL else "the server's"
        self.members.renew()
        self.jobs.database.listen(self.jobs.holder)
        row = self.row.found(self._select())
        self.jobs.judgement.renewed(row["read_at"])
        status = self.row.with_state(self.read(row))
        if status.members == 1:
            self.row.begin_again()
            self.row.write(None)
            status = self.row.with_state(status, is_all=True)
        elif status.members == 2:
            self.members.wake(self.members.others())  # it has to know that it is alone no more
        return Refreshed(status=status, changes=(), seen=row["seen"], at=self.at(row))

    def renew(self) -> RenewalMade:
        """Renews every lease of this session, and reads how the team stands and what has no session any more."""
        self.jobs.renew_leases()
        self.members.renew()
        return RenewalMade(self, self._select(), self.members.left())

    def leave(self) -> None:
        """Ends the membership. The team no longer counts what this session holds: another takes over its tasks."""
        for _ in range(_TRIES):
            status = self.reread()
            self.row.state.bury(self.jobs.holder, -1.0)
            if self.row.write(None).rowcount == 1:
                self.members.remove(self.jobs.holder)
                break
        else:  # others were quicker too often: they bury this session when its lease has run out
            self.members.stand(None)
        if status.first is not None:
            self.members.wake([status.first.member])  # a place in the line is free, and perhaps a slot

    def close(self) -> None:
        """Leaves the team with all jobs, and closes the journal.

        In one commit: a job that this session still held after leaving would be free only when its lease ends.
        """
        with contextlib.closing(self.jobs.database), self.jobs.transaction():
            self.leave()
            self.jobs.free_all()

    # --- Steps ---

    def prepare(self, step: Step) -> None:
        """Reads the state before the step begins, if it is old: that is cheaper than a try in vain."""
        if step.is_called:
            self._came |= self.jobs.database.notifications()
        if (step.is_called or step.is_stale) and not self.jobs.database.IS_LOCAL:
            self.reread()

    def step(self, step: Step, stood: float | None = None) -> StepTried:
        """Makes ``step``, unless another session was quicker. ``stood`` is its place before an earlier try."""
        if self.row.is_old:
            self.reread()
        status, (grant, turns) = self._status, self._decide(step)
        if turns and step.passed is not None:
            self.members.pass_over(step.passed)
        if step is self._doubted:  # what that try was granted, and this one is not, would stay SENDING for ever
            self.take_back(step, turns)
        self._tried = step
        self._update_followers()
        written = self.row.write(turns[-1].place if turns else None, step.now)
        self._bury(step)
        sent = [self._send(turn) for turn in turns]
        moved = self._stand(step, turns, stood)
        opens_in_s = self.row.state.submit_opens_at(step.now) - step.now
        woken = whom_to_wake(status.first, moved, opens_in_s)
        if woken:
            self.jobs.database.notify_if(team_sql.MADE, woken, {"step": self.row.step_name})
        # As long as no other session has made a step, the line is what it was but for what this step changes. If an
        # earlier try moved this session on, and this one back, ``status`` has it where it stands no longer.
        is_known = status.place == moved[0] == moved[1] and step.passed is None and not step.buried
        seen = status if is_known else self._select()
        return StepTried(self, step, grant, written, sent, seen, moved, opens_in_s, woken)

    def _decide(self, step: Step) -> tuple[Grant, list[Turn]]:
        """Applies ``step`` to the state. Returns what it is granted, and the turns among that."""
        first = self._status.first
        is_first = first is None or is_passed_over(first, step.passed)
        turns = [turn for turn in step.turns if is_first or (first and turn.place <= first.place)]
        stated = MemberStep(
            member=self.jobs.holder,
            now=step.now,
            held=step.held,
            changes=step.changes,
            submits=len(turns),
            queries=step.queries,
            is_query_due=step.is_query_due,
        )
        grant = exchange(self.row.state, stated, self._status.members)
        return grant, turns[: grant.submits]

    # --- Refreshing ---

    def refresh(self, since: int | None) -> Refreshed | None:
        """How the team stands, and which jobs changed, as from ``since`` if that is given.

        ``None`` if certainly nothing has changed since the refresh before. Writes nothing.
        """
        notifications, self._came = self.jobs.database.notifications() | self._came, set()
        if not notifications and self.jobs.database.IS_LOCAL:
            return None
        notices = tuple(each.removeprefix(NOTICE) for each in notifications if each.startswith(NOTICE))
        row = self.row.found(self._select())
        rows = [] if since is None else self.jobs.database.execute(team_sql.CHANGES, {"since": since}).fetchall()
        changes = tuple(
            JobChange(each["identity"], JournalState(each["state"]), each["task_id"], each["holder"] is not None)
            for each in rows
        )
        self.row.is_clock_set = False
        status, is_anew = self.row.with_state(self.read(row)), self._refreshed_over.is_replaced
        self._refreshed_over.update()
        return Refreshed(
            status=status, changes=changes, seen=row["seen"], notices=notices, at=self.at(row), is_anew=is_anew
        )

    def pass_on(self, task_ids: Sequence[str]) -> None:
        """Passes notices, at most ``MOST_PASSED_ON``, to the sessions that work those tasks. Writes nothing."""
        given = dict.fromkeys((f"task_{number}" for number in range(team_sql.MOST_PASSED_ON)), "")
        given |= {f"task_{number}": task_id for number, task_id in enumerate(task_ids)}
        rows = self.jobs.database.execute(team_sql.WORKED_ELSEWHERE, {**given, "us": self.jobs.holder}).fetchall()
        for row in rows:
            self.jobs.database.send_notice(row["holder"], row["task_id"])

    @property
    def needs_refresh(self) -> bool:
        """Whether there are notices that only a refresh passes on, or the clock was set."""
        return self.row.is_clock_set or any(each.startswith(NOTICE) for each in self._came)

    def at(self, row: Row) -> float | None:
        """As in ``Refreshed``."""
        return None if self.jobs.database.IS_LOCAL else float(row["read_at"])

    def _select(self) -> Rows:
        sql = team_sql.STATUS.format(seen=self.jobs.database.SEEN)
        given = {"us": self.jobs.holder, "place": self.members.place, "longest_s": self.jobs.judgement.longest_s}
        return self.jobs.database.execute(sql, given)

    def reread(self) -> TeamStatus:
        """Reads how the team stands, for the next step."""
        return self.read(self.row.found(self._select()))

    def read(self, row: Row) -> TeamStatus:
        """What ``row`` says of the team, for the next step."""
        self.row.read(row)
        first = None if row["first_place"] is None else Standing(row["first_place"], row["first_holder"])
        self.members.read(row["own_place"])
        self._status = TeamStatus(
            state=None,
            members=max(1, row["members"]),
            first=first,
            place=self.members.place,
            ahead=row["ahead"],
            gone=row["gone"],
            lapses_in_s=row["lapses_in_s"],
        )
        return self._status

    # --- What a step writes ---

    def take_back(self, step: Step, but: Sequence[Turn] = ()) -> None:
        """Takes back the POSTs that ``step`` may have been granted, ``but`` some: no caller sends them."""
        for turn in step.turns:
            if turn not in but:
                self.jobs.unsent(turn.identity, turn.sent_at)

    def forget(self) -> None:
        """Has the state read again: a transaction failed, and nothing says whether its writes were made."""
        self.row.forget()
        self._doubted = self._tried
        self.members.forget()

    def _send(self, turn: Turn) -> Changed:
        return self.jobs.sending(turn.identity, turn.sent_at, team_sql.MADE, step=self.row.step_name)

    def _update_followers(self) -> None:
        """Notes which sessions follow jobs of others: each change of a job wakes them, and their beginning to does."""
        before, self.jobs.followers = self.jobs.followers, self.row.state.followers(self.jobs.holder)
        self.members.wake(self.jobs.followers - before)

    def _bury(self, step: Step) -> None:
        """Takes the dead out of the team, if the step is made: the state then no longer counts what they held."""
        for holder in step.buried:
            self.members.remove(holder, team_sql.MADE, step=self.row.step_name)
            self.jobs.count_gone()

    def _stand(self, step: Step, granted: list[Turn], stood: float | None) -> Moved:
        """Takes the place in the line of the first that still waits."""
        left = step.turns[len(granted) :]
        before, place = self.members.place, left[0].place if left else step.place
        self.members.stand(place)
        return before if stood is None else stood, place


@attrs.frozen
class RenewalMade(Later):
    """A renewal whose transaction was made."""

    _table: TeamTable
    _seen: Rows
    _left: Rows

    def outcome(self) -> Renewed:
        """What it has found. One process, drawn at random, is asked about: the members together ask about each.

        It brings the state in any case: a session that missed the last answer, as it had waited long enough for it, has
        a view of its team that may be wrong, and would act on it for ever.
        """
        left, seen = [row["holder"] for row in self._left.fetchall()], self._table.row.found(self._seen)
        has_orphans = "" in left or (bool(left) and holders.is_gone(self._table.row.rng.choice(left)))
        has_orphans = has_orphans or self._table.members.doubts_claims
        self._table.jobs.judgement.renewed(seen["read_at"])
        # A step of the same commit may have been made again since.
        read = self._table.reread() if self._table.row.is_before(seen) else self._table.read(seen)
        status = self._table.row.with_state(read, is_all=True)
        self._table.jobs.forget_gone(status.gone)
        return Renewed(status=status, has_orphans=has_orphans, at=self._table.at(seen))


@attrs.frozen
class StepTried(Later):
    """A step whose transaction was made."""

    _table: TeamTable
    _step: Step
    _grant: Grant
    _written: Rows
    _sent: list[Changed]
    _seen: Rows | TeamStatus
    _moved: Moved
    _opens_in_s: float
    """When one more can be granted."""
    _woken: frozenset[str]
    """The sessions that this step wakes for that."""

    def outcome(self) -> StepDone:
        """What became of the step. It is made again if another session was quicker."""
        tried = self
        for _ in range(_TRIES):
            if tried._written.rowcount == 1:
                return tried._made(tried._grant)
            self._table.reread()
            if self._table.row.is_ahead(self._step.now):
                break
            with self._table.jobs.transaction():
                tried = self._table.step(self._step, self._moved[0])
        return tried._forestalled()

    def _status(self) -> TeamStatus:
        """How the team stands after a step that was made. To be asked once."""
        return self._seen if isinstance(self._seen, TeamStatus) else self._table.read(self._table.row.found(self._seen))

    def _forestalled(self) -> StepDone:
        """The answer if others were quicker too often, or the clock was set back."""
        status = self._table.row.with_state(self._table.reread(), is_all=True)
        with self._table.jobs.transaction():
            self._table.take_back(self._step)  # of a try whose answer was lost
        return StepDone(
            status=status,
            permits=(Permit.LATER,) * len(self._step.turns),
            queries=0,
            query_at=self._step.now + 1.0,
            needs_refresh=self._table.needs_refresh,
            is_made=False,
            is_void=self._table.row.is_ahead(self._step.now),
        )

    def _made(self, grant: Grant) -> StepDone:
        permits = [Permit.GRANTED if made else Permit.TAKEN for made in self._sent]
        later = [Permit.LATER] * (len(self._step.turns) - len(permits))
        status = self._table.row.with_state(self._status(), is_all=bool(later))
        permits += later
        if came := whom_to_wake(status.first, self._moved, self._opens_in_s) - self._woken:
            with self._table.jobs.transaction():  # it came between two refreshes
                self._table.members.wake(came)
        done = StepDone(status=status, permits=tuple(permits), queries=grant.queries, query_at=grant.query_at)
        return attrs.evolve(done, needs_refresh=self._table.needs_refresh)
