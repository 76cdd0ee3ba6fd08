"""The command line: ``hailuo-async``, also ``python -m hailuo_async``. Its libraries come with the extra ``cli``.

Here is what can be given to each command; what they do stands in ``hailuo_async._cli``, and is imported when it is
called for, so that ``--help`` is quick. What came out goes to stdout, and everything else to stderr. The exit codes are
the same for every command: ``_cli.exit_codes`` tells what they mean.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

try:
    import click
except ModuleNotFoundError:
    sys.exit("hailuo-async: the command line needs the extra 'cli': pip install 'hailuo-async[cli]'")

from hailuo_async import __version__
from hailuo_async._cli.exit_codes import DONE, FAILED, USAGE, exit_with, report_errors
from hailuo_async._cli.output import echo, emit, log_to_stderr
from hailuo_async.errors import ConfigError
from hailuo_async.models import MODELS
from hailuo_async.settings import JournalPlace, journal_place

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Where ``batch`` saves, and where it keeps its journal there, unless it is told otherwise.
_OUTPUT, _JOURNAL_NAME = Path("videos"), "batch.db"

_EXIT_CODES = """\b
Exit codes:
  0    all is done
  1    some of it failed, or was not done
  2    it cannot be run as it was given; nothing was sent
  3    nobody knows of some job whether it was accepted, and is paid for
  130  interrupted"""


class _Commands(click.Group):
    """The commands, whose errors all end in one line and the right code."""

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        """Reads what stands before the command, and tells ``--help``."""
        with report_errors(is_debug=False):
            return super().make_context(*given, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        is_debug = ctx.params["debug"]
        level = logging.DEBUG if is_debug else logging.INFO if ctx.params["verbose"] else logging.WARNING
        with log_to_stderr(level), report_errors(is_debug=is_debug):
            return super().invoke(ctx)


# --- Options that several commands have ---


def _file(*, exists: bool = False) -> click.Path:
    return click.Path(exists=exists, dir_okay=False, path_type=Path)


def _place(value: object) -> JournalPlace:
    """A file that may not be there yet, or the DSN of a PostgreSQL database. A password is not told again."""
    try:
        place = journal_place(value)
    except ConfigError as error:
        raise click.BadParameter(error.rule) from None
    return Path(os.fsdecode(_file().convert(place, None, None))) if isinstance(place, Path) else place


def _known_place(value: object) -> JournalPlace:
    """The same, for a file that is there."""
    place = _place(value)
    if isinstance(place, Path):
        _file(exists=True).convert(place, None, None)
    return place


def _journal(help: str) -> Callable[[_Command], _Command]:
    return click.option("--journal", metavar="FILE|DSN", type=_place, help=help)


def _count(name: str, help: str) -> Callable[[_Command], _Command]:
    return click.option(name, metavar="N", type=click.IntRange(min=1), help=help)


_json = click.option("--json", "is_json", is_flag=True, help="One JSON object a line on stdout, for machines.")
_yes = click.option("--yes", "is_agreed", is_flag=True, help="Do not ask before paying.")
_key_file = click.option(
    "--key-file", metavar="FILE", type=_file(), help="Holds the API key. Without it: MODELLIX_API_KEY, or a prompt."
)
_max_running = _count("--max-running", "Run at most N at once. Without it the service's own limit is found.")
_output = click.option(
    "--output",
    metavar="FOLDER",
    default=_OUTPUT,
    show_default=True,
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Where the videos go. Files that are there are left alone.",
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="hailuo-async")
@click.option("-v", "--verbose", is_flag=True, help="Tell more of what is going on.")
@click.option("--debug", is_flag=True, help="Tell everything, and show where errors come from.")
def main(verbose: bool, debug: bool) -> None:
    """Videos from images, through MiniMax's Hailuo models on the Modellix API."""


# --- Videos ---


@main.command()
@click.argument("image", required=False)
@click.option("--last", metavar="IMAGE", help="The picture that the video ends on.")
@click.option("--prompt", metavar="TEXT", help='What happens. May hold camera commands: "[Push in] the cat looks up".')
@click.option("-o", "--output", metavar="FILE", help="Where the video goes. Without it: here, named like the picture.")
@click.option("--model", metavar="NAME", help=f"One of {', '.join(MODELS)}, or a whole path.")
@click.option("--duration", metavar="SECONDS", type=int, help="6 or 10.")
@click.option("--resolution", metavar="NAME", help="768P or 1080P; 1080P only for 6 seconds.")
@click.option(
    "--no-prompt-optimizer",
    "prompt_optimizer",
    is_flag=True,
    flag_value=False,
    default=None,
    help="Take the prompt as it is.",
)
@click.option("--fast-pretreatment", is_flag=True, flag_value=True, default=None, help="Optimize the prompt faster.")
@click.option("--fit", is_flag=True, flag_value=True, default=None, help="Make a picture that breaks a rule obey it.")
@click.option("--task-id", metavar="ID", help="Fetch the video of a task that was sent before, without paying again.")
@click.option(
    "--journal", metavar="FILE|DSN", type=_place, help="Remember the job here: run again, it is not sent again."
)
@_key_file
@_json
def generate(
    image: str | None,
    last: str | None,
    output: str | None,
    task_id: str | None,
    journal: JournalPlace | None,
    key_file: Path | None,
    is_json: bool,
    **options: Any,
) -> NoReturn:
    """Make one video from a picture.

    IMAGE is a file or an http(s) URL. The video is paid for, and where it is saved is printed.

    The task's id is told as soon as there is one. Ctrl-C stops waiting; what was sent goes on at the service, and can
    be fetched with --task-id.
    """
    from hailuo_async._cli.generate import SingleVideo, build_job, choose_target, name_for
    from hailuo_async._cli.keys import open_session

    if task_id is None:
        if image is None:
            raise click.UsageError("give an IMAGE, or the --task-id of what was sent before")
        single = SingleVideo(build_job(image, last, options), choose_target(output, name_for(image), journal), journal)
    elif image is not None or last is not None:
        raise click.UsageError("give an IMAGE or a --task-id, not both")
    else:
        single = SingleVideo(task_id, choose_target(output, task_id, journal), journal)
    line = asyncio.run(single.run(open_session(key_file, journal=journal)))
    sys.exit(single.report(line, is_json=is_json))


@main.command()
@click.argument("jobs", type=click.Path(exists=True, path_type=Path))
@_output
@click.option(
    "--journal",
    metavar="FILE|DSN",
    type=_place,
    help=f"Remembers the jobs. [default: {_JOURNAL_NAME} in FOLDER]",
)
@_max_running
@_count("--max-jobs", "Pay for at most N, and do not ask.")
@_yes
@_key_file
@_json
def batch(
    jobs: Path,
    output: Path,
    journal: JournalPlace | None,
    max_running: int | None,
    max_jobs: int | None,
    is_agreed: bool,
    key_file: Path | None,
    is_json: bool,
) -> NoReturn:
    """Make the videos of a folder or a file of jobs.

    JOBS is a folder of pictures, or a file whose name ends in .jsonl, .ndjson or .csv. All of it is checked before
    anything is sent; then it is told what is to be paid for, and asked. Run it again, whatever happened, and it goes
    on: nothing is paid for twice.

    Ctrl-C once: nothing more is sent, and what runs is waited for and saved. Twice: it quits at once.
    """
    from hailuo_async._cli.batch.run import BatchPlan, run_batch
    from hailuo_async._cli.jobfile.joblist import read_jobs
    from hailuo_async._cli.keys import open_session
    from hailuo_async._cli.targets import choose_names

    read = read_jobs(jobs)
    for problem in (*read.notes, *read.problems):
        echo(str(problem))
    if read.problems:
        exit_with(USAGE, f"{len(read.problems)} to correct in {click.format_filename(jobs)}; nothing was sent")
    journal = journal or output / _JOURNAL_NAME
    assignment = BatchPlan(
        jobs=read.jobs,
        targets=choose_names(read.jobs.keys(), output),
        output=output,
        journal=journal,
        max_jobs=max_jobs,
        is_json=is_json,
    )
    session = open_session(key_file, journal=journal, max_running=max_running)
    sys.exit(run_batch(assignment, session, is_agreed=is_agreed))


@main.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@_output
@_count("--jobs", "Make N videos, of the same pictures in turn.")
@_max_running
@click.option("--real", "is_real", is_flag=True, help="Send to the real service, which is paid for.")
@_yes
@_key_file
@_json
def demo(
    folder: Path | None,
    output: Path,
    jobs: int | None,
    max_running: int | None,
    is_real: bool,
    is_agreed: bool,
    key_file: Path | None,
    is_json: bool,
) -> NoReturn:
    """Make videos of a few pictures, to see how it goes.

    There will be one of each picture in FOLDER, and one from the first picture to the second.

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
    assignment = work.build_batch_plan(plan, output, is_real=is_real, is_json=is_json)
    if not is_real:
        echo("An emulator of the service answers: nothing leaves this machine, nothing is paid for.")
        sys.exit(run_batch(assignment, work.emulated_session(max_running), is_agreed=True))
    session = open_session(key_file, journal=assignment.journal, max_running=max_running)
    sys.exit(run_batch(assignment, session, is_agreed=is_agreed))


# --- What was sent ---


@main.command()
@click.argument("journal", default=_OUTPUT / _JOURNAL_NAME, type=_known_place)
@_json
def status(journal: JournalPlace, is_json: bool) -> NoReturn:
    """Tell how the jobs of a journal stand.

    Those that wait for your decision are named. Works beside a batch that runs. Without JOURNAL: videos/batch.db.
    """
    from hailuo_async._cli.status import show

    sys.exit(show(journal, is_json=is_json))


@main.command()
@click.argument("journal", type=_known_place)
@click.argument("key")
@click.option("--task-id", metavar="ID", help="The service did accept it, under this id: it is waited for.")
@click.option("--resubmit", is_flag=True, help="It is sent again, and paid for a second time if it was accepted.")
@click.option("--forget", is_flag=True, help="It is taken out of the journal. Given again, it is a new job.")
@_yes
@_json
def resolve(
    journal: JournalPlace, key: str, task_id: str | None, resubmit: bool, forget: bool, is_agreed: bool, is_json: bool
) -> None:
    """Decide on a job whose outcome is unknown.

    KEY names it in JOURNAL. Look at the service's dashboard first. Nothing is sent now: to go on, run the command again
    that sent it.
    """
    from hailuo_async._cli.status import agree_to_resubmit, decide

    if (task_id is not None) + resubmit + forget != 1:
        raise click.UsageError("give one of --task-id, --resubmit and --forget")
    if resubmit:
        agree_to_resubmit(key, is_agreed=is_agreed)
    asyncio.run(decide(journal, key, resubmit=resubmit, task_id=task_id, forget=forget, is_json=is_json))


# --- The rest ---


@main.command()
@_key_file
@_json
def doctor(key_file: Path | None, is_json: bool) -> NoReturn:
    """Look whether a job could be sent from here.

    That is: whether there is a key, the service answers and knows it, and what is left of balance and requests.
    """
    from hailuo_async._cli.doctor import report
    from hailuo_async._cli.keys import find_key

    sys.exit(DONE if asyncio.run(report(find_key(key_file), is_json=is_json)) else FAILED)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def emulator(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Serve a stand-in for the API on this machine."""
    from hailuo_async.emulator.__main__ import main as serve

    serve(arguments, context.command_path)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete this command.

    It belongs into the start-up file of SHELL.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        emit(kind(main, {}, "hailuo-async", "_HAILUO_ASYNC_COMPLETE").source())
