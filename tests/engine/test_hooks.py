"""Hooks: who is told of events, and why nothing that they do can harm the engine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
from collections import defaultdict
from types import FrameType
from typing import Any

import pytest

from hailuo_async import (
    Accepted,
    AsyncSession,
    ConfigError,
    Ended,
    GateClosed,
    Generation,
    Hooks,
    Queued,
    Sent,
    SessionEvent,
    Video,
    hooks,
)
from hailuo_async.testing import run_virtual

from ..support.listening import JOB, line_that, told_of
from ..support.service import Line, job, jobs

pytestmark = pytest.mark.anyio

CLOSED = GateClosed(at=0.0, reason="unreachable", seconds=1.0)


class Counting:
    """A hook that is an object."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, event: SessionEvent) -> None:
        self.seen += 1

    def method(self, event: SessionEvent) -> None:
        self.seen += 10


class Night:
    """Hooks that raise, of an object that has more to show than a log should hold."""

    shown = 0

    def __repr__(self) -> str:
        self.shown += 1
        return "Night(api_key='a secret', jobs=…)"

    def note(self, event: SessionEvent) -> None:
        raise LookupError

    __call__ = note


class Asking:
    async def __call__(self, event: SessionEvent) -> None:
        raise AssertionError


async def ask(event: SessionEvent, more: int = 0) -> None:
    raise AssertionError


def test_hooks_come_and_go_as_in_a_list_before_the_session_is_entered() -> None:
    listeners, counting = AsyncSession(api_key="k").hooks, Counting()
    listeners.append(counting)
    listeners.append(counting.method)
    assert list(listeners) == [counting, counting.method]
    listeners.emit(CLOSED)
    listeners.remove(counting.method)  # a bound method is made anew each time it is named
    listeners.emit(CLOSED)
    assert (counting.seen, len(listeners), counting in listeners) == (12, 1, True)
    with pytest.raises(ValueError, match="not in list"):
        listeners.remove(counting.method)


@pytest.mark.parametrize("hook", [None, "print", ask, functools.partial(ask, more=1), Asking(), Asking().__call__])
def test_what_cannot_be_called_or_would_have_to_be_awaited_is_no_hook(hook: Any) -> None:
    listeners = Hooks()
    with pytest.raises(ConfigError, match="plain callables that take an event") as caught:
        listeners.append(hook)
    assert (caught.value.field, caught.value.value, len(listeners)) == ("hooks", hook, 0)


@pytest.mark.parametrize("error", [LookupError("a bug"), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_a_hook_that_raises_stops_nothing_and_is_warned_of_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(event: SessionEvent) -> None:
        raise error

    async def generate(session: AsyncSession) -> None:
        session.hooks.append(break_down)
        session.hooks.append(last.append)
        assert (await session.generate(JOB)).url

    last: list[SessionEvent] = []
    caplog.set_level("DEBUG", "hailuo_async")
    assert told_of(Line(), generate) == last
    records = [record for record in caplog.records if "the hook" in record.getMessage()]
    assert [record.levelno for record in records] == [logging.WARNING, *[logging.DEBUG] * 3]
    assert {record.exc_info[1] for record in records if record.exc_info} == {error}
    assert records[0].getMessage().startswith(f"the hook {break_down.__qualname__} raised: correct it, or take it out")


def test_a_log_of_a_hook_that_raises_does_not_show_what_its_object_holds(caplog: pytest.LogCaptureFixture) -> None:
    """That may be a secret, and so much that the loop would be held: simulated life 400633 took minutes for it."""
    listeners = Hooks()
    for hook in (night := Night()).note, night:
        listeners.append(hook)
    listeners.emit(CLOSED)
    names = [record.getMessage().partition(" raised")[0] for record in caplog.records]
    assert (names, night.shown) == (["the hook Night.note", "the hook Night"], 0)


@pytest.mark.parametrize("wish", [KeyboardInterrupt, SystemExit])
def test_a_hook_that_is_interrupted_ends_the_loop_but_loses_no_task(wish: type[BaseException]) -> None:
    """At the worst of moments: the service has the job, and nobody else knows yet."""

    def interrupt(event: SessionEvent) -> None:
        if isinstance(event, Accepted):
            raise wish

    async def begin(session: AsyncSession) -> Generation:
        await session.__aenter__()
        session.hooks.append(interrupt)
        generation = await session.submit(JOB)
        generations.append(generation)
        return await generation  # type: ignore[return-value]

    async def go_on(session: AsyncSession) -> str:
        async with contextlib.aclosing(session):
            return (await generations[0]).task_id

    generations: list[Generation] = []
    line = Line()
    session = line.session()
    with asyncio.Runner() as runner:
        with pytest.raises(wish):
            runner.run(begin(session))
        assert runner.run(go_on(session)) == "task-1"
    assert len(line.posts) == 1


def test_a_hook_may_use_the_session_that_calls_it() -> None:
    async def work(session: AsyncSession) -> None:
        def once(event: SessionEvent) -> None:
            seen.append((type(event), session.stats().succeeded))
            if isinstance(event, Ended):
                session.hooks.remove(once)
                session.hooks.append(late.append)
                following.append(asyncio.create_task(session.generate(job("the next"))))

        session.hooks.append(once)
        await session.generate(JOB)
        assert (await following[0]).task_id == "task-2"

    seen: list[tuple[type[SessionEvent], int]] = []
    following: list[asyncio.Task[Video]] = []
    late: list[SessionEvent] = []
    told_of(Line(), work)
    assert seen == [(Queued, 0), (Sent, 0), (Accepted, 0), (Ended, 1)]
    assert [type(event) for event in late] == [Queued, Sent, Accepted, Ended]


def test_a_hook_that_comes_late_is_told_the_rest() -> None:
    async def work(session: AsyncSession) -> None:
        generation = await session.submit(JOB)
        await generation.accepted()
        session.hooks.append(rest.append)
        await generation

    rest: list[SessionEvent] = []
    events = told_of(line_that(), work)
    assert rest == events[-1:]


def test_where_nobody_listens_no_event_is_made() -> None:
    """A job costs a few looks at an empty list of hooks, and nothing else of this."""
    called: defaultdict[str, int] = defaultdict(int)

    def look(frame: FrameType, what: str, argument: object) -> None:
        if what == "call" and frame.f_code.co_filename in (hooks.__file__, *generated):
            called[frame.f_code.co_qualname] += 1

    async def main() -> None:
        async with Line().session() as session:
            await session.generate(JOB)
            sys.setprofile(look)
            try:
                for each in jobs(10):
                    await session.generate(each)
            finally:
                sys.setprofile(None)

    generated = [kind.__init__.__code__.co_filename for kind in (Queued, Sent, Accepted, Ended)]
    run_virtual(main)
    assert called == {"Hooks.__len__": 40}
