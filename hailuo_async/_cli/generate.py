"""The command ``generate``: sends one job, names its task as soon as possible, waits for the video and saves it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import click

from hailuo_async import Generation
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.bill import read_fingerprint, read_records
from hailuo_async._cli.batch.results import JobResult, ResultLine, exit_code, failed, saved
from hailuo_async._cli.interrupts import interruptible
from hailuo_async._cli.jobfile.fields import IMAGE_RULE, find_image, picture_name
from hailuo_async._cli.jobfile.names import free_name
from hailuo_async._cli.money import dollars, price_of
from hailuo_async._cli.output import can_redraw, echo, emit, end_line, json_line
from hailuo_async._cli.targets import make_folder
from hailuo_async._images.frame import inspect_image
from hailuo_async._io.filenames import file_name, is_directory
from hailuo_async.errors import HailuoError, JobError, TaskExpiredError, TaskFailedError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.outcomes import Stats, Status, Video
from hailuo_async.prices import estimate
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalLocation

#: Seconds of video; longer ones take the service longer.
_USUAL_LENGTH_S = 6

_INTERRUPTED = {
    JobResult.NOT_SENT: "nothing was sent",
    JobResult.UNKNOWN: "it was sent, and perhaps accepted and paid for",
    JobResult.UNFINISHED: "it goes on at the service, and is paid for",
}


def build_job(image: str, last: str | None, options: dict[str, Any]) -> Job:
    """The job for these pictures and options. An option of ``None`` was not given. Raises ``JobError``."""
    given = {name: value for name, value in options.items() if value is not None}
    if last is None:
        return ImageToVideo(_source(image), **given)
    if "fast_pretreatment" in given:
        raise JobError(field="fast_pretreatment", value=True, rule="must be left out for a video with a last frame")
    return FirstLastFrameToVideo(_source(last), first_frame_image=_source(image), **given)


def _source(image: str) -> str | Path:
    source = find_image(image)
    if source is None:
        raise JobError(field="image", value=image, rule=IMAGE_RULE)
    return source


def name_for(image: str) -> str:
    """The name of a video for which none is given: that of its picture. Raises ``JobError``."""
    source = _source(image)
    name = picture_name(source)
    return name if isinstance(source, Path) else file_name(name or "video", "")


def choose_target(output: str | None, name: str, asked: Job | str, journal: JournalLocation | None) -> Path:
    """The file for the video: ``output``, or a new one in it if that is a directory, or here if it is ``None``.

    Makes the directory. Raises ``click.UsageError`` for one that cannot be written to and for a file that is there,
    unless ``journal`` has it as the video of what is ``asked``, and ``OSError`` for a directory that cannot be made or
    read.
    """
    given = os.path.expanduser(output or os.curdir)
    path = Path(given)
    if is_directory(given):
        make_folder(path)
        return path / free_name(name, {other.name for other in path.iterdir()}, ".mp4")
    make_folder(path.parent)
    if path.exists() and not _is_its_video(path, asked, journal):
        raise click.UsageError(
            f"{click.format_filename(path)} exists already, and is left alone: give another --output"
        )
    return path


def _is_its_video(path: Path, asked: Job | str, journal: JournalLocation | None) -> bool:
    """Whether the journal has ``path`` as the video of what is ``asked``: that is neither paid for nor saved again."""
    saved_there = [record for record in read_records(journal).values() if record.saved_to == str(path.absolute())]
    if isinstance(asked, str):
        return any(record.task_id == asked for record in saved_there)
    return bool(saved_there) and read_fingerprint(asked) in {record.fingerprint for record in saved_there}


def check_and_price(job: Job) -> str:
    """What ``job`` is about to cost. Looks at its pictures, so it blocks. Raises ``ImageError`` for one that is bad."""
    for field, image in job.frames.items():
        inspect_image(field, image, fit=job.fit)
    return f"To pay for: {job.duration} s of video, {price_of({estimate(job): 1})}."


@attrs.define(eq=False)
class SingleVideo:
    """One video to fetch: for a job that is sent, or for a task that was sent before."""

    asked: Job | str
    """The job, or the task's id."""
    target: Path
    journal: JournalLocation | None
    is_quiet: bool = False
    is_interrupted: bool = attrs.field(default=False, init=False)
    _generation: Generation | None = attrs.field(default=None, init=False)

    async def run(self, session: AsyncSession) -> ResultLine:
        """The result. A job is paid for, once. An interrupt closes the session; a task that runs goes on.

        Raises ``JobError``, ``ImageError`` and ``JournalError``, before anything is sent.
        """
        async with session:
            with anyio.CancelScope() as scope, interruptible(scope.cancel, scope.cancel):
                return await self._fetch(session)
            self.is_interrupted = True  # the session's end waits for the answer to a POST
        return self._left()

    async def _fetch(self, session: AsyncSession) -> ResultLine:
        asked = self.asked
        self._generation = generation = await (
            session.attach(asked) if isinstance(asked, str) else session.submit(asked)
        )
        with open_line(is_quiet=self.is_quiet) as show:
            async with anyio.create_task_group() as showing:
                showing.start_soon(self._show_life, generation, session, show)
                await self._echo_updates(generation)
                showing.cancel_scope.cancel()
        try:
            video = await generation
            path = await session.download(video, self.target)
        except HailuoError as error:
            return failed("", error)
        return await anyio.to_thread.run_sync(self._saved, video, path)

    def _saved(self, video: Video, path: Path) -> ResultLine:
        line = saved("", video, path)
        is_there = path.absolute() != self.target.absolute()
        return attrs.evolve(line, result=JobResult.THERE) if is_there else line

    async def _show_life(self, generation: Generation, session: AsyncSession, show: Callable[[str], None]) -> None:
        """Shows every second how long it has taken, and what it waits for."""
        began_at = anyio.current_time()
        while True:
            await anyio.sleep(1)
            message = f"{generation.status}; {usual(generation.job)}"
            if generation.status is Status.QUEUED:
                message = line_message(session.stats(), has_line=self.journal is not None)
            await anyio.to_thread.run_sync(show, f"{anyio.current_time() - began_at:6.0f} s  {message}")

    async def _echo_updates(self, generation: Generation) -> None:
        began_at = anyio.current_time()
        async for status in generation.updates():
            task = f", task {generation.task_id}" if generation.task_id else ""
            if not self.is_quiet:
                echo(f"{anyio.current_time() - began_at:6.1f} s  {status}{task}")

    def _left(self) -> ResultLine:
        """The result when the session was closed before the end."""
        generation = self._generation
        if generation is not None and generation.task_id is not None:
            return ResultLine(result=JobResult.UNFINISHED, task_id=generation.task_id)
        is_in_doubt = generation is not None and generation.status is Status.UNKNOWN
        return ResultLine(result=JobResult.UNKNOWN if is_in_doubt else JobResult.NOT_SENT)

    def report(self, line: ResultLine, *, is_json: bool, is_opened: bool = False) -> int:
        """Reports the result and how to go on, and returns the exit code."""
        if self.is_interrupted:
            end_line()
        if is_json:
            emit(json_line(line.facts))
        elif line.path is not None:
            emit(str(line.path))
        if line.error is not None:
            echo(f"hailuo-async: {line.error if line.result is not JobResult.UNFINISHED else line.detail}")
        elif self.is_interrupted:
            echo(f"hailuo-async: interrupted; {_INTERRUPTED[line.result]}")
        if advice := self._advice(line):
            echo(advice)
        if line.cost is not None and line.result is JobResult.SAVED and not self.is_quiet:
            echo(f"Cost: {dollars(line.cost)}")
        if is_opened and line.path is not None and click.launch(str(line.path)):
            echo(f"hailuo-async: nothing plays {click.format_filename(line.path)} here: open it yourself")
        if line.result is JobResult.THERE:
            return exit_codes.FAILED
        return exit_codes.INTERRUPTED if self.is_interrupted else exit_code([line.result])

    def _advice(self, line: ResultLine) -> str | None:
        journal = "" if self.journal is None else shlex.quote(str(self.journal))
        if line.result is JobResult.THERE:
            made = f"this video was made before and is {line.path}; {self.target} was not made"
            return f"hailuo-async: {made}. To make another, and pay for it, give another --journal, or none"
        if line.result is JobResult.UNKNOWN and journal:
            return f"To decide: hailuo-async status {journal}"
        if isinstance(line.error, TaskFailedError) and journal:
            return f"To make it again, and pay for it again: hailuo-async status {journal} says how"
        target, kept = shlex.quote(str(self.target)), f" --journal {journal}" if journal else ""
        fetch = f"hailuo-async generate --task-id {line.task_id or 'ID'} -o {target}{kept}"
        if line.result is JobResult.UNKNOWN:
            return f"Look at the service's dashboard. If it has the task, this fetches the video: {fetch}"
        has_ended = isinstance(line.error, TaskFailedError | TaskExpiredError)
        return None if line.path is not None or line.task_id is None or has_ended else f"To have the video: {fetch}"


# --- Life ---


def line_message(stats: Stats, *, has_line: bool) -> str:
    """What a queued job waits for; its place in the line if sessions share the journal."""
    place = f"number {stats.ahead + 1} in line" if has_line else "waits"
    slots = "the team's only slot" if stats.limit == 1 else f"one of the team's {stats.limit} slots"
    refusals = f"; refused {stats.refusals} times so far, which costs nothing" if stats.refusals else ""
    return f"{place} for {slots}{refusals}"


def usual(job: Job | None) -> str:
    """How long the service works on such a video, by its documents and its customers."""
    if job is not None and (job.duration > _USUAL_LENGTH_S or job.resolution == "1080P"):
        return "2 min and more are usual for 10 s or 1080P"
    return "30 s to 2 min are usual"


@contextlib.contextmanager
def open_line(*, is_quiet: bool) -> Iterator[Callable[[str], None]]:
    """Gives what draws one line anew, below the other output, if stderr is a terminal that can do so."""
    if is_quiet or not can_redraw(sys.stderr):
        yield lambda _: None
        return
    from rich.text import Text

    from hailuo_async._cli.batch.bar import open_live  # here, for Rich takes a while to import

    with open_live(is_transient=True) as draw:
        yield lambda message: draw(Text(message, overflow="ellipsis", no_wrap=True))
