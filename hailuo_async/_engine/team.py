"""What a session knows of its team, and how it asks for its share.

Without a journal a session is a team of its own: the gate asks ``Slots`` and ``Budget`` themselves. Sessions that share
a journal share one ``TeamState``, which lies in it, and ``Team`` stands between that and the gate:

- **View.** A copy of the state as it was last read, with what this session has done since. What the gate asks at once
  (may a POST leave, may a query?) is answered from it. It is a guess: another session may have been quicker.
- **Step.** What this session did, and what it wants, goes to the journal as one ``Step`` with the next commit. There a
  POST is granted together with the record of its intent, on the state as it stands, behind sessions that came first.
- **Queries** take their requests from a small stock, which steps fill. While no limit is known, or no other session is
  there, no stock is needed: a later step reports what was sent.
- **News.** Each answer to a step tells how the team stands. Between steps ``Lookout`` looks, mostly when it is woken.

Times in here are the loop's. Those of the state are the team's, which is ahead by ``offset_s``.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from random import Random

import attrs

from hailuo_async._engine.clock import RemoteClock, loop_time
from hailuo_async._engine.lessons import Lessons
from hailuo_async._engine.signal import Signal
from hailuo_async._io.journal.news import News, Renewed, Step, StepDone, Turn
from hailuo_async._io.journal.records import Leave
from hailuo_async._io.journal.team_link import TeamLink
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.budget import Use
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.line import Line
from hailuo_async._rules.team import Change, End, Held, TeamState, load_state

#: Requests that are asked for at once. Where they are short, the state grants fewer.
_STOCK = 4
#: If no commit takes along what this session learned, a commit is made for it after so long.
_TELL_S = 5.0
#: A turn that a session was called to, and did not ask for within so long, is given up: it looks.
_CALLED_S = 0.5
#: So many letters at the end of a session's name tell it from others.
_TOLD_LETTERS = 8
#: Others have probably made steps if nothing was heard of them for so long.
_STALE_S = 0.25
#: A server's time has ten digits before its point, so sums with it are only so exact.
_SUMS_ARE_OFF_BY_S = 1e-5
#: A step that failed is made again after so long.
_AGAIN_S = 1.0


@attrs.define(eq=False)
class Team:
    """This session's part in its team."""

    _journal: JournalWriter
    ceiling: int | None
    _rng: Random
    _cadence: Cadence
    on_change: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when what could not leave before may now."""
    waits_since: Callable[[], float | None] = attrs.field(default=lambda: None, init=False)
    """Since when the first of this session's queue waits, if it could leave but for the team."""
    on_death: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when another session has left the team, or died."""
    members: int = attrs.field(default=1, init=False)
    line: Line = attrs.field(factory=Line, init=False)
    view: TeamState = attrs.field(init=False)
    inflight: int = attrs.field(default=0, init=False)
    settled: int = attrs.field(default=0, init=False)
    requests: int = attrs.field(default=0, init=False)
    """Requests that were granted, or counted, and are not answered."""
    stock: int = attrs.field(default=0, init=False)
    """Those of them that have not left."""
    tentative: int = attrs.field(default=0, init=False)
    """POSTs that may leave by the view, and whose grant is asked for."""
    _query_at: float = attrs.field(default=-math.inf, init=False)
    _asks_queries: bool = attrs.field(default=False, init=False)
    _changes: list[Change] = attrs.field(factory=list, init=False)
    _turns: list[tuple[Turn, asyncio.Future[Leave]]] = attrs.field(factory=list, init=False)
    _stepping: list[tuple[Turn, asyncio.Future[Leave]]] | None = attrs.field(default=None, init=False)
    _step: Step | None = attrs.field(default=None, init=False)
    _buried: tuple[str, ...] = attrs.field(default=(), init=False)
    _tell_at: asyncio.TimerHandle | None = attrs.field(default=None, init=False)
    clock: RemoteClock = attrs.field(factory=RemoteClock, init=False)
    _is_settling: bool = attrs.field(default=False, init=False)
    """Whether jobs that were granted nothing are on their way back into the queue."""
    _place: float | None = attrs.field(default=None, init=False)
    """What the journal knows of ``waits_since``, in the team's time."""
    _places: dict[float, float] = attrs.field(factory=dict, init=False)
    """By the loop's time, the places of the jobs that wait: each keeps its time, however the clocks are corrected."""
    _lessons: Lessons = attrs.field(init=False)
    _gone: int | None = attrs.field(default=None, init=False)
    _follows: bool = attrs.field(default=False, init=False)
    """Whether this session follows jobs of others."""
    _follows_told: bool = attrs.field(default=False, init=False)
    """What the others know of that: they wake this session when a job has changed."""
    is_called: bool = attrs.field(default=False, init=False)
    """Whether it may be the turn of this session, which asks for it instead of looking first."""
    # What the lookout goes by.
    is_woken: bool = attrs.field(default=False, init=False)
    """Whether another session has changed something that this one may wait for."""
    heard_at: float = attrs.field(default=-math.inf, init=False)
    """When this session last learned how its team stands."""
    lapses_at: float = attrs.field(default=math.inf, init=False)
    """When the first lease of another member runs out, if it is not renewed."""
    is_left: bool = attrs.field(default=False, init=False)
    """Whether a task has no session that waits for it, as the last renewal has found."""
    changed: Signal = attrs.field(factory=Signal, init=False)
    """Notified when any of these has changed, or this session begins to wait."""

    def __attrs_post_init__(self) -> None:
        self.view = TeamState.new(self._rng)
        self._lessons = Lessons(self._cadence)

    # --- What the gate asks and tells, through ``TeamSlots`` and ``TeamBudget`` ---

    @property
    def offset_s(self) -> float:
        """How far the team's clock is ahead of the loop's."""
        return self.clock.offset_s

    def in_loop_time(self, at: float, now: float) -> float:
        """The team's time ``at`` by the loop's clock: ``now`` if it has come, for what a sum of such times can tell."""
        return now if at <= now + self.offset_s + _SUMS_ARE_OFF_BY_S else at - self.offset_s

    @property
    def running(self) -> int:
        """POSTs and tasks of this session that take a slot."""
        return self.inflight + self.tentative + self.settled

    @property
    def all_running(self) -> int:
        """POSTs and tasks of the whole team, as far as this session knows."""
        return self.view.slots.running

    @property
    def _is_full(self) -> bool:
        return self.ceiling is not None and self.running >= self.ceiling

    def submit_opens_at(self, now: float) -> float:
        """When the view has a slot for this session, and it is this session's turn."""
        if self._is_full:
            return math.inf
        if self.is_called:
            return math.inf if self.tentative else now
        at = self.in_loop_time(self.view.submit_opens_at(now + self.offset_s), now)
        place = self.waits_since()
        return self.line.opens_at(now, at, None if place is None else self._in_team_time(place))

    def query_opens_at(self, now: float) -> float:
        """When a query may leave: at its place while there is a stock; at once where none is needed."""
        if self.stock:
            return self._query_at
        if self._needs_no_stock:
            return self.in_loop_time(self.view.budget.may_send(now + self.offset_s, Use.QUERY), now)
        if not self._asks_queries and self._query_at <= now:
            self._asks_queries = True
            self._commit_soon()
        return math.inf if self._asks_queries else self._query_at

    @property
    def _needs_no_stock(self) -> bool:
        return self.members <= 1 or self.view.budget.query_rate(loop_time() + self.offset_s, 0.0) is None

    @property
    def _will_query(self) -> bool:
        """Whether a query will soon want a stock, so that a step that is made in any case is to bring some."""
        return not self.stock and self.settled > 0 and not self._needs_no_stock

    def query_leaves(self, now: float) -> None:
        """Counts a query that leaves now, from the stock if there is one."""
        if self.stock:
            self.stock -= 1
            return
        self.requests += 1
        at = now + self.offset_s
        self.tell(lambda state: state.budget.sent(at, Use.QUERY), is_urgent=False)

    def tell(self, change: Change, *, is_urgent: bool = True) -> None:
        """Applies ``change`` here at once, and in the journal with the next commit, which is soon if it is urgent."""
        change(self.view)
        self._changes.append(change)
        if is_urgent and self.members > 1:
            self._commit_soon()
        elif self._tell_at is None:
            self._tell_at = asyncio.get_running_loop().call_later(_TELL_S, self._tell_now)

    def _tell_now(self) -> None:
        self._tell_at = None
        self._commit_soon()

    def _commit_soon(self) -> None:
        if self._journal.team is not None:
            self._journal.team.commit_soon()

    @property
    def link(self) -> TeamLink:
        """The line to the team."""
        if self._journal.team is None:
            raise RuntimeError("a team was asked before it was joined")
        return self._journal.team

    def stand(self) -> None:
        """Tells the sessions that share the line that another job is now the first of this session's queue."""
        if self.members > 1 and self._place != self._place_now():
            self._commit_soon()
            self.changed.notify()

    def follow(self, is_followed: bool = True) -> None:
        """Has the others wake this session when a job has changed, as long as it follows any."""
        self._follows = is_followed
        if self._follows != self._follows_told:
            self._commit_soon()

    def leave(self, identity: str, sent_at: float, place: float) -> asyncio.Future[Leave]:
        """Asks for the grant of one POST, and for the record of its intent, in one step. Does not wait.

        ``sent_at`` is in Unix seconds. The answer raises ``JournalError`` if neither can be had.
        """
        answer: asyncio.Future[Leave] = asyncio.get_running_loop().create_future()
        self._turns.append((Turn(identity, sent_at, self._in_team_time(place)), answer))
        self._commit_soon()
        return answer

    def compose(self) -> Step | None:
        """The step for the next commit; ``None`` if all that there is to say can wait."""
        place = self._place_now()
        is_due = self._turns or self._asks_queries or (self._changes and (self.members > 1 or self._tell_at is None))
        is_news = self._follows != self._follows_told or (self.members > 1 and place != self._place)
        if self._step is not None or not (is_due or is_news):
            return None
        self._stepping, self._turns = sorted(self._turns, key=lambda each: each[0].place), []
        self._step = Step(
            now=loop_time() + self.offset_s,
            held=Held(self.inflight, self.settled, self.requests, self._follows),
            changes=tuple(self._changes),
            turns=tuple(turn for turn, _ in self._stepping),
            queries=_STOCK if self._asks_queries or self._will_query else 0,
            is_query_due=self._asks_queries,
            place=place,
            passed=self.line.pass_over(),
            buried=self._buried,
            is_called=self.is_called,
            is_stale=self.members > 1 and loop_time() - self.heard_at > _STALE_S,
        )
        self._buried, self.is_called = (), False
        self._changes.clear()
        self._place = place
        kept = {place, *(turn.place for turn, _ in self._stepping)}
        self._places = {at: told for at, told in self._places.items() if told in kept}
        if self._tell_at is not None:
            self._tell_at.cancel()
            self._tell_at = None
        return self._step

    def _place_now(self) -> float | None:
        if self._is_settling:
            return self._place
        place = None if self._is_full else self.waits_since()  # one that could not take its turn stands in no way
        return None if place is None else self._in_team_time(place)

    def _in_team_time(self, place: float) -> float:
        """A place by the team's clock. The same whenever it is asked, so that two sessions agree on who came first."""
        return self._places.setdefault(place, place + self.offset_s)

    def stepped(self, done: StepDone) -> None:
        """Acts on the answer to a step that is on disk."""
        was_told, self._follows_told = self._follows_told, self._step is not None and self._step.held.follows
        stepping, self._stepping, self._step = self._stepping or [], None, None
        self._asks_queries = False
        self.stock += done.queries
        self.requests += done.queries
        self._query_at = self.in_loop_time(done.query_at, loop_time())
        for leave in done.leaves:
            self.tentative -= 1
            self.inflight += leave is not Leave.LATER
            self.requests += leave is not Leave.LATER
        for (turn, answer), leave in zip(stepping, done.leaves, strict=True):
            if not answer.done():
                answer.set_result(leave)
            elif leave is Leave.GRANTED:  # its caller has left: no POST follows
                self._give_back(turn)
        self._is_settling = Leave.LATER in done.leaves
        asyncio.get_running_loop().call_soon(self._settled)
        self.hear(done.news)
        if done.is_hinted or (self._follows_told and not was_told):
            self.look_soon()  # of what changed before the others knew, they told nothing
        self.on_change()

    def _settled(self) -> None:
        """The jobs that were granted nothing are back in the queue, so its first is known again."""
        self._is_settling = False
        self.stand()

    def _give_back(self, turn: Turn) -> None:
        """Gives back a granted POST whose caller has left meanwhile."""
        at = loop_time() + self.offset_s
        self._journal.unsent_nowait(turn.identity, turn.sent_at)
        self.inflight -= 1
        self.requests -= 1
        self.tell(lambda state: state.submit_stayed(at))

    def failed(self, error: Exception) -> None:
        """The step is probably not on disk: its changes go into the next step, and it granted nothing."""
        step, self._step = self._step, None
        stepping, self._stepping = self._stepping or [], None
        if step is not None:
            self._changes[:0] = step.changes
        self._asks_queries, self._query_at = False, loop_time() + _AGAIN_S
        self.tentative -= len(stepping)
        for _, answer in stepping:
            self.view.submit_stayed(loop_time() + self.offset_s)
            if not answer.done():
                answer.set_exception(error)
        if self._tell_at is None:
            self._tell_at = asyncio.get_running_loop().call_later(_AGAIN_S, self._tell_now)
        self.on_change()

    def bury(self, members: tuple[str, ...]) -> None:
        """Frees what dead members held: a session has taken up their tasks."""
        at = loop_time() + self.offset_s
        self._buried = members
        for member in members:
            self.tell(functools.partial(TeamState.bury, member=member, now=at))

    def ended(self, kind: tuple[object, ...], young_s: float, at_s: float, took_s: float) -> None:
        """Tells the other sessions how long a task took."""
        ages = (round(age_s, 3) for age_s in (young_s, at_s, took_s))  # each session reads them, at each of its steps
        end = End(self._journal.holder[-_TOLD_LETTERS:], kind, *ages)
        self.tell(functools.partial(TeamState.teach, end=end), is_urgent=False)

    # --- News ---

    def hear(self, news: News) -> None:
        """Learns how the team stands."""
        self.line.heard(news.first, news.ahead)
        self._place = news.place
        before, self.members = self.members, news.members
        if news.state is not None:
            self.view = load_state(news.state, self._rng)
            for change in self._changes:
                change(self.view)
            for _ in range(self.tentative):
                self.view.submit_leaves(loop_time() + self.offset_s)
            self._follows_told = self.view.held.get(self._journal.holder, Held()).follows
            self._lessons.learn(self.view, self._journal.holder[-_TOLD_LETTERS:])
        if before == 1 < self.members:  # the newcomer is to know what this one has
            self._commit_soon()
        gone, self._gone = self._gone, news.gone
        self.heard_at = now = loop_time()
        self.lapses_at = math.inf if news.lapses_in_s is None else now + news.lapses_in_s
        self.changed.notify()
        self.stand()  # again, if another session has passed this one over
        if before > self.members or gone not in (None, news.gone):  # one may have come at the same time
            self.on_death()

    def renewed(self, renewed: Renewed) -> None:
        """Notes that the leases of this session were renewed."""
        self.is_left = renewed.is_left
        self.hear(renewed.news)
        self.on_change()

    def woken(self) -> None:
        """Notes that another session has changed something that this one may wait for."""
        now = loop_time()
        is_busy = self._step is not None or self.tentative or self.is_called or self._is_full
        has_heard = now - self.heard_at < _STALE_S  # perhaps that it has had the turn which it is called to
        if is_busy or has_heard or self._follows or self.waits_since() is None or self.clock.is_old(now):
            self.look_soon()
            return
        self.is_called = True
        asyncio.get_running_loop().call_later(_CALLED_S, self._call_ends)
        self.on_change()

    def _call_ends(self) -> None:
        if self.is_called:
            self.is_called = False
            self.look_soon()

    def look_soon(self) -> None:
        """Has the lookout look at once."""
        self.is_woken = True
        self.changed.notify()
