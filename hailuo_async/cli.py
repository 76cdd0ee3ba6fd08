"""The command line: ``hailuo-async``, also ``python -m hailuo_async``. Its libraries come with the extra ``cli``.

Each command stands in ``hailuo_async._cli.commands`` with what can be given to it. Results go to stdout, and
everything else to stderr. The exit codes are the same for every command: ``_cli.exit_codes`` tells what they mean.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

try:
    import click
except ModuleNotFoundError:
    from hailuo_async._cli.extras import install_hint

    print(f"hailuo-async: the command line needs the extra 'cli': {install_hint('cli')}", file=sys.stderr)
    sys.exit(2)  # ``exit_codes.USAGE``, which lies behind Click

from hailuo_async import __version__
from hailuo_async._cli.commands import journals, others, videos
from hailuo_async._cli.exit_codes import MEANINGS, report_errors
from hailuo_async._cli.output import columns, log_to_stderr
from hailuo_async._cli.suggestions import near_commands

#: On a narrower terminal Click writes lines that are too wide, unless the width is given to it.
_CLICKS_LEAST = 52


class _Formatter(click.HelpFormatter):
    """Leaves a narrow terminal's columns to the words that explain."""

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        """Writes names, and beside them or under them what they mean."""
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class _Commands(click.Group):
    """The commands, whose errors all end in one line and the right code."""

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        """Parses what stands before the command, and prints ``--help``."""
        width = columns(sys.stdout)
        narrow = {} if width is None or width >= _CLICKS_LEAST else {"terminal_width": width - 1}
        with report_errors(is_debug=False):
            return super().make_context(*given, **{**narrow, **more})

    def invoke(self, ctx: click.Context) -> Any:
        is_debug = ctx.params["debug"]
        level = logging.DEBUG if is_debug else logging.INFO if ctx.params["verbose"] else logging.WARNING
        with log_to_stderr(level), report_errors(is_debug=is_debug):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what the exit codes of all commands mean."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in MEANINGS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command by its name, or what it may have been meant to be."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(error.message + near_commands(args[0], self.commands), ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hailuo-async")
@click.option("-v", "--verbose", is_flag=True, help="Write more of what is going on.")
@click.option("--debug", is_flag=True, help="Write everything, and show where errors come from.")
def main(verbose: bool, debug: bool) -> None:
    """Videos from images, through MiniMax's Hailuo models on the Modellix API."""


for _command in (
    videos.generate,
    videos.batch,
    videos.init,
    videos.demo,
    videos.serve,
    journals.status,
    journals.resolve,
    others.models,
    others.doctor,
    others.emulator,
    others.completion,
):
    _command.context_class = _Context
    main.add_command(_command)
