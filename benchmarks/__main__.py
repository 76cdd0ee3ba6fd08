"""``python -m benchmarks``: everything that is measured, as a table, as JSON and as plots, and whether it will do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import Machine
from benchmarks.parts import PARTS, USUAL
from benchmarks.plots import PLOTS, draw
from benchmarks.report import Report
from benchmarks.soak import soak
from benchmarks.soak_simulated import soak_simulated
from benchmarks.soak_team import soak_on_a_server, soak_team

HERE = Path(__file__).parent
#: Of each run; not in the repository.
RESULTS = HERE / "results"
#: Those that the README shows. Only a run that is not quick draws them anew.
SHOWN, SHOWN_PLOTS = HERE / "plots", ("limits", "peers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks for. The exit code: 1 if a target is missed, or a promise of the soak broken."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["soak"]:
        return _soak(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Figures that a stranger can make again: a table, JSON, and plots. Takes a quarter of an hour.",
        epilog="python -m benchmarks soak: batches that are killed, against a service that errs; see soak --help",
    )
    parser.add_argument(
        "parts", nargs="*", type=_part, metavar="part", help=f"of {', '.join(PARTS)}; else all but the last"
    )
    parser.add_argument("--quick", action="store_true", help="single runs of less: rough figures in a minute or two")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where JSON and plots go, but for those that the README shows"
    )
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="measure nothing; the tables of an earlier run")
    chosen = parser.parse_args(arguments)
    if chosen.markdown is not None:
        print(*Report.read(chosen.markdown).markdown(), sep="\n")
        return 0
    return _measure(chosen.parts or USUAL, chosen.quick, chosen.results)


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}, soak")
    return name


def _measure(parts: Sequence[str], is_quick: bool, results: Path) -> int:
    machine, figures = Machine.here(), dict[str, list[Figure]]()
    try:
        for part in parts:
            print(f"measuring {part} …", file=sys.stderr, flush=True)
            figures[part] = PARTS[part].measure(is_quick)
    finally:  # what was measured before an error has taken minutes
        report = Report(machine=machine, load_after=os.getloadavg()[0], is_quick=is_quick, figures=figures)
        _show(report, results)
    return int(not all(target.holds for target in report.targets()))


def _show(report: Report, results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{report.machine.at[:19].replace(':', '')}.json"
    report.write(path)
    print(*report.text(), sep="\n")
    print(f"\nwritten: {path}")
    _draw(report, results)


def _draw(report: Report, results: Path) -> None:
    for part in [part for part in PLOTS if part in report.figures]:
        folder = SHOWN if part in SHOWN_PLOTS and not report.is_quick else results
        folder.mkdir(exist_ok=True)
        try:
            draw(part, report.figures[part], folder / f"{part}.svg")
        except ImportError as error:
            print(f"no plots: {error}; Matplotlib is in the extra 'benchmarks'")
            return
        print(f"drawn: {folder / part}.svg")


def _soak(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description="Kills, and counts what is paid.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, at most (default: %(default)s)")
    parser.add_argument("--kills", type=int, help="ends sooner, after the round with so many kills")
    parser.add_argument("--seed", type=int, default=0, help="when it kills, and what goes wrong, follow from it")
    parser.add_argument(
        "--journal", metavar="PATH or DSN", help="a team of processes on one journal that no session has used yet"
    )
    parser.add_argument("--server", action="store_true", help="a team on a PostgreSQL server of its own")
    parser.add_argument("--crashes", type=int, default=0, help="of that server (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=4, help="of the team (default: %(default)s)")
    parser.add_argument("--simulated", action="store_true", help="random lives of teams, on a virtual clock")
    parser.add_argument(
        "--seeds", type=int, default=100, help="so many such lives, from --seed on (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.simulated:
        return soak_simulated(chosen.seeds, chosen.seed)
    kills = 200 if chosen.kills is None else chosen.kills
    if chosen.server:
        return soak_on_a_server(kills, chosen.processes, chosen.seed, chosen.crashes)
    if chosen.journal is not None:
        return soak_team(chosen.journal, kills, chosen.processes, chosen.seed)
    return soak(chosen.minutes, chosen.kills, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
