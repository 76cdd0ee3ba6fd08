"""The command ``init``: a file of jobs to begin with."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import click

from hailuo_async._cli.jobfile.folder import find_pictures
from hailuo_async._cli.output import echo

_COLUMNS = ("key", "image", "prompt", "model", "duration", "resolution")


def write_job_file(folder: Path, *, is_recursive: bool) -> None:
    """Writes a row for each picture of ``folder`` to stdout, as CSV. Raises ``OSError`` and ``click.UsageError``."""
    pictures = find_pictures(folder, is_recursive=is_recursive)
    if not pictures.found:
        raise click.UsageError(f"there is no JPEG, PNG or WebP picture in {click.format_filename(folder)}")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for key, path in [*pictures.found.items(), *(("", path) for path in pictures.twice)]:  # without one, a key is made
        try:
            os.fspath(path).encode()
        except UnicodeEncodeError:
            echo(f"Left out: {click.format_filename(path)}, whose name is not in UTF-8, as the file is: rename it")
        else:
            writer.writerow([key, os.fspath(path), "", "", "", ""])
    if pictures.left_out:
        echo(f"Left out: {pictures.left_out}")
