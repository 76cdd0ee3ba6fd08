"""``python -m hailuo_async.emulator``: the emulator as a server of its own, until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections import defaultdict
from collections.abc import Sequence

from . import DEFAULT_API_KEY, Emulator, Fault, FaultRates, Faults, Kind
from .faults import FAULTS_OF


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGINT or SIGTERM.

    Leaves with status 2 and a word on what is wrong with the arguments, with 1 if it cannot serve with them.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        emulator = build_emulator(chosen)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(emulator))
    except KeyboardInterrupt:  # where the loop cannot take signals
        pass
    except ImportError as error:
        parser.exit(1, f"{error}: films need the extra 'emulator'; --plain does without\n")
    except (OSError, OverflowError) as error:
        parser.exit(1, f"cannot serve at {chosen.host}, port {chosen.port}: {error}\n")


def build_emulator(chosen: argparse.Namespace) -> Emulator:
    """The emulator that the command line asks for. Raises ``ValueError`` for a value out of its range."""
    return Emulator(
        host=chosen.host,
        port=chosen.port,
        api_key=chosen.api_key,
        generation_s=chosen.generation_s,
        spread=chosen.spread,
        fail_rate=chosen.fail_rate,
        max_running=chosen.max_running,
        requests_per_minute=chosen.requests_per_minute or None,
        seed=chosen.seed,
        render=chosen.render,
        faults=read_faults(chosen.fault),
    )


def read_faults(words: Sequence[str]) -> Faults:
    """The faults in words such as ``query.garbage=0.1`` or, for every kind of request that can meet it, ``hang=0.1``.

    Raises ``ValueError`` for one that nobody knows, that its kind cannot meet, or that has no probability.
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


async def _serve(emulator: Emulator) -> None:
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    async with emulator:
        print(f"export MODELLIX_BASE_URL={emulator.url}")
        print(f"export MODELLIX_API_KEY={emulator.api_key}", flush=True)
        await interrupted.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hailuo_async.emulator", description="A stand-in for Modellix.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--api-key", default=DEFAULT_API_KEY)
    parser.add_argument("--generation-s", type=float, default=20.0, help="how long a task takes in the mean")
    parser.add_argument("--spread", type=float, default=0.2, help="by which share of it a task may take more or less")
    parser.add_argument("--fail-rate", type=float, default=0.0, help="the share of tasks that fail")
    parser.add_argument("--max-running", type=int, default=3, help="how many tasks the team may run at once")
    parser.add_argument("--requests-per-minute", type=int, default=100, help="0 for no limit")
    parser.add_argument("--seed", type=int, default=0, help="everything left to chance follows from it")
    looks = parser.add_mutually_exclusive_group()
    looks.add_argument("--render", action="store_true", default=True, help="films that can be played (the default)")
    looks.add_argument("--plain", action="store_false", dest="render", help="a few bytes instead of films")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="[KIND.]NAME=PROBABILITY",
        help=f"goes wrong that often; may be repeated; names: {', '.join(Fault)}",
    )
    return parser


if __name__ == "__main__":
    main()
