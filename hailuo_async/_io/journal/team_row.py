"""The team's row in the journal, as a session read it last or left it with its last step: the state, and who wrote it.

A step is decided on a state that may be old by then. So it is written only if the row is still of the version that was
read, and each step gives it a version that no other step ever has.

A database that fails over to a copy may have lost the last commits, which the sessions that made them write again
(``asserting``). So who reads the row on a copy has no POST granted for a lease, nor has any other session.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from random import Random

import attrs

from hailuo_async._io.journal import team_sql
from hailuo_async._io.journal.database import Row, Rows
from hailuo_async._io.journal.last_connection import LastConnection
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.team_values import TeamStatus, Version
from hailuo_async._rules.leases import CLOCK_SET_S
from hailuo_async._rules.team import TeamState, dump_state, load_state
from hailuo_async.errors import JournalError

logger = logging.getLogger("hailuo_async")


@attrs.define(eq=False)
class TeamRow:
    """Lives on the journal's thread."""

    _jobs: JobTable
    rng: Random = attrs.field(factory=Random, init=False)
    state: TeamState = attrs.field(init=False)
    step_name: str = attrs.field(default="", init=False)
    """Names the last try to make a step. No other has that name, also where it is made on an older state again."""
    _version: Version | None = attrs.field(default=None, init=False)
    """The step that wrote ``state``; ``None`` if that has to be read."""
    _text: str = attrs.field(default="", init=False)
    """``state`` as text."""
    _given: Version | None = attrs.field(default=None, init=False)
    """Which version the session has on its loop."""
    clock: str = attrs.field(default="", init=False)
    """Which clock the team's times are of. A state with times of another one is worth nothing."""
    _read_at: float = attrs.field(default=0.0, init=False)
    """When it was last read, by the database's clock."""
    _restored: str | None = attrs.field(default=None, init=False)
    """``state.restored`` as it was read last."""
    _found: tuple[str, float] = attrs.field(default=("", -math.inf), init=False)
    """How this session named the last restore that it found, and until when it holds the team off."""
    _held_off: Version | None = attrs.field(default=None, init=False)
    """The step that wrote the copy for which the team last held off."""
    is_clock_set: bool = attrs.field(default=False, init=False)
    """Whether that clock was set back, and this session may not know it yet."""
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _last_number: int = attrs.field(default=0, init=False)
    """The number of the step that had written what was last read."""
    _read_over: LastConnection = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.state = TeamState.new(self.rng)
        self._read_over = LastConnection(self._jobs.database)

    @property
    def is_old(self) -> bool:
        """Whether it has to be read before a step: always where that costs nothing, and the row then stays as it is."""
        return self._jobs.database.IS_LOCAL or self._version is None or self._read_over.is_replaced

    def found(self, rows: Rows) -> Row:
        """The team's row. Raises ``JournalError`` if it is gone."""
        row: Row | None = rows.fetchone()
        if row is None:
            reason = "another program has emptied its table team: end that program, and begin a new journal"
            raise JournalError(path=self._jobs.database.name, reason=reason)
        return row

    def read(self, row: Row) -> None:
        """Notes the row as it was read just now."""
        version = Version(row["version"], row["writer"], row["server"])
        is_older = not self._jobs.database.IS_LOCAL and version.number < self._last_number
        if version != self._version or self._read_over.is_replaced:  # a copy may have it, and lack other commits
            self._version, self._text = version, row["state"] if row["clock"] == self.clock else ""
            self.state = load_state(self._text, self.rng)
            self._look_for_copy(version, row["read_at"], is_older=is_older)
        if not self._jobs.database.IS_LOCAL and self.state.as_of > row["read_at"] + CLOCK_SET_S:
            self._outlive_clock(row["read_at"])
        self._last_number, self._read_at = version.number, row["read_at"]
        self._read_over.update()

    def _look_for_copy(self, version: Version, now: float, *, is_older: bool) -> None:
        """Holds the team off if what was read is a copy. One that was restored counts as a new connection, too.

        The first session that finds it restored names that in the state: others may read it only after so many steps
        that it is not older any more. What it holds off stays so even if one that knows nothing is quicker.
        """
        is_named = self._restored not in (None, self.state.restored) and not self._read_over.is_replaced
        self._jobs.database.connections += is_older or is_named
        if is_older or version.server not in ("", self._jobs.database.server):
            self._hold_off(version, now)
        if is_older:
            self._found = f"{self._jobs.holder} {next(self._numbers)}", self.state.submits_from
        if self.state.submits_from <= self._found[1] and now < self._found[1] <= now + self._jobs.lease_s:
            self.state.restored, self.state.submits_from = self._found
            self._text, self._given = dump_state(self.state), None
        self._restored = self.state.restored

    def is_before(self, row: Row) -> bool:
        """Whether ``row`` was read before the last step of this session."""
        return self._version is not None and row["version"] < self._version.number

    def begin_again(self) -> None:
        """Begins with a new state. What is held off stays so."""
        new, held = TeamState.new(self.rng), self.state
        self.state = attrs.evolve(new, submits_from=held.submits_from, restored=held.restored)

    def is_ahead(self, now: float) -> bool:
        """Whether a step of the time ``now`` is not to be made: the clock was set back since that was known."""
        is_ahead = not self._jobs.database.IS_LOCAL and now - CLOCK_SET_S > self._read_at
        self.is_clock_set = self.is_clock_set or is_ahead
        return is_ahead

    def write(self, last_place: float | None, now: float = -math.inf) -> Rows:
        """Writes the state with a new step, of the time ``now``.

        Unless another session was quicker or stands before ``last_place``, or that time is far ahead.
        """
        before, server = self._version or Version(), self._jobs.database.server
        is_given, self._text = self._given == self._version, dump_state(self.state)
        self.step_name = f"{self._jobs.holder} {next(self._numbers)}"
        parameters = {
            "us": self._jobs.holder,
            "step": self.step_name,
            "server": server,
            "version": before.number,
            "writer": before.writer,
            "was_server": before.server,
            "clock": self.clock,
            "state": self._text,
            "last_place": last_place,
            "earliest": -math.inf if self._jobs.database.IS_LOCAL else now - CLOCK_SET_S,
        }
        self._version = Version(before.number + 1, self.step_name, server)
        if is_given:
            self._given = self._version
        return self._jobs.database.execute(team_sql.WRITE, parameters)

    def forget(self) -> None:
        """Has the row read again: a transaction failed, and nothing says whether its writes were made."""
        self._version = self._given = None

    def with_state(self, status: TeamStatus, *, is_all: bool = False) -> TeamStatus:
        """``status`` for the session: with the state if that is new there, or asked for."""
        if self._given == self._version and not is_all:
            return status
        self._given = self._version
        return attrs.evolve(status, state=self._text)

    def _outlive_clock(self, now: float) -> None:
        """Begins again: the server's clock was set back, so that the times in the state are far ahead."""
        self.begin_again()
        self.is_clock_set = True
        self.state.as_of, self.state.submits_from = now, min(self.state.submits_from, now + self._jobs.lease_s)
        self._text, self._given = dump_state(self.state), None

    def _hold_off(self, version: Version, now: float) -> None:
        """Has the team send nothing for now: what was read is a copy, which may lack what another session knows."""
        self.state.submits_from, self._given = now + self._jobs.lease_s, None
        self._text = dump_state(self.state)
        self._jobs.judgement.journal_came_back(now)
        was_held_off, self._held_off = self._held_off == version, version
        if was_held_off:
            return
        logger.warning(
            "the journal %s has failed over to a copy that may lack the last commits: the team sends no job for %g s,"
            " in which its sessions write those again",
            self._jobs.database.name,
            self._jobs.lease_s,
        )
