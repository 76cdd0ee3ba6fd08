"""A session's place in the line of its team."""

from __future__ import annotations

from random import Random

import pytest

from hailuo_async._engine.signal import Signal
from hailuo_async._engine.team_line import TeamLine
from hailuo_async._engine.team_view import TeamView
from hailuo_async._io.journal.team_values import TeamStatus, Turn
from hailuo_async._rules.line import Standing

SERVER = 1_700_000_000.0


def make_line(since: float | None = None) -> tuple[TeamLine, TeamView, list[str]]:
    """The line of a session whose first job waits ``since``, in a team of two, and the commits that it asks for."""
    commits: list[str] = []
    view = TeamView("us", Random(0), lambda: commits.append("commit"))
    view.members = 2
    line = TeamLine(view, Signal())
    line.waits_since = lambda: since
    return line, view, commits


def test_a_place_in_the_line_is_the_same_however_the_clock_is_corrected() -> None:
    """Otherwise two sessions may each take the other for the first, and wait for it."""
    line, view, _ = make_line(5.0)
    view.clock.learn(SERVER + 0.1, 0.0, 0.2)
    before = line.place()
    view.clock.learn(SERVER + 0.3, 0.2, 0.3)
    assert view.clock.offset_s != pytest.approx(SERVER, abs=1e-3)
    assert line.place() == before
    line.waits_since = lambda: 5.005
    assert line.place() == pytest.approx(SERVER + 5.055, abs=1e-5)


def test_a_place_is_forgotten_when_no_job_waits_for_it() -> None:
    line, view, _ = make_line(5.0)
    turn = Turn("b", 0.0, line.in_team_time(6.0))
    line.in_team_time(7.0)
    assert line.record([turn]) == 5.0
    view.clock.learn(1.0, 0.0, 0.0)
    assert [line.in_team_time(since) for since in (5.0, 6.0)] == [5.0, 6.0]
    assert line.in_team_time(7.0) == 8.0


@pytest.mark.parametrize("set_s", [-600.0, 600.0])
def test_a_place_moves_with_the_teams_clock_if_that_is_set(set_s: float) -> None:
    """After it was set back, a session that waits would stand behind all that others ask for in those ten minutes."""
    line, view, _ = make_line(5.0)
    view.clock.learn(SERVER, 0.0, 0.0)
    assert line.place() == SERVER + 5.0
    view.clock.learn(SERVER + 60.0 + set_s, 60.0, 60.0)
    assert line.place() == SERVER + 5.0 + set_s
    assert line.in_team_time(61.0) > SERVER + 5.0 + set_s


def test_a_place_is_told_only_when_it_is_another_and_someone_shares_the_line() -> None:
    line, view, commits = make_line(5.0)
    view.members = 1
    line.stand()
    assert commits == []
    view.members = 2
    line.stand()
    assert commits == ["commit"]
    line.record(())
    line.stand()
    assert commits == ["commit"]
    line.apply(TeamStatus(state=None, members=2, first=None, place=None))  # another session has passed this one over
    line.stand()
    assert commits == ["commit"] * 2


def test_a_session_alone_takes_no_place_until_another_comes() -> None:
    line, view, commits = make_line(5.0)
    view.members = 1
    assert line.record(()) is None
    line.apply(TeamStatus(state=None, members=2, first=None))
    view.members = 2
    line.stand()
    assert (commits, line.record(())) == (["commit"], 5.0)


def test_a_turn_waits_for_the_first_in_the_line_only_if_that_waits_longer() -> None:
    line, _, _ = make_line(5.0)
    assert line.turn_opens_at(10.0, 10.0) == 10.0
    line.apply(TeamStatus(state=None, members=2, first=Standing(6.0, "they")))
    assert line.turn_opens_at(10.0, 10.0) == 10.0
    line.apply(TeamStatus(state=None, members=2, first=Standing(4.0, "they")))
    assert line.turn_opens_at(10.0, 10.0) > 10.0
    assert line.turn_opens_at(10.0, 12.0) == 12.0


def test_a_call_is_taken_once() -> None:
    line, _, _ = make_line()
    line.call()
    assert (line.is_called, line.take_call(), line.take_call(), line.is_called) == (True, True, False, False)
