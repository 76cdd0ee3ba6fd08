"""The files of one stream's videos, checked before a job is paid for.

A path that is taken, or that cannot be written, stops its job before it costs anything. The check counts only for a job
that would be sent: if an earlier run has paid for the job, the existing file is its video. Two jobs of one stream that
are under way cannot share a file either, unless the journal knows them as one job.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakValueDictionary

import anyio.to_thread
import attrs

from hailuo_async._engine.arguments import SaveAs
from hailuo_async._engine.results import Results
from hailuo_async._io.filenames import check_target, make_directory, target_for
from hailuo_async.errors import ConfigError, DownloadError
from hailuo_async.jobs import Job, check_job
from hailuo_async.outcomes import Outcome, Success


@attrs.define(eq=False)
class Target:
    """Where one job's video is saved."""

    key: str | None
    path: Path
    """A file, or a directory in which the job's key or the task id names the file."""
    file: Path | None
    """The file; ``None`` while only the task id will name it."""
    is_taken: bool
    """Whether another job of the stream, under way, has this file."""

    async def find_fault(self) -> DownloadError | None:
        """Why the video could not be saved, as far as that is known before it is paid for."""
        if self.file is None:
            return None
        if self.is_taken:
            reason = "another job of this stream is saved there: give each job a path, or a key, of its own"
            return DownloadError(reason=reason, path=str(self.file))
        try:
            await anyio.to_thread.run_sync(check_target, self.file)
        except DownloadError as fault:
            return fault
        return None


@attrs.define(eq=False)
class Saving:
    """Saves the videos of one stream: all in ``directory``, or each where ``save_as`` says."""

    _results: Results
    _directory: Path | None
    _save_as: SaveAs | None
    _has_journal: bool
    _targets: WeakValueDictionary[Path, Target] = attrs.field(factory=WeakValueDictionary, init=False)
    """The targets of the jobs under way, by file. Weak references, so that a target goes when its job is saved."""

    async def begin(self) -> None:
        """Makes the directory, if there is one to make. Raises ``DownloadError`` if it cannot hold files."""
        if self._directory is not None:
            await anyio.to_thread.run_sync(make_directory, self._directory)

    def target(self, item: object) -> Target:
        """Where the video of ``item`` is saved. Raises ``JobError`` if that is not a job, ``ConfigError`` for no path.

        Exceptions of a callable ``save_as`` are passed on.
        """
        job = check_job(item)
        if self._save_as is None:
            path = self._directory or Path()
            # Without a key the task id names the file, and there is no task yet.
            file = None if job.key is None else target_for(path, is_directory=True, key=job.key, task_id="")
        else:
            path = file = _path_by(self._save_as, job)
        other = None if file is None else self._targets.get(file)
        target = Target(job.key, path, file, is_taken=other is not None and not self._is_one_job(job.key, other.key))
        if file is not None and other is None:
            self._targets[file] = target
        return target

    def _is_one_job(self, key: str | None, other: str | None) -> bool:
        """Whether the journal knows two jobs as one, which is sent once and has two outcomes."""
        return self._has_journal and key is not None and key == other

    async def save(self, success: Success, target: Target) -> Outcome:
        """``success`` with its video saved, or the ``Failure``; unchanged if the session ends."""
        directory = target.path if self._save_as is None else target.path.parent
        return await self._results.save_outcome(target.path, success, directory)


def _path_by(save_as: SaveAs, job: Job) -> Path:
    if isinstance(save_as, Mapping):
        if job.key is None or job.key not in save_as:
            raise ConfigError(field="save_as", value=job.key, rule="must have a path for the key of each job")
        given: object = save_as[job.key]
    else:
        given = save_as(job)
    path = os.fsdecode(given) if isinstance(given, str | os.PathLike) else ""
    if not path or "\0" in path:
        raise ConfigError(field="save_as", value=given, rule="must give each job a file path, a str or a PathLike")
    return Path(path)
