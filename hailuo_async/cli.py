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

    sys.exit(f"hailuo-async: the command line needs the extra 'cli': {install_hint('cli')}")

from hailuo_async import __version__
from hailuo_async._cli.commands import journals, others, page, videos
from hailuo_async._cli.exit_codes import report_errors
from hailuo_async._cli.output import log_to_stderr
from hailuo_async._cli.suggestions import near_commands

_EXIT_CODES = """\b
Exit codes:
  0    all is done
  1    some of it failed, or was not done
  2    it cannot be run as it was given; nothing was sent
  3    of some job it is not known whether it was accepted, and is paid for
  130  interrupted"""


class _Commands(click.Group):
    """The commands, whose errors all end in one line and the right code."""

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        """Parses what stands before the command, and prints ``--help``."""
        with report_errors(is_debug=False):
            return super().make_context(*given, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        is_debug = ctx.params["debug"]
        level = logging.DEBUG if is_debug else logging.INFO if ctx.params["verbose"] else logging.WARNING
        with log_to_stderr(level), report_errors(is_debug=is_debug):
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command by its name, or what it may have been meant to be."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(error.message + near_commands(args[0], self.commands), ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
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
    page.serve,
    journals.status,
    journals.resolve,
    others.models,
    others.doctor,
    others.emulator,
    others.completion,
):
    main.add_command(_command)
