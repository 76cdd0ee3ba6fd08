"""The commands about what was sent: ``status`` and ``resolve``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, NoReturn

import click

from hailuo_async._cli.commands import options
from hailuo_async.settings import JournalLocation


@click.command()
@click.argument(
    "journal", default=str(options.DEFAULT_OUTPUT / options.JOURNAL_NAME), type=options.JournalPath(exists=True)
)
@click.option("--watch", "is_watched", is_flag=True, help="Show it again every two seconds, until all is done.")
@options.json
def status(journal: JournalLocation, is_watched: bool, is_json: bool) -> NoReturn:
    """Show how the jobs of a journal stand.

    Names the jobs that failed or wait for your decision, with their reasons, and what was spent. Works while a batch
    runs. JOURNAL is a file or a PostgreSQL DSN. Without JOURNAL: videos/batch.db.
    """
    from hailuo_async._cli.status import show_jobs

    sys.exit(show_jobs(journal, is_json=is_json, is_watched=is_watched))


@click.command()
@click.argument("journal", type=options.JournalPath(exists=True))
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=options.complete_key)
@click.option("--task-id", metavar="ID", help="The service did accept it, under this id.")
@click.option("--resubmit", is_flag=True, help="Send it again. If it was paid for before, it is paid for again.")
@click.option("--forget", is_flag=True, help="Remove it from the journal. Given again, it is a new job.")
@options.yes
@options.json
def resolve(journal: JournalLocation, keys: tuple[str, ...], task_id: str | None, **given: Any) -> None:
    """Decide on jobs whose outcome is unknown, or that failed.

    Each KEY names a job in JOURNAL, a file or a PostgreSQL DSN. If its outcome is unknown, first look for it on the
    service's dashboard. This command sends nothing: to go on, run again the command that sent the job.
    """
    from hailuo_async._cli.status import confirm_resubmit, decide

    if (task_id is not None) + given["resubmit"] + given["forget"] != 1:
        raise click.UsageError("give one of --task-id, --resubmit and --forget")
    if task_id is not None and len(keys) > 1:
        raise click.UsageError("a task has one job: give one KEY with --task-id")
    if given["resubmit"]:
        confirm_resubmit(journal, keys, is_agreed=given["is_agreed"])
    asyncio.run(decide(journal, keys, task_id, given["resubmit"], given["forget"], is_json=given["is_json"]))
