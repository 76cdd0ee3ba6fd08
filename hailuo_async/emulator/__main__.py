"""``hailuo-async emulator``: the emulator as a server of its own, until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import attrs

from . import DEFAULT_API_KEY, RUNNING_LIMIT_WORDINGS, TIERS, Emulator, Entry, Fault, FaultRates, Faults, Kind
from .faults import FAULTS_OF
from .settings import ReasonIn, Settings

_KINDS = ", ".join(kind for kind in Kind if FAULTS_OF[kind])
#: What is set unless an option says otherwise: long enough to be seen waiting, and every wording that was seen.
_DEFAULTS = {"generation_s": 20.0, "render": True, "running_limit_wordings": RUNNING_LIMIT_WORDINGS}
#: The options that are settings of the service: each one's name, what it takes, and its help.
_TEAM: tuple[tuple[str, str, Callable[[str], object], str], ...] = (
    ("api-key", "KEY", str, f"the only one that it accepts; MODELLIX_API_KEY is not read (default: {DEFAULT_API_KEY})"),
    ("balance", "USD", float, "what the team may spend (default: 100000)"),
    ("tier", "TOP-UP", str, f"sets both limits: {', '.join(TIERS)} (quote the dollar)"),
    ("max-running", "N", int, "how many tasks may run at once (without a tier: 3)"),
    ("requests-per-minute", "N", int, "0 for no limit (without a tier: 100)"),
)
_TASKS: tuple[tuple[str, str, Callable[[str], object], str], ...] = (
    ("generation-s", "SECONDS", float, "how long a task takes in the mean (default: 20)"),
    ("spread", "SHARE", float, "by which share of that a task may take more or less (default: 0.2)"),
    ("fail-rate", "SHARE", float, "the share of tasks that fail (default: 0)"),
    ("cancel-rate", "SHARE", float, "the share of tasks that are canceled (default: 0)"),
    ("reason-in", "PLACE", ReasonIn, f"where a failed task's reason stands: {', '.join(ReasonIn)} (default: error)"),
    ("seed", "N", int, "a number that fixes every random choice (default: 0)"),
)


def main(arguments: Sequence[str] | None = None, program: str = "python -m hailuo_async.emulator") -> None:
    """Serves until SIGINT or SIGTERM. ``program`` is the command as it was typed, for the usage.

    Exits with status 2 and the reason if the arguments are wrong, or if it cannot serve with them.
    """
    parser = _parser(program)
    chosen = parser.parse_args(arguments)
    try:
        emulator = build_emulator(chosen)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(emulator, is_verbose=chosen.verbose))
    except KeyboardInterrupt:  # where the loop cannot take signals
        pass
    except ImportError as error:
        parser.exit(2, f"{error}: films need the extra 'emulator'; --plain does without\n")
    except (OSError, OverflowError) as error:
        parser.exit(2, f"cannot serve at {chosen.host}, port {chosen.port}: {error}\n")


def build_emulator(chosen: argparse.Namespace) -> Emulator:
    """The emulator that the command line asks for. Raises ``ValueError`` for a value out of its range."""
    names = {field.alias for field in attrs.fields(Settings)}
    settings: dict[str, Any] = {**_DEFAULTS, **{name: value for name, value in vars(chosen).items() if name in names}}
    if settings.get("requests_per_minute") == 0:
        settings["requests_per_minute"] = None
    return Emulator(
        host=chosen.host,
        port=chosen.port,
        webhooks_anywhere=chosen.webhooks_anywhere,
        faults=read_faults(chosen.fault),
        **settings,
    )


def read_faults(words: Sequence[str]) -> Faults:
    """The faults in words such as ``query.garbage=0.1`` or, for every kind of request that can meet it, ``hang=0.1``.

    Raises ``ValueError`` for an unknown fault, one that its kind cannot meet, and one without a probability.
    """
    rates: dict[Kind, dict[str, float]] = defaultdict(dict)
    for word in words:
        name, _, probability = word.partition("=")
        kind, _, fault = name.rpartition(".")
        try:
            kinds = [Kind(kind)] if kind else [each for each in Kind if Fault(fault) in FAULTS_OF[each]]
            rate = float(probability)
        except ValueError as error:
            raise ValueError(f"--fault {word}: {error}: give it as in query.hang=0.1") from None
        for met in kinds:
            rates[met][fault] = rate
    return Faults(**{kind.value: FaultRates(**chosen) for kind, chosen in rates.items()})


async def _serve(emulator: Emulator, *, is_verbose: bool) -> None:
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    if is_verbose:
        emulator.ledger.watcher = _show
    async with emulator:
        print(f"export MODELLIX_BASE_URL={emulator.url}")
        print(f"export MODELLIX_API_KEY={emulator.api_key}", flush=True)
        await interrupted.wait()


def _show(entry: Entry) -> None:
    """Prints one request on stderr: stdout is for the two lines that a shell reads."""
    print(describe(entry), file=sys.stderr, flush=True)


def describe(entry: Entry) -> str:
    """One request in a line: when it came (UTC), what it was, what became of it."""
    time = datetime.fromtimestamp(entry.at, UTC).strftime("%H:%M:%S")
    status = "no answer" if entry.status is None else entry.status
    fault = f" (fault: {entry.fault.value})" if entry.fault is not None else ""
    task = f" {entry.task_id}" if entry.task_id is not None and entry.task_id not in entry.path else ""
    return f"{time} {entry.method} {entry.path} {status}{task}{fault}"


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and what may have been meant."""

    def error(self, message: str) -> NoReturn:
        _, _, unknown = message.partition("unrecognized arguments: ")
        near = difflib.get_close_matches(unknown.split()[0], self._option_string_actions, n=1) if unknown else []
        meant = f". Did you mean {near[0]}?" if near else ""
        self.exit(2, f"{self.prog}: {message}{meant} (see '{self.prog} --help')\n")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Serve a stand-in for the Modellix API on this machine. Prints the variables to set to reach it.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="the address to listen at (default: 127.0.0.1, for this machine alone)")
    add("--port", metavar="N", type=int, default=8080, help="the port to listen at; 0 takes a free one (default: 8080)")
    add("-v", "--verbose", action="store_true", help="print a line for each request on stderr")
    add("--webhooks-anywhere", action="store_true", help="call webhooks on other machines as well")
    tasks = parser.add_argument_group("tasks")
    for group, options in ((parser.add_argument_group("the team"), _TEAM), (tasks, _TASKS)):
        for name, metavar, kind, words in options:
            group.add_argument(f"--{name}", metavar=metavar, type=kind, default=argparse.SUPPRESS, help=words)
    tasks.add_argument("--bare-answers", action="store_true", help='answer with "success": true, without a code')
    looks = tasks.add_mutually_exclusive_group()
    looks.add_argument("--render", action="store_true", default=True, help="films that can be played (the default)")
    looks.add_argument("--plain", action="store_false", dest="render", help="a few bytes instead of films")
    tasks.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="[KIND.]NAME=PROBABILITY",
        help=f"how often a fault is met; may be repeated; kinds: {_KINDS}; names: {', '.join(Fault)}",
    )
    return parser


if __name__ == "__main__":
    main()
