"""Has a shell complete this command: the script, and the file in which the shell reads it."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_MARK = "# completion of hailuo-async"
#: Only if there is such a command at that moment: the file is read by every shell that starts.
_LINE = 'command -v hailuo-async >/dev/null && eval "$(hailuo-async completion {})"'
#: A start-up file may come here before it runs compinit, without which compdef is no command.
_ZSH_BEFORE = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"


def shell_in_use() -> str:
    """The shell of the environment. Raises ``click.UsageError`` for any other than these three."""
    name = Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise click.UsageError(f"say for which shell: hailuo-async completion {'|'.join(_SHELLS)}")
    return name


def source(command: click.Command, shell: str) -> str:
    """What ``shell`` has to read."""
    kind = get_completion_class(shell)
    text = "" if kind is None else kind(command, {}, "hailuo-async", "_HAILUO_ASYNC_COMPLETE").source()
    return (_ZSH_BEFORE if shell == "zsh" else "") + text


def install(shell: str) -> str:
    """Adds a line to the start-up file of ``shell``, once, and says so. Raises ``OSError``."""
    home = Path.home()
    if shell == "fish":
        file = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/hailuo-async.fish"
        line = "hailuo-async completion fish | source"
    else:
        file = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc" if shell == "zsh" else home / ".bashrc"
        line = _LINE.format(shell)
    before = file.read_text("utf-8", "surrogateescape") if file.exists() else ""
    if _MARK in before:
        return f"{click.format_filename(file)} has it already"
    file.parent.mkdir(parents=True, exist_ok=True)
    separator = "" if not before or before.endswith("\n") else "\n"
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"{separator}{line}  {_MARK}\n")
    return f"added to {click.format_filename(file)}: open a new shell"
