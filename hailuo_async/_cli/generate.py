"""One video: sent, waited for and saved, and its task named as soon as it is known."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import attrs
import click

from hailuo_async import Generation
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.bill import read_records
from hailuo_async._cli.batch.lines import JobResult, ResultLine, exit_code, failed
from hailuo_async._cli.interrupts import interruptible
from hailuo_async._cli.output import echo, emit, end_line, json_line
from hailuo_async._cli.plan import free_name
from hailuo_async._cli.targets import make_folder
from hailuo_async._io.filenames import file_name, is_directory
from hailuo_async.errors import HailuoError, JobError, TaskExpiredError, TaskFailedError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.outcomes import Status
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalPlace

_INTERRUPTED = {
    JobResult.NOT_SENT: "nothing was sent",
    JobResult.UNKNOWN: "it was sent, and perhaps accepted and paid for",
    JobResult.UNFINISHED: "it goes on at the service, and is paid for",
}


def build_job(image: str, last: str | None, options: dict[str, Any]) -> Job:
    """The job that was asked for. An option that is ``None`` was not given. Raises ``JobError``."""
    given = {name: value for name, value in options.items() if value is not None}
    if last is None:
        return ImageToVideo(_source(image), **given)
    if "fast_pretreatment" in given:
        raise JobError(field="fast_pretreatment", value=True, rule="must be left out for a video with a last frame")
    return FirstLastFrameToVideo(_source(last), first_frame_image=_source(image), **given)


def _source(image: str) -> str | Path:
    """An http(s) URL as it is, and anything else as the path of a file."""
    return image if image.lower().startswith(("http://", "https://")) else Path(image)


def name_for(image: str) -> str:
    """What a video from ``image`` is called, unless it is told: like the picture."""
    source = _source(image)
    return source.stem if isinstance(source, Path) else file_name(Path(urlsplit(source).path).stem or "video", "")


def choose_target(output: str | None, name: str, journal: JournalPlace | None) -> Path:
    """The file for the video: ``output``, or a new one in it if that is a directory, or here if it is ``None``.

    Makes the directory. Raises ``click.UsageError`` for one that cannot be written to and for a file that is there,
    unless it is what ``journal`` has as saved before, and ``OSError`` for a directory that cannot be made or read.
    """
    path = Path(output or os.curdir)
    if is_directory(output or os.curdir):
        make_folder(path)
        return path / free_name(name, {other.name for other in path.iterdir()}, ".mp4")
    make_folder(path.parent)
    saved_before = {record.saved_to for record in read_records(journal).values()} if path.exists() else set()
    if path.exists() and str(path.absolute()) not in saved_before:
        raise click.UsageError(
            f"{click.format_filename(path)} exists already, and is left alone: give another --output"
        )
    return path


@attrs.define(eq=False)
class SingleVideo:
    """One video to fetch: for a job that is sent, or for a task that was sent before."""

    asked: Job | str
    """The job, or the task's id."""
    target: Path
    journal: JournalPlace | None
    is_interrupted: bool = attrs.field(default=False, init=False)
    _generation: Generation | None = attrs.field(default=None, init=False)

    async def run(self, session: AsyncSession) -> ResultLine:
        """What became of it. A job is paid for, once. An interrupt closes the session; what was sent goes on.

        Raises ``JobError``, ``ImageError`` and ``JournalError``, before anything is sent.
        """
        async with session:
            with anyio.CancelScope() as scope, interruptible(scope.cancel, scope.cancel):
                return await self._fetch(session)
            self.is_interrupted = True  # the session's end waits for the answer to a POST
        return self._left()

    async def _fetch(self, session: AsyncSession) -> ResultLine:
        began_at = anyio.current_time()
        asked = self.asked
        self._generation = generation = await (
            session.attach(asked) if isinstance(asked, str) else session.submit(asked)
        )
        async for status in generation.updates():
            task = f", task {generation.task_id}" if generation.task_id else ""
            echo(f"{anyio.current_time() - began_at:6.1f} s  {status}{task}")
        try:
            video = await generation
            path = await session.download(video, self.target)
        except HailuoError as error:
            return failed("", error)
        size = (await anyio.Path(path).stat()).st_size
        return ResultLine(
            result=JobResult.SAVED, path=path, task_id=video.task_id, seconds_taken=video.seconds_taken, size=size
        )

    def _left(self) -> ResultLine:
        """How it stood when the session was closed."""
        generation = self._generation
        if generation is not None and generation.task_id is not None:
            return ResultLine(result=JobResult.UNFINISHED, task_id=generation.task_id)
        is_in_doubt = generation is not None and generation.status is Status.UNKNOWN
        return ResultLine(result=JobResult.UNKNOWN if is_in_doubt else JobResult.NOT_SENT)

    def report(self, line: ResultLine, *, is_json: bool) -> int:
        """Tells what became of it and how to go on with it, and returns the exit code."""
        if self.is_interrupted:
            end_line()
        if is_json:
            emit(json_line(line.facts))
        elif line.path is not None:
            emit(str(line.path))
        if line.error is not None:
            echo(f"hailuo-async: {line.error}")
        elif self.is_interrupted:
            echo(f"hailuo-async: interrupted; {_INTERRUPTED[line.result]}")
        if advice := self._advice(line):
            echo(advice)
        return exit_codes.INTERRUPTED if self.is_interrupted else exit_code([line.result])

    def _advice(self, line: ResultLine) -> str | None:
        journal = "" if self.journal is None else shlex.quote(str(self.journal))
        if line.result is JobResult.UNKNOWN and journal:
            return f"To decide: hailuo-async status {journal}"
        target, kept = shlex.quote(str(self.target)), f" --journal {journal}" if journal else ""
        fetch = f"hailuo-async generate --task-id {line.task_id or 'ID'} -o {target}{kept}"
        if line.result is JobResult.UNKNOWN:
            return f"Look at the service's dashboard. If it has the task, this fetches the video: {fetch}"
        has_ended = isinstance(line.error, TaskFailedError | TaskExpiredError)
        return None if line.path is not None or line.task_id is None or has_ended else f"To have the video: {fetch}"
