"""The command ``serve``: a page in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from hailuo_async._cli.commands import options
from hailuo_async.settings import JournalPlace


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
    journal: JournalPlace | None,
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
