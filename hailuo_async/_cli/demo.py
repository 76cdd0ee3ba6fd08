"""The first thing to run: a folder of pictures becomes a folder of videos, against the emulator or the service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hailuo_async._cli.batch import Batch
from hailuo_async._cli.plan import Plan, build_plan, choose_targets, find_pictures
from hailuo_async._cli.progress import Screen
from hailuo_async.emulator import Emulator
from hailuo_async.session import AsyncSession

#: Remembers what was sent to the service, so that running the demo again pays for nothing twice.
JOURNAL_NAME = "demo.db"
#: How long the emulator works on a video, in the mean: long enough to be seen waiting, short enough to be waited for.
_GENERATION_S = 3.0


def read_plan(folder: Path | None, count: int | None) -> Plan:
    """What to make of the pictures in ``folder``, or of a few that are drawn here if there is no folder.

    Raises ``OSError`` if the folder cannot be read, and ``ImportError`` if Pillow is needed and missing.
    """
    if folder is not None:
        return build_plan(find_pictures(folder), count)
    from hailuo_async._cli.drawings import draw_pictures  # here, for only drawing needs Pillow

    return build_plan({f"{name}.jpg": picture for name, picture in draw_pictures().items()}, count)


def prepare(plan: Plan, output: Path) -> Batch:
    """The batch for ``plan``, saving into ``output``, which is made if it is not there. Raises ``OSError``."""
    output.mkdir(parents=True, exist_ok=True)
    return Batch(plan.jobs, choose_targets(plan.jobs, output))


@contextlib.asynccontextmanager
async def emulated_session(max_running: int | None) -> AsyncGenerator[AsyncSession]:
    """A session on an emulator of its own, which runs three tasks at once and does not say so.

    Raises ``ImportError`` if what renders films is not installed.
    """
    async with (
        Emulator(render=True, generation_s=_GENERATION_S) as emulator,
        AsyncSession(api_key=emulator.api_key, base_url=emulator.url, max_running=max_running) as session,
    ):
        yield session


def real_session(output: Path, max_running: int | None) -> AsyncSession:
    """A session on the real service, by ``MODELLIX_API_KEY``, with a journal in ``output``. Raises ``ConfigError``."""
    return AsyncSession(max_running=max_running, journal=output / JOURNAL_NAME)


async def run(batch: Batch, opening: AbstractAsyncContextManager[AsyncSession], screen: Screen) -> None:
    """Runs the batch and shows how it gets on. Whatever ends it, ``batch`` knows how far it came."""
    async with opening as session:
        await batch.run(session, screen)
