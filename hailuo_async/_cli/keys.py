"""Finds the API key: in a file, the environment or a prompt, never on the command line, which others can read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import click

from hailuo_async._cli.output import can_ask
from hailuo_async.contract import API_KEY_VARIABLE
from hailuo_async.errors import ConfigError
from hailuo_async.session import AsyncSession

#: More than any key has, and little to read of a file that holds no key.
_MAX_BYTES = 4096


@attrs.frozen
class Key:
    """A key, and where it came from, for people."""

    value: str = attrs.field(repr=False)
    origin: str


def find_key(file: Path | None) -> Key | None:
    """The key in ``file`` if that is given, else in the environment, else typed at the terminal, unseen.

    Raises ``OSError`` if the file cannot be read.
    """
    if file is not None:
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES).decode("utf-8-sig", "replace")
        return Key(text.strip(), f"the file {click.format_filename(file)}")
    if value := os.environ.get(API_KEY_VARIABLE):
        return Key(value, API_KEY_VARIABLE)
    if can_ask():
        return Key(click.prompt("The API key of Modellix", hide_input=True, err=True).strip(), "the prompt")
    return None


def open_session(key_file: Path | None, **settings: Any) -> AsyncSession:
    """A session with the key that is found, not yet entered.

    Raises ``click.UsageError`` if there is none or it cannot be one, ``ConfigError``, and ``OSError`` for the file.
    """
    key = find_key(key_file)
    if key is None:
        raise click.UsageError(f"there is no API key: set {API_KEY_VARIABLE}, or give --key-file FILE")
    return session_with(key, **settings)


def session_with(key: Key, **settings: Any) -> AsyncSession:
    """A session with ``key``, not yet entered. Raises ``click.UsageError`` for what cannot be one, ``ConfigError``."""
    try:
        return AsyncSession(api_key=key.value, **settings)
    except ConfigError as error:
        if error.field != "api_key":
            raise
        raise click.UsageError(
            f"what {key.origin} holds is no API key, which is printable ASCII without spaces"
        ) from None
