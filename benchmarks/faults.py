"""What goes wrong, and what it costs: of each job, was it paid for once, and does its caller know of it?

Every client is taken as it comes, driven by the shortest way that its documentation offers to have a video made. (Where
one call does it all, a caller who makes two of it, and keeps the id in between, loses less.) The server's ledger says
what was accepted, and the callers' outcomes are compared with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs

from benchmarks.figures import Figure
from benchmarks.peers.clients import Setup
from benchmarks.peers.processes import BrokenClientError, Report, Told, run
from benchmarks.peers.server import Options
from benchmarks.peers.subjects import DEFAULTS, MISUSED, OURS, Subject

JOBS = 3
_PENDING_S = 0.2
#: A video takes longer than any service holds the answer to a POST (Replicate: 60 s), so nothing is held here.
_OPTIONS = Options(pending_s=_PENDING_S, holds_s=0.0)
#: Clients at work at once. Nothing here is timed.
_AT_ONCE = 8
_SHOWN_CHARACTERS = 80


@attrs.frozen
class Fault:
    """What goes wrong. ``how`` the jobs are made is a function of ``benchmarks.peers.child``."""

    name: str
    how: str
    options: Options
    subjects: Sequence[Subject] = (OURS, *DEFAULTS)


FAULTS = (
    Fault(
        "each job's first POST is accepted, and the connection dropped",
        "suffer",
        attrs.evolve(_OPTIONS, lost_answers=1),
    ),
    Fault("every POST is accepted, and the connection dropped", "suffer", attrs.evolve(_OPTIONS, lost_answers=1000)),
    Fault("each task's first query answers 500", "suffer", attrs.evolve(_OPTIONS, failed_queries=1)),
    Fault("three loops, one after the other", "over_loops", _OPTIONS, (OURS, MISUSED, *DEFAULTS)),
)


def measure_faults(faults: Sequence[Fault] = FAULTS) -> list[Figure]:
    """A figure for each fault and client, with what `count` counts. Takes about a minute: some clients are patient."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        figures = [threads.submit(_measure, fault, subject) for fault in faults for subject in fault.subjects]
        return [figure.result() for figure in figures]


def _measure(fault: Fault, subject: Subject) -> Figure:
    values, note = dict[str, float](), subject.problem
    if not note:
        setup = Setup(base_url="", jobs=JOBS, pending_s=_PENDING_S)
        try:
            report = run(fault.how, subject.where, subject.client, fault.options, setup)
            values, note = count(report), "; ".join([subject.calls, *_errors(report.told)])
        except BrokenClientError as error:
            note = f"failed: {error}"
    return Figure(subject=str(subject), case=fault.name, values=values, note=note)


def count(report: Report) -> dict[str, float]:
    """What became of the jobs.

    ``jobs_lost`` were accepted, and their callers have no video, no task id, and no word that this may be so;
    ``jobs_paid_twice`` were accepted more than once. ``tasks_leaked`` are all tasks that no caller knows, though some
    may belong to jobs that have a video. ``jobs_in_doubt`` are those whose callers learned that they may have been
    accepted. ``jobs_not_sent`` ended in an error before the service had accepted anything.
    """
    jobs = [(told, report.ledger.accepted.get(f"job {number}", [])) for number, told in enumerate(report.told)]
    return {
        "posts_per_job": report.ledger.posts / len(jobs),
        "videos": sum(told.word == "video" for told, _ in jobs),
        "jobs_in_doubt": sum(told.word == "doubt" for told, _ in jobs),
        "jobs_not_sent": sum(told.word == "error" and not tasks for told, tasks in jobs),
        "jobs_lost": sum(told.word == "error" and not told.task_id and bool(tasks) for told, tasks in jobs),
        "jobs_paid_twice": sum(len(tasks) > 1 for _, tasks in jobs),
        "tasks_leaked": sum(len(set(tasks) - {told.task_id}) for told, tasks in jobs if told.word != "doubt"),
    }


def _errors(told: Sequence[Told]) -> list[str]:
    """What callers saw, on one line each."""
    seen = Counter(" ".join(each.error.split())[:_SHOWN_CHARACTERS] for each in told if each.error)
    return [f"{times} x {error}" for error, times in seen.most_common()]
