"""Writes what the commands say: results to stdout, everything else to stderr, a line at a time.

A reader that has gone (a pipe or a terminal that was closed) is no error: its output is dropped and the work goes on,
as the videos are paid for in any case. A full disk is an error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

import click

from hailuo_async.errors import SubmissionUnknownError

#: What a write meets when the other end of a pipe, or the terminal, has gone.
_GONE = (errno.EPIPE, errno.EIO)


def emit(line: str) -> None:
    """Writes a line of results to stdout."""
    _write(sys.stdout, line)


def tell(line: str) -> None:
    """Writes a line of results for people to stdout; at a terminal in as many lines as it needs."""
    emit(fitted(line, columns(sys.stdout)))


def show(facts: Mapping[str, object], *lines: str, is_json: bool) -> None:
    """Writes a result: as an object for machines, or in lines for people."""
    if is_json:
        emit(json_line(facts))
    else:
        for line in lines:
            tell(line)


def echo(message: str) -> None:
    """Writes a message to stderr; at a terminal in as many lines as it needs, never broken within a word."""
    _write(sys.stderr, fitted(message, columns(sys.stderr)))


def columns(stream: TextIO) -> int | None:
    """How wide the terminal is that ``stream`` leads to; ``None`` if it leads to none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None
    except (OSError, ValueError, AttributeError):  # it was closed, or is none as it was closed from the beginning
        return None


def fitted(message: str, width: int | None) -> str:
    """``message`` in lines of at most ``width`` columns, broken between words; a longer word stays whole."""
    if width is None or len(message) < width:
        return message
    indent = " " * (len(message) - len(message.lstrip(" ")) + 2)
    return "\n".join(
        textwrap.fill(
            line,
            max(width - 1, 20),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        )
        for line in message.splitlines()
    )


def named(names: Sequence[str], count: int) -> str:
    """The first names of so many, and how many more there are."""
    return f"{', '.join(names)}{f' and {count - len(names)} more' if count > len(names) else ''}"


def has_colours(stream: TextIO) -> bool:
    """Whether what is written to ``stream`` may be coloured."""
    return can_redraw(stream) and not os.environ.get("NO_COLOR")


def can_redraw(stream: TextIO) -> bool:
    """Whether ``stream`` leads to a terminal that can draw a line again."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def end_line() -> None:
    """Ends the line in which, at a terminal, a ``^C`` or a question stands."""
    if sys.stderr.isatty():
        echo("")


def json_line(facts: Mapping[str, object]) -> str:
    """One object for machines; an amount or a path is a text. ASCII, so that it can be written in any encoding."""
    return json.dumps(facts, default=str)


def can_ask() -> bool:
    """Whether stdin and stderr are a terminal, where a question can be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextlib.contextmanager
def log_to_stderr(level: int) -> Iterator[None]:
    """Writes the library's log from ``level`` on, and its warnings as one line each, until the context ends."""
    _replace_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    logger, handler = logging.getLogger("hailuo_async"), _Handler(level)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: echo(f"hailuo-async: {message}")
            yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _replace_what_is_closed() -> None:
    """Opens the null device for a stream that was closed before (``>&-``): else a file of ours would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their numbers
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as the process


class _Handler(logging.Handler):
    """Writes to what ``sys.stderr`` is at that moment: while a bar is drawn, that is above the bar."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leaves out the doubt about a job, which every command reports itself as that job's result."""
        facts = record.args if isinstance(record.args, tuple) else ()
        return not any(isinstance(fact, SubmissionUnknownError) for fact in facts)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, at DEBUG with its traceback if it has one."""
        echo(f"hailuo-async: {self.format(record) if self.level == logging.DEBUG else record.getMessage()}")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as error:
        with open(os.devnull, "wb") as null:  # what is left in the buffer goes there, too
            os.dup2(null.fileno(), stream.fileno())
        if error.errno not in _GONE:
            raise click.ClickException(f"the output cannot be written: {error.strerror}") from error
