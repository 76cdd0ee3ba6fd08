"""The sessions of a team in the journal: each has a row with its lease, and since when the first of its queue waits."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from hailuo_async._io.journal import holders, team_sql
from hailuo_async._io.journal.database import Rows
from hailuo_async._io.journal.last_connection import LastConnection
from hailuo_async._io.journal.records import Record
from hailuo_async._io.journal.rows import IS_OVER, LAPSED
from hailuo_async._io.journal.table import JobTable
from hailuo_async._rules.line import Standing


@attrs.define(eq=False)
class Members:
    """The members of a team, as one of them works with their rows. Lives on the journal's thread."""

    jobs: JobTable
    place: float | None = attrs.field(default=None, init=False)
    """Where this session stands in the line, as its row says."""
    _is_buried: bool = attrs.field(default=False, init=False)
    """Whether others took this session for dead, and it has no row."""
    _doubts_claims: bool = attrs.field(default=False, init=False)
    """Whether a commit whose answer was lost may have taken over tasks: no part of this session waits for them."""
    _claimed_over: LastConnection = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._claimed_over = LastConnection(self.jobs.database)

    def renew(self) -> None:
        """Renews the session's lease as a member. If others took it for dead, it is a member again."""
        us = {"us": self.jobs.holder, "lease_s": self.jobs.lease_s, "place": self.place}
        self.jobs.database.execute(team_sql.JOIN, us)

    def read(self, place: float | None) -> None:
        """Notes where this session stands: -1 in no place, ``None`` if it has no row."""
        self._is_buried = place is None
        self.place = None if place in (None, -1) else place

    def stand(self, place: float | None) -> None:
        """Takes that place in the line. If others took the session for dead, it is a member again.

        Else no other would bury it, and what it is granted would be held for ever if it died before it renews.
        """
        if place != self.place or self._is_buried:
            self.place, self._is_buried = place, False
            us = {"us": self.jobs.holder, "lease_s": self.jobs.lease_s, "place": place}
            self.jobs.database.execute(team_sql.STAND, us)

    def pass_over(self, passed: Standing) -> None:
        """Takes a session out of the line that does not take its turn, though one is there to be taken."""
        sql = "UPDATE member SET place = NULL WHERE holder = :who AND place <= :place"
        self.jobs.database.execute(sql, {"place": passed.place, "who": passed.member})

    def remove(self, holder: str, condition: str = "TRUE", **given: object) -> None:
        """Ends a membership, if ``condition`` holds."""
        self.jobs.database.execute(f"DELETE FROM member WHERE holder = :who AND {condition}", {"who": holder, **given})

    def wake(self, sessions: Iterable[str]) -> None:
        """Wakes those sessions when this transaction commits."""
        for holder in sessions:
            self.jobs.database.notify(holder)

    def others(self) -> list[str]:
        """All but this one, whose leases have not run out."""
        sql = "SELECT holder FROM member WHERE holder <> :us AND lease_until > :now"
        return [row["holder"] for row in self.jobs.database.execute(sql, {"us": self.jobs.holder}).fetchall()]

    # --- Those who die ---

    def dead(self) -> tuple[str, ...]:
        """The members whose lease has run out, or whose process has ended."""
        sql = f"SELECT holder, {IS_OVER} AS is_over FROM member WHERE holder <> :us"
        rows = self.jobs.database.execute(sql, {"us": self.jobs.holder, **self.jobs.judging()}).fetchall()
        return tuple(row["holder"] for row in rows if row["is_over"] or holders.is_gone(row["holder"]))

    def left(self) -> Rows:
        """The other members on this machine; and an empty name for each orphan."""
        here = {"us": self.jobs.holder, "here": f"{holders.machine()}/%", "longest_s": self.jobs.judgement.longest_s}
        return self.jobs.database.execute(team_sql.LEFT, here)

    def take_over(self) -> tuple[list[Record], tuple[str, ...]]:
        """Every task that no live session waits for, taken over here; and the dead members that hold nothing any more.

        A job has a lease of its own, which may end a little later than that of its session.
        """
        dead = self.dead()
        given = {"us": self.jobs.holder, "gone": "", **self.jobs.judging()}
        for gone in filter(holders.is_gone, dead):
            self.jobs.database.execute(team_sql.LET_GO, {**given, "gone": gone})
        if self.jobs.database.execute(team_sql.LET_GO, given).rowcount:
            self.jobs.notify_followers()
        records, self._doubts_claims = self.jobs.take_over(again=self.doubts_claims), False
        self._claimed_over.update()
        sql = f"SELECT DISTINCT holder FROM job WHERE holder IS NOT NULL AND NOT {LAPSED}"
        held = {row["holder"] for row in self.jobs.database.execute(sql, given).fetchall()} if dead else set()
        return records, tuple(holder for holder in dead if holder not in held or holders.is_gone(holder))

    @property
    def doubts_claims(self) -> bool:
        """Whether a task may be this session's by its record alone: a copy may lack how it ended, too."""
        return self._doubts_claims or self._claimed_over.is_replaced

    def forget(self) -> None:
        """Has what was taken over taken over again: a transaction failed, and nothing says whether it was made."""
        self._doubts_claims = True
