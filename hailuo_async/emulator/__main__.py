"""``hailuo-async emulator``: the emulator as a server of its own, until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import signal
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from . import DEFAULT_API_KEY, RUNNING_LIMIT_WORDINGS, TIERS, Emulator, Entry, Fault, FaultRates, Faults, Kind
from .faults import FAULTS_OF
from .settings import ReasonIn

#: The options that are settings of the service, by the same names.
_SETTINGS = (
    *("api_key", "tier", "generation_s", "spread", "fail_rate", "cancel_rate", "reason_in", "balance"),
    *("bare_answers", "seed", "render"),
)
_KINDS = ", ".join(kind for kind in Kind if FAULTS_OF[kind])


def main(arguments: Sequence[str] | None = None, program: str = "python -m hailuo_async.emulator") -> None:
    """Serves until SIGINT or SIGTERM. ``program`` is the command as it was typed, for the usage.

    Exits with status 2 and the reason if the arguments are wrong, with 1 if it cannot serve with them.
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
        parser.exit(1, f"{error}: films need the extra 'emulator'; --plain does without\n")
    except (OSError, OverflowError) as error:
        parser.exit(1, f"cannot serve at {chosen.host}, port {chosen.port}: {error}\n")


def build_emulator(chosen: argparse.Namespace) -> Emulator:
    """The emulator that the command line asks for. Raises ``ValueError`` for a value out of its range."""
    settings: dict[str, Any] = {name: getattr(chosen, name) for name in _SETTINGS}
    settings |= {"running_limit_wordings": RUNNING_LIMIT_WORDINGS, "faults": read_faults(chosen.fault)}
    if chosen.max_running is not None:
        settings["max_running"] = chosen.max_running
    if chosen.requests_per_minute is not None:
        settings["requests_per_minute"] = chosen.requests_per_minute or None
    return Emulator(host=chosen.host, port=chosen.port, webhooks_anywhere=chosen.webhooks_anywhere, **settings)


def read_faults(words: Sequence[str]) -> Faults:
    """The faults in words such as ``query.garbage=0.1`` or, for every kind of request that can meet it, ``hang=0.1``.

    Raises ``ValueError`` for an unknown fault, one that its kind cannot meet, and one without a probability.
    """
    rates: dict[Kind, dict[str, float]] = defaultdict(dict)
    for word in words:
        name, _, probability = word.partition("=")
        kind, _, fault = name.rpartition(".")
        for met in _kinds(kind, Fault(fault)):
            rates[met][fault] = float(probability)
    return Faults(**{kind.value: FaultRates(**chosen) for kind, chosen in rates.items()})


def _kinds(named: str, fault: Fault) -> list[Kind]:
    return [Kind(named)] if named else [kind for kind in Kind if fault in FAULTS_OF[kind]]


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
        given = message.removeprefix("unrecognized arguments: ").split()[0]
        near = difflib.get_close_matches(given, self._option_string_actions, n=1) if given != message else []
        meant = f". Did you mean {near[0]}?" if near else ""
        self.exit(2, f"{self.prog}: {message}{meant} (see '{self.prog} --help')\n")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Serve a stand-in for the Modellix API on this machine. Prints the variables to set to reach it.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at; 127.0.0.1 (the default) is for this machine alone",
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="the port to listen at; 0 takes a free one (default: 8080)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print a line for each request on stderr")
    parser.add_argument("--webhooks-anywhere", action="store_true", help="call webhooks on other machines as well")
    parser.add_argument("--seed", type=int, default=0, help="a number that fixes every random choice (default: 0)")
    _add_team(parser.add_argument_group("the team"))
    _add_tasks(parser.add_argument_group("tasks"))
    return parser


def _add_team(team: argparse._ArgumentGroup) -> None:
    tiers = ", ".join(TIERS)
    team.add_argument(
        "--api-key",
        default=DEFAULT_API_KEY,
        metavar="KEY",
        help=f"the only key that it accepts; MODELLIX_API_KEY is not read (default: {DEFAULT_API_KEY})",
    )
    team.add_argument("--balance", type=float, default=100_000.0, help="USD")
    team.add_argument("--tier", choices=TIERS, metavar="TOP-UP", help=f"sets both limits: {tiers} (quote the dollar)")
    team.add_argument("--max-running", type=int, help="how many tasks the team may run at once (without a tier: 3)")
    team.add_argument("--requests-per-minute", type=int, help="0 for no limit (without a tier: 100)")


def _add_tasks(tasks: argparse._ArgumentGroup) -> None:
    tasks.add_argument("--generation-s", type=float, default=20.0, help="how long a task takes in the mean")
    tasks.add_argument("--spread", type=float, default=0.2, help="by which share of that a task may take more or less")
    tasks.add_argument("--fail-rate", type=float, default=0.0, help="the share of tasks that fail")
    tasks.add_argument("--cancel-rate", type=float, default=0.0, help="the share of tasks that are canceled")
    tasks.add_argument(
        "--reason-in",
        choices=[place.value for place in ReasonIn],
        default=ReasonIn.ERROR.value,
        help="where the answer about a failed task gives its reason",
    )
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


if __name__ == "__main__":
    main()
