"""A host of results that a test slows down, and streams that save what lies there."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import anyio
import attrs

from hailuo_async import AsyncSession, ImageToVideo, Outcome, Success
from hailuo_async._rules.wire import Answer, Request

from .rawserver import Exchange, RawServer, raw_server
from .service import Line, asked_about, finished, told

FILM = bytes(range(256)) * 40


@attrs.define(eq=False)
class Films:
    """Where the results lie: a host that sends the beginning of each film, and the rest when it is let go on."""

    server: RawServer
    may_go_on: anyio.Event
    under_way: Counter[str] = attrs.field(factory=Counter)
    """How often each film was begun."""

    @property
    def asked(self) -> list[str]:
        """The films that were asked for, in order."""
        return [exchange.path for exchange in self.server.seen]

    def line(self) -> Line:
        """A service whose every task is finished when it is asked about, with its film here."""

        async def finish(request: Request) -> Answer:
            task_id = asked_about(request)
            return told(200, finished(task_id, f"{self.server.url}/{task_id}.mp4?sig=secret"))

        return Line(on_query=finish)


@contextlib.asynccontextmanager
async def films(*, slow: bool = False) -> AsyncIterator[Films]:
    """The host on a free port of this machine; a slow one goes on when it is told to."""
    may_go_on = anyio.Event()
    if not slow:
        may_go_on.set()

    async def show(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 200 Told\r\nContent-Length: {len(FILM)}\r\n\r\n".encode() + FILM[:100])
        here.under_way[exchange.path] += 1
        await may_go_on.wait()
        await exchange.send(FILM[100:])

    async with raw_server(show) as server:
        here = Films(server, may_go_on)
        yield here


async def read(session: AsyncSession, items: Iterable[ImageToVideo], directory: Path) -> list[Outcome]:
    """All of a stream that saves in ``directory``, in the order of its jobs."""
    stream = session.stream(items, save_to=directory)
    return sorted([outcome async for outcome in stream], key=lambda outcome: outcome.index)


def in_short(outcomes: Iterable[Outcome], directory: Path) -> list[str]:
    """Of each success where it was saved, of each failure its error and its task."""
    return [
        str(outcome.path and outcome.path.relative_to(directory))
        if isinstance(outcome, Success)
        else f"{type(outcome.error).__name__} {outcome.error.task_id}"
        for outcome in outcomes
    ]


def names_in(directory: Path) -> list[str]:
    """Every file in ``directory``, by name."""
    return sorted(path.name for path in directory.iterdir())
