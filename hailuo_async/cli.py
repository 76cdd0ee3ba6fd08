"""The command line: ``hailuo-async``, also ``python -m hailuo_async``. Its libraries come with the extra ``cli``.

Exit codes: 0 when all is done, 1 when something failed, 2 when the command cannot be run as it was given, 130 when it
was interrupted. What came out goes to stdout, and everything else to stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

try:
    import click
except ModuleNotFoundError:
    sys.exit("hailuo-async: the command line needs the extra 'cli': pip install 'hailuo-async[cli]'")

from hailuo_async.errors import ConfigError, HailuoError

if TYPE_CHECKING:
    from hailuo_async._cli.batch import Batch
    from hailuo_async._cli.plan import Plan

FAILED, USAGE, INTERRUPTED = 1, 2, 130

_GOES_ON = "interrupted; what was sent goes on, and is paid for: run the same command again to have it"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hailuo-async")
def main() -> None:
    """Videos from images, through MiniMax's Hailuo models on the Modellix API."""


@main.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    default=Path("videos"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the videos go. Files that are there are left alone.",
)
@click.option("--jobs", metavar="N", type=click.IntRange(min=1), help="Make N videos, of the same pictures in turn.")
@click.option(
    "--max-running",
    metavar="N",
    type=click.IntRange(min=1),
    help="Run at most N at once. Without it the service's own limit is found.",
)
@click.option("--real", is_flag=True, help="Send to the real service, which is paid for. Needs MODELLIX_API_KEY.")
@click.option("--yes", is_flag=True, help="Do not ask before paying.")
def demo(
    folder: Path | None, output: Path, jobs: int | None, max_running: int | None, real: bool, yes: bool
) -> NoReturn:
    """Make a video of each picture in FOLDER, and one from the first picture to the second.

    Without FOLDER it draws four pictures itself. Without --real an emulator of the service answers: no key, no network,
    and nothing to pay for.

    Run it twice and you have the videos twice: the second dawn.mp4 becomes dawn-2.mp4. With --real it is the other way
    round: the output folder remembers what was sent, and the second run pays only for what is missing.
    """
    from hailuo_async._cli import demo as work  # here, so that --help is quick
    from hailuo_async._cli.progress import open_screen

    with _errors_told():
        plan = work.read_plan(folder, jobs)
        if not plan.jobs and not plan.unusable:
            raise click.UsageError(f"there is no JPEG, PNG or WebP picture in {folder}")
        session = work.real_session(output, max_running) if real else work.emulated_session(max_running)
        _announce(plan, output / work.JOURNAL_NAME, is_real=real, is_agreed=yes)
        batch = work.prepare(plan, output)
    try:
        with _errors_told(if_interrupted=_GOES_ON if real else "interrupted"), open_screen(len(batch.jobs)) as screen:
            asyncio.run(work.run(batch, session, screen))
    finally:
        _report(plan, batch)
    sys.exit(0 if batch.is_saved and not plan.unusable else FAILED)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Serve a stand-in for the API on this machine, until it is interrupted."""
    from hailuo_async.emulator.__main__ import main as serve

    serve(arguments)


def _announce(plan: Plan, journal: Path, *, is_real: bool, is_agreed: bool) -> None:
    """Says what is about to happen, and asks if it costs money. Exits if the answer is no."""
    if not is_real:
        click.echo("An emulator of the service answers: nothing leaves this machine, nothing is paid for.", err=True)
        return
    click.echo(f"Jobs to pay for: {len(plan.jobs)}, which is {plan.seconds} s of video.", err=True)
    if journal.exists():
        click.echo(f"What {journal} remembers as sent is not sent again.", err=True)
    if not is_agreed and not click.confirm("Go on?", err=True):
        _leave(FAILED, "nothing was sent")


def _report(plan: Plan, batch: Batch) -> None:
    """A line for each picture that cannot be used and each job."""
    from hailuo_async._cli.batch import Line, table

    unusable = [
        Line(click.format_filename(bad.name), "unusable", f"{bad.error.rule}; got {bad.error.value}")
        for bad in plan.unusable
    ]
    for line in table([*unusable, *batch.lines]):
        click.echo(line)


@contextlib.contextmanager
def _errors_told(if_interrupted: str = "interrupted") -> Iterator[None]:
    """Leaves with one line, and the right code, on what a user can do something about."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        _leave(INTERRUPTED, if_interrupted)
    except ImportError as error:
        _leave(USAGE, f"{error}: the emulator needs an extra: pip install 'hailuo-async[emulator]'")
    except (ConfigError, OSError) as error:
        _leave(USAGE, str(error))
    except HailuoError as error:
        _leave(FAILED, str(error))


def _leave(code: int, words: str) -> NoReturn:
    click.echo(f"hailuo-async: {words}", err=True)
    sys.exit(code)
