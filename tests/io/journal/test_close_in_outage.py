"""How long a session takes to close while the server of its journal is down: as long as it has something to say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from benchmarks.processes import run_processes
from hailuo_async._engine.journaling import RIDE_S
from hailuo_async._io.journal.commits import LAST_PATIENCE_S
from hailuo_async._io.journal.postgres_connection import HURRIED_S
from hailuo_async._io.journal.records import LEASE_S
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.errors import JournalError, TaskFailedError

from ...support.tables import intent
from ...support.virtual_line import VirtualLine, open_journal
from ...support.virtual_postgres import VirtualServer

#: Between two renewals of a busy journal: each shares the first commit that is made.
SOONEST_S = LEASE_S / 3 - RIDE_S
FAILED = TaskFailedError(reason="dark", task_id="t1")


async def nothing(journal: JournalWriter) -> None:
    """No job."""


async def queued(journal: JournalWriter) -> None:
    """A job that was not sent."""
    await journal.intend(intent())


async def accepted(journal: JournalWriter) -> None:
    await queued(journal)
    await journal.sending("cat", 1.0)
    await journal.note(journal.jobs.accepted, "cat", "t1", 2.0)


async def ended(journal: JournalWriter) -> None:
    await accepted(journal)
    await journal.note(journal.jobs.failed, "cat", FAILED)


def seconds_to_close(
    work: Callable[[JournalWriter], Awaitable[None]],
    then_s: float,
    *,
    is_known: bool = True,
    has_note: bool = False,
    silent_s: float | None = None,
) -> float:
    """How long a close takes, in virtual seconds, if the server goes down ``then_s`` seconds after ``work``.

    With ``silent_s`` it falls silent instead, so many seconds before the close.
    """

    async def main() -> float:
        server, loop = VirtualServer(Random(1)), asyncio.get_running_loop()
        line = VirtualLine(server, Random(1), lambda: 0.01)
        journal = await open_journal(line, "ours")
        await work(journal)
        for _ in range(int(then_s / SOONEST_S) + 1):
            await journal.renew()
            await asyncio.sleep(SOONEST_S)
        began_at = loop.time()
        if silent_s is None:
            server.stop()
        else:
            line._passable.clear()
        if is_known:
            with pytest.raises(JournalError):
                await journal.renew()
        await asyncio.sleep((silent_s or 0.0) + began_at - loop.time())
        if has_note:
            noting = asyncio.ensure_future(journal.note(journal.jobs.failed, "cat", FAILED))
            await asyncio.sleep(0)
        began_at = loop.time()
        with pytest.raises(JournalError):
            await journal.aclose()
        took_s = loop.time() - began_at
        if has_note:
            with contextlib.suppress(JournalError):
                await noting
        server.close()
        return took_s

    return run_processes(main)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(("work", "then_s"), [(nothing, 0.0), (queued, 0.0), (accepted, 60.0), (ended, 60.0)])
def test_a_session_with_nothing_left_to_say_closes_at_once_though_its_server_is_down(
    work: Callable[[JournalWriter], Awaitable[None]], then_s: float, *, is_known: bool
) -> None:
    """What it wrote long ago is in each copy, to which the server may fail over."""
    assert seconds_to_close(work, then_s, is_known=is_known) < 1.0


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("silent_s", [0.0, 6.0, 11.0, 13.0, 20.0])  # it waits for a commit, or for a connection
@pytest.mark.parametrize(("work", "then_s"), [(nothing, 0.0), (accepted, 60.0)])
def test_a_session_with_nothing_left_to_say_closes_within_two_seconds_though_its_server_is_silent(
    work: Callable[[JournalWriter], Awaitable[None]], then_s: float, silent_s: float, *, is_known: bool
) -> None:
    assert seconds_to_close(work, then_s, is_known=is_known, silent_s=silent_s) <= HURRIED_S + 0.5


@pytest.mark.parametrize("silent_s", [0.0, 20.0])
def test_a_session_waits_with_its_close_for_a_silent_server_if_it_has_something_to_say(silent_s: float) -> None:
    took_s = seconds_to_close(accepted, 0.0, is_known=silent_s > 0, silent_s=silent_s)
    assert LAST_PATIENCE_S <= took_s < LAST_PATIENCE_S + HURRIED_S + 0.5


@pytest.mark.parametrize(("work", "then_s"), [(accepted, 0.0), (ended, LEASE_S - 5.0)])
def test_a_session_whose_last_post_a_failover_may_have_lost_waits_with_its_close(
    work: Callable[[JournalWriter], Awaitable[None]], then_s: float
) -> None:
    assert LAST_PATIENCE_S <= seconds_to_close(work, then_s) < LAST_PATIENCE_S + 2.0


def test_a_session_that_has_a_note_to_write_waits_with_its_close_however_old_its_posts_are() -> None:
    assert LAST_PATIENCE_S <= seconds_to_close(accepted, 60.0, has_note=True) < LAST_PATIENCE_S + 2.0
