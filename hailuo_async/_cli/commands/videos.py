"""The commands that make videos: ``generate``, ``batch``, ``demo``, ``serve``; and ``init``, for a file of jobs."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from hailuo_async._cli.commands import options
from hailuo_async._cli.exit_codes import DONE, nothing_sent
from hailuo_async._cli.output import echo
from hailuo_async.settings import JournalLocation


@click.command()
@click.argument("image", required=False)
@click.option("--last", metavar="IMAGE", help="The picture that the video ends on.")
@click.option("-o", "--output", metavar="FILE", help="Where the video goes. Without it: here, named like the picture.")
@options.job_options
@click.option("--task-id", metavar="ID", help="Fetch the video of a task that was sent before, without paying again.")
@options.journal("Remember the job here: run again, it is not sent again.")
@options.timeout
@click.option("--open", "is_opened", is_flag=True, help="Play the video when it is there.")
@options.dry_run
@options.quiet
@options.key_file
@options.json
def generate(image: str | None, last: str | None, task_id: str | None, **given: Any) -> None:
    """Make one video from a picture.

    IMAGE is a file or an http(s) URL; for a folder of pictures, use 'hailuo-async batch'. The video is paid for. The
    command prints the task's id as soon as there is one and, at the end, where it saved the video.

    Ctrl-C stops waiting. The task goes on at the service, and --task-id fetches its video later.
    """
    from hailuo_async._cli.generate import SingleVideo, build_job, check_and_price, choose_target, name_for
    from hailuo_async._cli.keys import open_session

    fields = options.job_fields(given)
    if task_id is not None:
        if image is not None or last is not None:
            raise click.UsageError("give an IMAGE or a --task-id, not both")
        asked: Any = task_id
    elif image is None:
        raise click.UsageError("give an IMAGE, or the --task-id of what was sent before")
    elif os.path.isdir(image):
        raise click.UsageError(
            f"{image} is a folder: 'hailuo-async batch {shlex.quote(image)}' makes a video of each picture in it"
        )
    else:
        asked = build_job(image, last, fields)
    if given["dry_run"]:
        echo(check_and_price(asked) if task_id is None else "Nothing to pay for.")
        sys.exit(DONE)
    journal = given["journal"]
    target = choose_target(given["output"], name_for(image) if image else str(task_id), asked, journal)
    single = SingleVideo(asked, target, journal, given["quiet"])
    session = open_session(given["key_file"], journal=journal, timeout=given["timeout"])
    line = asyncio.run(single.run(session))
    sys.exit(single.report(line, is_json=given["is_json"], is_opened=given["is_opened"]))


@click.command()
@click.argument("jobs", type=options.FilePath(exists=True, allow_dash=True))
@options.job_options
@options.count("--takes", "Make N of each.")
@click.option("--recursive", "is_recursive", is_flag=True, help="Take the pictures of folders in FOLDER, too.")
@click.option("--skip-bad", is_flag=True, help="Go on without what cannot be used.")
@click.option(
    "--encoding",
    metavar="NAME",
    type=options.encoding,
    help="What the file is written in, such as cp1252, if that is unclear.",
)
@options.output
@options.journal(f"Remembers the jobs. [default: {options.JOURNAL_NAME} in FOLDER]")
@options.max_running
@options.count("--max-jobs", "Pay for at most N, and do not ask.")
@options.max_cost
@options.timeout
@click.option("--retry-failed", is_flag=True, help="Make again what the service gave up. It is paid for again.")
@click.option("--retry-unknown", is_flag=True, help="Send again what may have been accepted, and be PAID FOR TWICE.")
@click.option("--redo", metavar="KEY", multiple=True, help="Make this job anew, and pay for it again. May be repeated.")
@options.dry_run
@options.quiet
@options.yes
@options.key_file
@options.json
def batch(jobs: Path, **given: Any) -> None:
    """Make the videos of a folder or a file of jobs.

    JOBS is a folder of pictures, a file whose name ends in .csv, .jsonl or .json, or - for stdin. An option
    counts for each job that does not set its own value. In a prompt, {name} is the picture's name, and {column} the
    value in that column. 'hailuo-async init FOLDER > jobs.csv' writes a file to begin with.

    The command checks everything before it sends anything; then it shows the cost, and asks. After an
    interruption, run the command again, and it goes on: nothing is paid for twice.

    Ctrl-C once: it sends nothing more, waits for what runs, and saves that. Twice: it quits at once.
    """
    from hailuo_async._cli.batch.prepare import prepare
    from hailuo_async._cli.batch.run import run_batch
    from hailuo_async._cli.keys import open_session

    with nothing_sent():
        plan = prepare(jobs, options.job_fields(given), given)
    if given["dry_run"]:
        plan.show_cost()
        sys.exit(DONE)
    settings = {name: given[name] for name in ("max_running", "timeout", "max_jobs", "max_cost")}
    session = open_session(given["key_file"], journal=plan.journal, **settings)
    sys.exit(run_batch(plan, session, is_agreed=given["is_agreed"]))


@click.command()
@click.argument("folder", type=options.FilePath(exists=True, file_okay=False))
@click.option("--recursive", "is_recursive", is_flag=True, help="Take the pictures of folders in FOLDER, too.")
def init(folder: Path, is_recursive: bool) -> None:
    """Write a file of jobs for the pictures of FOLDER, to edit.

    It is CSV, as a spreadsheet opens it, and goes to stdout: hailuo-async init FOLDER > jobs.csv
    """
    from hailuo_async._cli.init import write_job_file

    write_job_file(folder, is_recursive=is_recursive)


@click.command()
@click.argument("folder", required=False, type=options.FilePath(exists=True, file_okay=False))
@options.output
@options.count("--jobs", "Make N videos, of the same pictures in turn.")
@options.max_running
@click.option("--real", "is_real", is_flag=True, help="Send to the real service, which is paid for.")
@click.option("--page", "is_page", is_flag=True, help="Show them on a page in your browser, and stay until Ctrl-C.")
@options.dry_run
@options.yes
@options.key_file
@options.json
def demo(folder: Path | None, output: Path, jobs: int | None, max_running: int | None, **given: Any) -> NoReturn:
    """Make videos of a few pictures, to see how it goes.

    It makes one video of each picture in FOLDER, and one from the first picture to the second.

    Without FOLDER it draws four pictures itself. Without --real an emulator of the service answers: no key, no network,
    and nothing to pay for.

    Run it twice and you have the videos twice: the second dawn.mp4 becomes dawn-2.mp4. With --real it is the other way
    round: the output folder remembers what was sent, and the second run pays only for what is missing.
    """
    from hailuo_async._cli import demo as work
    from hailuo_async._cli.batch.run import run_batch
    from hailuo_async._cli.keys import open_session

    plan = work.read_plan(folder, jobs)
    if not plan.jobs and not plan.unusable:
        raise click.UsageError(f"there is no JPEG, PNG or WebP picture in {folder}")
    is_real = given["is_real"]
    if given["is_page"]:
        if is_real:
            raise click.UsageError("--page shows the emulator's videos: for the real service use 'serve'")
        work.show_page(plan, max_running)
        sys.exit(DONE)
    batch_plan = work.build_batch_plan(plan, output, is_real=is_real, is_json=given["is_json"])
    if given["dry_run"] and not is_real:
        echo("With the emulator nothing is paid for; with --real it would be:")
    if given["dry_run"]:
        batch_plan.show_cost()
        sys.exit(DONE)
    if not is_real:
        echo("An emulator of the service answers: nothing leaves this machine, nothing is paid for.")
        sys.exit(run_batch(batch_plan, work.emulated_session(max_running), is_agreed=True))
    session = open_session(given["key_file"], journal=batch_plan.journal, max_running=max_running)
    sys.exit(run_batch(batch_plan, session, is_agreed=given["is_agreed"]))


@click.command()
@options.output
@options.journal(f"Remembers the jobs. [default: {options.JOURNAL_NAME} in FOLDER]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs --token as well.")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--token", is_flag=False, flag_value="", help="What a visitor has to give. Without a value, one is made.")
@options.max_running
@options.key_file
def serve(
    output: Path,
    journal: JournalLocation | None,
    host: str,
    port: int,
    token: str | None,
    max_running: int | None,
    key_file: Path | None,
) -> None:
    """Serve a page: make videos, watch them and play them.

    Only this machine reaches it, unless there is a --token. Each video that the page makes is paid for. The page shows
    the jobs of the journal, also those of a batch that runs meanwhile. Ctrl-C ends it; tasks that run go on at the
    service.
    """
    from hailuo_async._cli.serve import check_address, page_over, serve_page

    address = check_address(host, port, token)
    page = page_over(key_file, journal or output / options.JOURNAL_NAME, output, max_running)
    serve_page(page, address)
