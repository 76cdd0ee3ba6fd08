"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from hailuo_async import settings
from hailuo_async.errors import ConfigError
from hailuo_async.models import MODELS
from hailuo_async.settings import journal_location

Command = TypeVar("Command", bound=Callable[..., Any])

#: Where ``batch`` saves, and the name of its journal there, unless others are given.
DEFAULT_OUTPUT, JOURNAL_NAME = Path("videos"), "batch.db"

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h)?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


# --- Types ---


def duration(value: str) -> float:
    """The seconds of a time such as ``90``, ``30s``, ``5m`` or ``2h``: an ``int`` where they are whole."""
    found = _DURATION.fullmatch(value.strip())
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{value!r} is no time such as 90, 30s, 5m or 2h")
    seconds = float(found[1]) * _SECONDS[(found[2] or "s").lower()]
    return int(seconds) if seconds.is_integer() else seconds


def encoding(value: str) -> str:
    """The name of an encoding of text, such as ``cp1252``, that Python knows."""
    try:
        "".encode(value)
    except (LookupError, UnicodeError, ValueError):
        raise click.BadParameter(f"{value!r} is no encoding such as utf-8, cp1252 or mac_roman") from None
    return value


def dollars(value: str) -> Decimal:
    """An amount of US dollars, such as ``20`` or ``$4.50``."""
    try:
        return settings.dollars("max_cost", value.strip().removeprefix("$"))
    except ConfigError:
        rule = "is no amount of US dollars over 0 and under a million, such as 20 or 4.50"
        raise click.BadParameter(f"{value!r} {rule}") from None


class FilePath(click.Path):
    """A path. Shells leave the ``~`` of ``--output=~/videos`` as it is: a folder of that name would be made here."""

    def __init__(self, **rules: Any) -> None:
        super().__init__(path_type=Path, **rules)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, with the home of a ``~`` at its beginning."""
        return super().convert(os.path.expanduser(value), param, ctx)


class JournalPath(FilePath):
    """A journal: a file, or the DSN of a PostgreSQL database. A password is not repeated."""

    def __init__(self, *, exists: bool = False) -> None:
        super().__init__(exists=exists, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The file, which may have to be there, or the DSN."""
        try:
            found = journal_location(value)
        except ConfigError as error:
            self.fail(error.rule, param, ctx)
        return super().convert(found, param, ctx) if isinstance(found, Path) else found


# --- Options whose help is true for the model that is chosen ---


class ModelOption(click.Option):
    """An option whose values depend on the ``--model`` that stands before it on the command line."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = f"{_either(_values(self.name, ctx))}; 'hailuo-async models' lists what each model takes."
        return super().get_help_record(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return _items(_values(self.name, ctx), incomplete)


def _values(name: str | None, ctx: click.Context) -> list[str]:
    chosen = MODELS.get(str(ctx.params.get("model")).removeprefix("minimax/"))
    sizes = [model.sizes for model in ([chosen] if chosen is not None else MODELS.values())]
    if name == "duration":
        return [str(each) for each in sorted({duration for size in sizes for duration in size})]
    found = {each for size in sizes for several in size.values() for each in several}
    return sorted(found, key=lambda each: int(each.rstrip("P")))


def _either(values: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(values[:-1]), values[-1])))


def _items(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value) for value in values if value.lower().startswith(incomplete.lower())]


def _complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _items(MODELS, incomplete)


def complete_key(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The keys in the journal given before, those that wait for a decision first."""
    from hailuo_async._io.journal.reader import Journal
    from hailuo_async.errors import HailuoError

    try:
        with Journal.open(ctx.params["journal"]) as journal:
            waiting = [record.identity for record in journal.records(state="unknown")]
            failed = [record.identity for record in journal.records(state="failed")]
            return _items([*waiting, *failed], incomplete)
    except (HailuoError, OSError, KeyError, TypeError):
        return []


# --- Options ---


def count(name: str, help: str) -> Callable[[Command], Command]:
    """A whole number of at least 1."""
    return click.option(name, metavar="N", type=click.IntRange(min=1), help=help)


def journal(help: str) -> Callable[[Command], Command]:
    return click.option("--journal", metavar="FILE|DSN", type=JournalPath(), help=help)


json = click.option("--json", "is_json", is_flag=True, help="One JSON object a line on stdout, for machines.")
yes = click.option("--yes", "is_agreed", is_flag=True, help="Do not ask before paying.")
dry_run = click.option("--dry-run", is_flag=True, help="Check everything and show the cost. Nothing is sent.")
quiet = click.option("--quiet", is_flag=True, help="Say nothing on stderr but what went wrong.")
key_file = click.option(
    "--key-file",
    metavar="FILE",
    type=FilePath(dir_okay=False),
    help="Holds the API key. Without it: MODELLIX_API_KEY, or a prompt.",
)
max_running = count("--max-running", "Run at most N at once. Without it the service's own limit is found.")
max_cost = click.option(
    "--max-cost", metavar="USD", type=dollars, help="Spend at most so much, earlier runs included, and do not ask."
)
timeout = click.option(
    "--timeout", metavar="TIME", type=duration, help="Wait for each job at most so long: 90, 30s, 5m, 2h."
)
output = click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    default=DEFAULT_OUTPUT,
    show_default=True,
    type=FilePath(file_okay=False, writable=True),
    help="Where the videos go. Files that are there are left alone.",
)

_JOB_OPTIONS = (
    click.option("--fit", is_flag=True, flag_value=True, default=None, help="Make pictures that break a rule obey it."),
    click.option(
        "--fast-pretreatment", is_flag=True, flag_value=True, default=None, help="Optimize the prompt faster."
    ),
    click.option(
        "--no-prompt-optimizer",
        "prompt_optimizer",
        is_flag=True,
        flag_value=False,
        default=None,
        help="Take the prompt as it is.",
    ),
    click.option("--resolution", metavar="NAME", type=str.upper, cls=ModelOption, help="Any."),
    click.option("--duration", metavar="SECONDS", type=duration, cls=ModelOption, help="Any."),
    click.option(
        "--model",
        metavar="NAME",
        is_eager=True,
        shell_complete=_complete_model,
        help="A model of 'hailuo-async models', or a whole path. Put it before --help to see what that model takes.",
    ),
    click.option(
        "--prompt", metavar="TEXT", help='What happens. May hold camera commands: "[Push in] the cat looks up".'
    ),
)
#: Their names among the parameters of a command.
JOB_FIELDS = ("prompt", "model", "duration", "resolution", "prompt_optimizer", "fast_pretreatment", "fit")


def job_options(command: Command) -> Command:
    """Every option that a job has. What is not given is ``None``."""
    for option in _JOB_OPTIONS:
        command = option(command)
    return command


def job_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Takes what a command was given for the fields of a job out of ``given``. What was not given is left out."""
    taken = {name: given.pop(name) for name in JOB_FIELDS}
    return {name: value for name, value in taken.items() if value is not None}
