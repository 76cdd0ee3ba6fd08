"""What a session publishes to its team, asks of it and learns of it, as values. ``team`` makes it so."""

from __future__ import annotations

from typing import NamedTuple

import attrs

from hailuo_async._io.journal.records import JournalState, Permit
from hailuo_async._rules.line import Standing
from hailuo_async._rules.team import Change, Held


class Version(NamedTuple):
    """The step that wrote a state: its number, whose it was, and on which server it was made."""

    number: int = 0
    writer: str = ""
    server: str = ""


@attrs.frozen
class Turn:
    """A POST that would leave: of which job, when (in Unix seconds), and since when it waits (in the team's time)."""

    identity: str
    sent_at: float
    place: float


@attrs.frozen(kw_only=True)
class Step:
    """What a session publishes to its team and asks of it, with one commit. Times are the team's."""

    now: float
    held: Held = attrs.field(factory=Held)
    changes: tuple[Change, ...] = ()
    turns: tuple[Turn, ...] = ()
    """In the order of their places."""
    queries: int = 0
    is_query_due: bool = True
    place: float | None = None
    """Since when the first of this session waits that is not among ``turns``; ``None`` if none does."""
    passed: Standing | None = None
    """Who was first in the line and did not take its turn: it loses its place, if that is still before this one."""
    buried: tuple[str, ...] = ()
    """Members that are dead, and whose jobs others have taken over."""
    is_called: bool = False
    """Whether the session was woken, and takes its turn without a refresh first."""
    is_stale: bool = False
    """Whether other sessions have probably made steps since this one was last up to date."""


@attrs.frozen(kw_only=True)
class TeamStatus:
    """How the team stands. Times are the team's."""

    state: str | None
    """The state, if it is not what this session's own steps have made of it."""
    members: int
    first: Standing | None
    """Of the other sessions that wait, the first."""
    place: float | None = None
    """This session's own place in the line."""
    ahead: int = 0
    """How many of the others wait longer than this session."""
    gone: int = 0
    """How many jobs and members were ever deleted."""
    lapses_in_s: float | None = None
    """Until the first lease of another member runs out, if it is not renewed. Negative: one has."""


@attrs.frozen(kw_only=True)
class Renewed:
    """What the renewal of a session's leases has found."""

    status: TeamStatus
    has_orphans: bool
    """Whether a task may be without a session, an expired lease holds an unsent job, or a session of this machine has
    died."""
    at: float | None = None
    """The time of the team's clock, as in ``Refreshed``, at some moment of the commit."""


@attrs.frozen(kw_only=True)
class StepDone:
    """What became of a step."""

    status: TeamStatus
    permits: tuple[Permit, ...]
    """For each of its turns."""
    queries: int
    query_at: float
    needs_refresh: bool = False
    """Whether notices came that a refresh has to pass on, or the clock was set."""
    is_made: bool = True
    """If not, others were quicker too often: nothing was granted, and its changes go into another step."""
    is_void: bool = False
    """Whether it is of a time that is ahead, as the clock was set back: then its changes are worth nothing."""


@attrs.frozen
class JobChange:
    """A job that changed: how it stands."""

    identity: str
    state: JournalState
    task_id: str | None
    is_held: bool = True
    """Whether a session works on it."""


@attrs.frozen(kw_only=True)
class Refreshed:
    """What a refresh found in the journal."""

    status: TeamStatus
    changes: tuple[JobChange, ...]
    """Jobs that changed since the refresh before, each as it stands now. Two refreshes may both name one."""
    seen: int
    """The number of the change with which the next refresh begins."""
    notices: tuple[str, ...] = ()
    """Ids of tasks that may have ended, by notices to other sessions. Not to be believed."""
    at: float | None = None
    """The time of the team's clock, where that is not the clock of every loop on this machine."""
    is_anew: bool = False
    """Whether the journal was connected to anew: on a copy of it the numbers of changes may begin again lower, so
    ``changes`` may lack some."""
