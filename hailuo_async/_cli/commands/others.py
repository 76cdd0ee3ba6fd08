"""The commands about the service and about the command line itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import NoReturn

import click

from hailuo_async._cli.commands import options
from hailuo_async._cli.exit_codes import DONE, FAILED
from hailuo_async._cli.output import emit


@click.command()
@click.option("--live", "is_live", is_flag=True, help="Ask the service what it offers now, free of charge.")
@options.key_file
@options.json
def models(is_live: bool, key_file: Path | None, is_json: bool) -> None:
    """Show what each model takes, and what it costs.

    Without a key or a network it shows the table of this version, with list prices and their date. With --live it asks
    the service.
    """
    from hailuo_async._cli.keys import open_session
    from hailuo_async._cli.models import show_known, show_offered

    if is_live:
        asyncio.run(show_offered(open_session(key_file), is_json=is_json))
    else:
        show_known(is_json=is_json)


@click.command()
@options.key_file
@options.json
def doctor(key_file: Path | None, is_json: bool) -> NoReturn:
    """Check whether a job could be sent from here.

    It checks that there is a key, and that the service answers and accepts it, and shows the balance and the requests
    that are left.
    """
    from hailuo_async._cli.doctor import report
    from hailuo_async._cli.keys import find_key

    sys.exit(DONE if asyncio.run(report(find_key(key_file), is_json=is_json)) else FAILED)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def emulator(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Serve a stand-in for the API on this machine."""
    from hailuo_async.emulator.__main__ import main as serve

    serve(arguments, context.command_path)


@click.command()
@click.argument("shell", required=False, type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--install", is_flag=True, help="Add it to the start-up file of SHELL.")
@click.pass_context
def completion(context: click.Context, shell: str | None, install: bool) -> None:
    """Complete this command in a shell: bash, zsh or fish.

    Prints the script for SHELL, or with --install adds it to the start-up file of that shell. The default is your own
    shell, from the variable SHELL.
    """
    from hailuo_async._cli import completion as work

    chosen = shell or work.shell_in_use()
    source = work.source(context.find_root().command, chosen)
    emit(work.install(chosen) if install else source)
