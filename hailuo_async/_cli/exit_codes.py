"""How a command ends: its exit code, and one line for what went wrong.

The codes mean the same for every command. Where several would do, the highest stands.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import click

from hailuo_async._cli.extras import install_hint
from hailuo_async._cli.output import can_ask, columns, echo, end_line, fitted
from hailuo_async._cli.problems import one_line
from hailuo_async._cli.suggestions import near_options
from hailuo_async.errors import ConfigError, HailuoError, ImageError, JobError, JournalError

DONE, FAILED, USAGE, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 130
MEANINGS = {
    DONE: "all is done",
    FAILED: "some of it failed, or was not done",
    USAGE: "it cannot be run as it was given; nothing was sent",
    UNKNOWN: "of some job it is not known whether it was accepted, and is paid for",
    INTERRUPTED: "interrupted",
}


def exit_with(code: int, words: str) -> NoReturn:
    """Ends the command with one line on stderr."""
    echo(f"hailuo-async: {one_line(words)}")
    raise SystemExit(code)


def ask(question: str, before: str, declined: str = "nothing was sent") -> None:
    """Asks at the terminal, and ends the command if the answer is no, or if there is no terminal.

    ``before`` what it asks, and which option answers in advance.
    """
    if not can_ask():
        exit_with(USAGE, f"there is no terminal to ask at before {before}")
    width = columns(sys.stderr)
    if not click.confirm(fitted(question, width and width - len(" [y/N]: ")), err=True):
        exit_with(FAILED, declined)


@contextlib.contextmanager
def nothing_sent() -> Iterator[None]:
    """Has an interrupt say that nothing was sent so far."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        end_line()
        exit_with(INTERRUPTED, "interrupted; nothing was sent")


@contextlib.contextmanager
def something_sent(has_begun: Callable[[], bool]) -> Iterator[None]:
    """Keeps an error inside from the exit code by which nothing was sent, if the command has begun to send."""
    try:
        yield
    except Exception as error:
        code, words = _told(_unwrapped(error))
        if code != USAGE or not has_begun():
            raise
        raise click.ClickException(words) from error


@contextlib.contextmanager
def report_errors(*, is_debug: bool) -> Iterator[None]:
    """Ends the command with one line and the right exit code for any error inside; at DEBUG with its traceback."""
    try:
        yield
    except (SystemExit, click.exceptions.Exit, click.exceptions.NoArgsIsHelpError, BrokenPipeError):
        raise  # for Click, which knows what to do: the last is of a reader that did not wait for all of the help
    except BaseException as caught:
        error = _unwrapped(caught)
        if is_debug:
            echo("".join(traceback.format_exception(error)).rstrip())
        code, words = _told(error)
        if code == INTERRUPTED:
            end_line()
        exit_with(code, words)


def _unwrapped(error: BaseException) -> BaseException:
    """The error that a task group has wrapped, if it is only one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _told(error: BaseException) -> tuple[int, str]:
    """The exit code and the words for ``error``."""
    match error:
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED, "interrupted"
        case click.UsageError(ctx=click.Context(command_path=path)):
            near = near_options(error) if isinstance(error, click.NoSuchOption) else ""
            message = f"{error.message.rstrip('.')}.{near}" if near else error.format_message().rstrip(".")
            return USAGE, f"{message} (see '{path} --help')"
        case click.ClickException():
            return error.exit_code, error.format_message()
        case ImportError():
            return USAGE, f"{error}: the emulator needs the extra 'emulator': {install_hint('emulator')}"
        case ImageError(can_fit=True):
            return USAGE, str(error).replace("fit=True", "--fit")
        case JobError() | ConfigError() | JournalError():
            return USAGE, str(error)
        case HailuoError():
            return FAILED, str(error)
        case OSError(filename=name, strerror=reason) if name is not None:
            return USAGE, f"{click.format_filename(name)}: {reason}"
        case OSError():
            return USAGE, str(error)
        case _:
            return FAILED, f"unexpected {type(error).__name__}: {error}; --debug shows where: please report it"
