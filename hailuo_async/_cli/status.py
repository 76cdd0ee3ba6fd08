"""What a journal says of its jobs, and its owner's word on those that are in doubt."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

import click

from hailuo_async import Journal, JournalState, Record
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.lines import error_facts, reason
from hailuo_async._cli.output import can_ask, echo, emit, json_line
from hailuo_async._io.journal import owner
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalPlace

#: A session wants a key. This one sends nothing.
_NO_KEY = "none"


def show(journal: JournalPlace, *, is_json: bool) -> int:
    """Tells how the jobs in ``journal`` stand, and returns the exit code. Raises ``JournalError``."""
    counts: Counter[JournalState] = Counter()
    doubtful: list[Record] = []
    with Journal.open(journal) as opened:
        for record in opened.records():
            state = _state(record)
            counts[state] += 1
            if is_json:
                emit(json_line(_facts(record, state)))
            elif state is JournalState.UNKNOWN:
                doubtful.append(record)
    if not is_json:
        for line in _table(journal, counts, doubtful):
            emit(line)
    if counts[JournalState.UNKNOWN]:
        return exit_codes.UNKNOWN
    return exit_codes.DONE if counts[JournalState.SUCCESS] == counts.total() else exit_codes.FAILED


def _state(record: Record) -> JournalState:
    """Where it stands. Left behind in the middle of its POST it is in doubt, as the next session will say, too."""
    is_left = record.state is JournalState.SENDING and (record.holder is None or owner.is_gone(record.holder))
    return JournalState.UNKNOWN if is_left else record.state


def _facts(record: Record, state: JournalState) -> dict[str, object]:
    return {
        "key": record.identity,
        "status": state,
        "path": record.saved_to,
        "task_id": record.task_id,
        "sent_at": record.sent_at,
        "accepted_at": record.accepted_at,
        "ended_at": record.ended_at,
        "error": error_facts(record.error),
    }


def _table(journal: JournalPlace, counts: Counter[JournalState], doubtful: Iterable[Record]) -> Iterator[str]:
    jobs = "job" if counts.total() == 1 else "jobs"
    yield f"{click.format_filename(str(journal))}: {counts.total()} {jobs}"
    yield from (f"{counts[state]:7} {state}" for state in JournalState if counts[state])
    for record in doubtful:
        sent = "" if record.sent_at is None else f"sent {datetime.fromtimestamp(record.sent_at):%Y-%m-%d %H:%M:%S}, "
        why = "the process that sent it has ended" if record.error is None else reason(record.error)
        yield f"{record.identity} may have been accepted and paid for: {sent}{why}"
    if counts[JournalState.UNKNOWN]:
        path = shlex.quote(str(journal))
        yield f"To decide: hailuo-async resolve {path} KEY --task-id ID | --resubmit | --forget"


async def decide(
    journal: JournalPlace, key: str, *, resubmit: bool, task_id: str | None, forget: bool, is_json: bool
) -> None:
    """Decides what becomes of the job ``key``, and tells it. Raises ``JobError``, ``JournalError``, ``ConfigError``."""
    async with AsyncSession(api_key=_NO_KEY, journal=journal) as session:
        await session.resolve(key, resubmit=resubmit, task_id=task_id, forget=forget)
    become = "forgotten" if forget else JournalState.INTENDED if resubmit else JournalState.ACCEPTED
    emit(json_line({"key": key, "status": become}) if is_json else f"{key}: {become}")
    if not forget:
        echo("Run the command that sent it again to go on.")


def agree_to_resubmit(key: str, *, is_agreed: bool) -> None:
    """Asks whether ``key`` may be paid for a second time. Leaves if not, or if there is nobody to ask."""
    if is_agreed:
        return
    if not can_ask():
        exit_codes.exit_with(exit_codes.USAGE, "nobody can be asked here whether to pay perhaps twice: give --yes")
    if not click.confirm(f"If {key} was accepted after all, it is paid for twice. Send it again?", err=True):
        exit_codes.exit_with(exit_codes.FAILED, "nothing was changed")
