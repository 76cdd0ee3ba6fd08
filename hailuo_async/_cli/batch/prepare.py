"""Turns the arguments of ``batch`` into its jobs: reads and checks everything, and sends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from hailuo_async import JournalState, Record
from hailuo_async._cli.batch.batch import BatchPlan
from hailuo_async._cli.batch.bill import read_fingerprint, read_records, saved_path
from hailuo_async._cli.batch.results import JobResult, ResultLine, line_on_record
from hailuo_async._cli.commands.options import JOURNAL_NAME
from hailuo_async._cli.exit_codes import USAGE, exit_with
from hailuo_async._cli.jobfile.fields import TAKEN, kind_of
from hailuo_async._cli.jobfile.joblist import JobList, ReadOptions, read_jobs
from hailuo_async._cli.jobfile.text import STDIN
from hailuo_async._cli.output import echo
from hailuo_async._cli.problems import Problem
from hailuo_async._cli.targets import TargetFiles
from hailuo_async.errors import ImageError, JobError
from hailuo_async.jobs import Job

#: So many places with the same problem are named.
_NAMED = 8


def prepare(source: Path, fields: Mapping[str, Any], given: Mapping[str, Any]) -> BatchPlan:
    """The plan for the jobs in ``source``. ``fields`` are options of jobs, ``given`` those of the command.

    Prints what the user should know. If anything is wrong, prints all of it, and exits. Raises ``OSError``,
    ``JobError``, ``ConfigError``, ``JournalError`` and ``click.UsageError``.
    """
    check_fields(fields)
    journal = given["journal"] or given["output"] / JOURNAL_NAME
    records, redo = read_records(journal), frozenset(given["redo"])

    def is_made(key: str) -> bool:
        return key not in redo and key in records and saved_path(records[key]) is not None

    jobs = _read(source, fields, given, is_made)
    states = _look_up(jobs, records, redo)
    if unknown := sorted(redo - states.keys()):
        raise click.UsageError(f"--redo {unknown[0]} names no job of {click.format_filename(source)}")

    def keys_in(*wanted: JournalState) -> set[str]:
        return {key for key, state in states.items() if state in wanted and key not in redo}

    failed = keys_in(JournalState.FAILED) if given["retry_failed"] else set()
    doubtful = keys_in(JournalState.UNKNOWN, JournalState.SENDING) if given["retry_unknown"] else set()
    return BatchPlan(
        entries=jobs.entries,
        total=len(jobs),
        targets=TargetFiles(given["output"], jobs.alike, redo, _near(jobs, redo)),
        output=given["output"],
        journal=journal,
        left_out=(*_unusable(jobs.problems), *(_there(records[key]) for key in jobs.made)),
        redo=frozenset(key for key in redo if states[key] is not None),
        resubmit=frozenset(failed | doubtful),
        doubtful=frozenset(doubtful),
        max_jobs=given["max_jobs"],
        max_cost=given["max_cost"],
        is_json=given["is_json"],
        is_quiet=given["quiet"],
    )


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises ``JobError`` for an option that no job can have: once, not for every picture."""
    kind = kind_of(fields)
    kind(
        Path("picture"),
        **{
            name: value
            for name, value in fields.items()
            if name in TAKEN[kind] and (name != "prompt" or "{" not in str(value))
        },
    )


def _read(source: Path, fields: Mapping[str, Any], given: Mapping[str, Any], is_made: Callable[[str], bool]) -> JobList:
    options = ReadOptions(
        is_made=is_made,
        defaults=fields,
        takes=given["takes"] or 1,
        is_recursive=given["is_recursive"],
        encoding=given["encoding"],
    )
    read = read_jobs(source, options)
    for note in () if given["quiet"] else read.notes:
        echo(str(note))
    _tell(read.problems)
    is_fatal = any(problem.is_whole for problem in read.problems) or not (given["skip_bad"] and read.rows)
    if read.problems and is_fatal:
        name = "stdin" if source == STDIN else click.format_filename(source)
        exit_with(USAGE, f"{len(read.problems)} to correct in {name}; nothing was sent{_way_out(read)}")
    return read


def _tell(problems: Sequence[Problem]) -> None:
    """Prints the problems. Of many equal ones it names the first places, and counts the others."""
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.message] += 1
        if counts[problem.message] <= _NAMED:
            echo(str(problem))
    for message, count in counts.items():
        if count > _NAMED:
            echo(f"and {count - _NAMED} more: {message}")


def _way_out(read: JobList) -> str:
    """The options with which the batch can go on in spite of the problems."""
    if any(problem.is_whole for problem in read.problems):
        return ""
    skip = "--skip-bad goes on without them" if read.rows else ""
    can_fit = any(problem.can_fit for problem in read.problems)
    ways = [skip, "--fit makes such pictures obey" if can_fit else ""]
    return "".join(f"; {way}" for way in ways if way)


def _unusable(problems: Sequence[Problem]) -> tuple[ResultLine, ...]:
    """A line for each row or picture that was left out."""
    first = {problem.where.partition(", column ")[0]: problem for problem in reversed(problems)}
    return tuple(
        ResultLine(
            key=place,
            result=JobResult.UNUSABLE,
            error=JobError(field=problem.field or "picture", value=None, rule=problem.message),
        )
        for place, problem in reversed(first.items())
    )


def _there(record: Record) -> ResultLine:
    """The line for a row without its picture, whose video is there."""
    return attrs.evolve(line_on_record(record), result=JobResult.THERE)


# --- Jobs that the journal knows ---


def _look_up(jobs: JobList, records: Mapping[str, Record], redo: Collection[str]) -> dict[str, JournalState | None]:
    """How the jobs stand that the journal knows, by key; ``None`` for one of ``redo`` that it does not know.

    Exits if a job is not the one that has its key there.
    """
    states: dict[str, JournalState | None] = {}
    edited = 0
    for entry in jobs.entries() if records or redo else ():
        record = records.get(entry.key)
        if record is not None or entry.key in redo:
            states[entry.key] = None if record is None else record.state
        if record is not None and entry.key not in redo and _is_edited(entry.job, record):
            edited += 1
            rule = "was sent before for another picture, prompt or option"
            advice = f"give it another key, or --redo {entry.key} to make it anew, which is paid for"
            echo(f"{entry.place}: key {entry.key!r} {rule}: {advice}")
    if edited:
        exit_with(USAGE, f"{edited} changed under a known key; nothing was sent")
    return states


def _near(jobs: JobList, redo: Collection[str]) -> list[str]:
    """The keys that begin like one of ``redo``."""
    return [entry.key for entry in jobs.entries() if entry.key.startswith(tuple(redo))] if redo else []


def _is_edited(job: Job, record: Record) -> bool:
    if record.fingerprint is None or record.state is JournalState.REFUSED:  # refused, it cost nothing: its key is free
        return False
    try:
        return read_fingerprint(job) != record.fingerprint
    except ImageError:
        return False
