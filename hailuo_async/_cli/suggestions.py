"""Guesses what a user meant by a command or an option that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import click

#: Names in the service's own command-line client, and others that are often tried.
_ALIASES = {
    "--max-tasks": "--max-jobs",
    "--concurrency": "--max-running",
    "--parallel": "--max-running",
    "--output-dir": "--output",
    "--out": "--output",
    "--model-slug": "--model",
    "--api-key": "--key-file",
}
_COMMAND_ALIASES = {
    "run": "generate",
    "create": "generate",
    "submit": "generate",
    "invoke": "generate",
    "download": "generate --task-id",
    "retry": "batch --retry-failed",
    "list": "status",
    "jobs": "status",
    "ls": "status",
    "balance": "doctor",
    "prices": "models",
    "price": "models",
    "serve-emulator": "emulator",
    "help": "--help",
    "version": "--version",
}


def near_commands(given: str, commands: Iterable[str]) -> str:
    """Words for after "no such command": commands that are called so elsewhere, begin so, or are spelled nearly so."""
    meant = {**_COMMAND_ALIASES, **{name: name for name in commands}}
    begins = [name for name in meant if name.startswith(given.lower())]
    close = difflib.get_close_matches(given.lower(), meant, n=2)
    near = list(dict.fromkeys(meant[name] for name in (begins or close)))
    return f" Did you mean {' or '.join(near)}?" if near else ""


def near_options(error: click.NoSuchOption) -> str:
    """Words for after "no such option": our name for it, or the commands that have it; empty without either."""
    context = error.ctx
    if context is None:
        return ""
    alias = _ALIASES.get(error.option_name)
    if alias is not None and alias in _options(context.command):
        return f" Did you mean {alias}?"
    group = context.find_root().command
    if error.option_name in _options(group):
        return f" Put {error.option_name} before the command: hailuo-async {error.option_name} {context.command.name}"
    commands: Mapping[str, click.Command] = group.commands if isinstance(group, click.Group) else {}
    wanted = alias or error.option_name
    having = [name for name, command in commands.items() if wanted in _options(command)]
    return f" {wanted} is an option of {' and '.join(having)}" if having else ""


def _options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
