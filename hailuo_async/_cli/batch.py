"""Runs a batch through a session, saves each video as it comes, and tells what became of every job."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import anyio
import attrs

from hailuo_async._cli.progress import Screen
from hailuo_async._cli.tally import Tally
from hailuo_async.errors import HailuoError, SubmissionUnknownError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Failure, Success
from hailuo_async.session import AsyncSession

#: Videos fetched at the same time.
_DOWNLOADS = 4


@attrs.frozen
class Line:
    """What became of one job, for one line of text. ``detail`` is its file, or what went wrong."""

    key: str
    status: str
    detail: str
    seconds: float | None = None
    """How long the service worked on it."""
    size: int | None = None
    """Bytes of the file."""

    @property
    def is_saved(self) -> bool:
        """Whether its video is there."""
        return self.status == "saved"

    @property
    def words(self) -> str:
        """The line itself."""
        seconds = "" if self.seconds is None else f"{self.seconds:.1f} s"
        size = "" if self.size is None else f"  {self.size / 1e6:.1f} MB"
        return f"{self.status:<9} {seconds:>7}  {self.detail}{size}"


def table(lines: Collection[Line]) -> Iterator[str]:
    """The lines with their keys, one under the other."""
    width = max((len(line.key) for line in lines), default=0)
    return (f"{line.key:<{width}}  {line.words}".rstrip() for line in lines)


@attrs.define
class Batch:
    """Jobs with keys of their own, the new files for their videos, and what has become of them so far.

    It can be asked at any moment, also when a run was broken off.
    """

    jobs: Mapping[str, Job]
    targets: Mapping[str, Path]
    stopped_by: HailuoError | None = attrs.field(default=None, init=False)
    """What every further job would have met."""
    _lines: dict[str, Line] = attrs.field(factory=dict, init=False)
    _saving: int = attrs.field(default=0, init=False)
    _began_at: float = attrs.field(default=0.0, init=False)
    _downloads: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(_DOWNLOADS), init=False)

    @property
    def lines(self) -> list[Line]:
        """A line for each job, in their order."""
        rest = "unfinished" if self.stopped_by is None else "not sent"
        return [self._lines.get(key) or Line(key, rest, "") for key in self.jobs]

    @property
    def is_saved(self) -> bool:
        """Whether every video is there."""
        return all(line.is_saved for line in self.lines)

    async def run(self, session: AsyncSession, screen: Screen) -> None:
        """Sends the jobs and saves their videos. Each may be paid for.

        Raises the ``HailuoError`` that every further job would have met, after what runs has ended. Cancelled, it sends
        nothing more, and leaves what runs.
        """
        self._began_at = anyio.current_time()
        async with anyio.create_task_group() as showing:
            showing.start_soon(self._show, session, screen)
            await self._work(session)
            showing.cancel_scope.cancel()
        self._show_now(session, screen)
        if self.stopped_by is not None:
            raise self.stopped_by

    async def _work(self, session: AsyncSession) -> None:
        async with anyio.create_task_group() as saving:
            try:
                async with contextlib.aclosing(session.stream(self.jobs.values())) as outcomes:
                    async for outcome in outcomes:
                        if isinstance(outcome, Success):
                            self._saving += 1
                            saving.start_soon(self._save, session, outcome)
                        else:
                            self._note(_failed(outcome))
            except HailuoError as error:
                self.stopped_by = error

    async def _save(self, session: AsyncSession, success: Success) -> None:
        key, video = success.key or "", success.video
        try:
            async with self._downloads:
                path = await session.download(video, self.targets[key])
            size = (await anyio.Path(path).stat()).st_size
        except (HailuoError, OSError) as error:
            self._note(Line(key, "not saved", str(error), video.seconds_taken))
        else:
            self._note(Line(key, "saved", str(path), video.seconds_taken, size))
        finally:
            self._saving -= 1

    def _note(self, line: Line) -> None:
        self._lines[line.key] = line

    async def _show(self, session: AsyncSession, screen: Screen) -> None:
        while True:
            self._show_now(session, screen)
            await anyio.sleep(screen.every_s)

    def _show_now(self, session: AsyncSession, screen: Screen) -> None:
        saved = sum(line.is_saved for line in self._lines.values())
        tally = Tally.of(
            session.stats(),
            total=len(self.jobs),
            saving=self._saving,
            saved=saved,
            failed=len(self._lines) - saved,
            elapsed_s=anyio.current_time() - self._began_at,
        )
        screen.show(tally)


def _failed(failure: Failure) -> Line:
    status = "unknown" if isinstance(failure.error, SubmissionUnknownError) else "failed"
    return Line(failure.key or "", status, str(failure.error))
