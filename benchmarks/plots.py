"""Figures as pictures: SVG, the same byte for byte when they are drawn again from the same figures.

Matplotlib draws them. It is imported only when something is drawn: it is in the extra ``benchmarks`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.figures import Figure
from benchmarks.growth import COUNTS, JOURNAL_COUNTS, Load
from benchmarks.limits import SLOTS, night
from benchmarks.targets import BURST, FLOOR, LIBRARY, SAFE_FLOOR, STREAM

#: Matplotlib's. It need not be installed, not even for those who check types.
Axes: TypeAlias = Any

OURS, FLOORS, OTHERS, WORDS = "#0b62a8", "#555555", "#a8a8a8", "#333333"

_LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": WORDS,
    "axes.labelcolor": WORDS,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "xtick.color": WORDS,
    "ytick.color": WORDS,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.06,
    "svg.hashsalt": "hailuo-async",
}


def draw(part: str, figures: Sequence[Figure], path: Path) -> None:
    """Draws a part of the figures as ``path``, in a folder that is there. Raises ``ImportError`` without Matplotlib."""
    matplotlib, pictures = import_module("matplotlib"), import_module("matplotlib.figure")
    title, height, panels = PLOTS[part]
    with matplotlib.rc_context(_LOOK):
        picture = pictures.Figure(figsize=(10, height))
        picture.suptitle(title, x=0.01, ha="left", color=WORDS, fontsize=10)
        for axes, panel in zip(picture.subplots(1, len(panels)), panels, strict=True):
            panel(axes, figures)
        picture.savefig(path, dpi=110, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None)


def _values(figures: Sequence[Figure], cases: Iterable[str], name: str) -> list[float]:
    """Of the library, case by case; not a number where that was not measured."""
    found = {figure.case: figure.values for figure in figures if figure.subject == LIBRARY}
    return [found.get(case, {}).get(name, math.nan) for case in cases]


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], color: str, name: str, **options: Any) -> None:
    """A line with its name beside its last point."""
    there = [(left, up) for left, up in zip(x, y, strict=True) if not math.isnan(up)]
    axes.plot(*zip(*there, strict=True), color=color, marker="o")
    given = {"xytext": (8, 0), "va": "center"} | options
    axes.annotate(name, there[-1], textcoords="offset points", color=color, annotation_clip=False, **given)


def _logarithmic(axes: Axes, ticks: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)


# --- Slots and requests -----------------------------------------------------------------------------------------------

_NIGHTS = [night(slots).name for slots in SLOTS]


def _efficiency(axes: Axes, figures: Sequence[Figure]) -> None:
    for name, color, words, lift in (
        ("efficiency_every_5_s", OTHERS, "every 5 s", 0),
        ("efficiency_best_interval", FLOORS, "best fixed\ninterval", -6),
        ("efficiency", OURS, "hailuo-async", 0),
    ):
        _line(axes, SLOTS, [100 * each for each in _values(figures, _NIGHTS, name)], color, words, xytext=(8, lift))
    axes.set(title="How full the slots are kept", ylabel="efficiency, %", ylim=(0, 103))
    axes.set_xlabel("slots at the service")
    _logarithmic(axes, SLOTS)
    axes.grid(axis="y")


def _noticing(axes: Axes, figures: Sequence[Figure]) -> None:
    names = ("mean_delay_s", "requests_per_job", "queries_per_job", "share_of_fixed_interval")
    points = sorted(zip(*(_values(figures, _NIGHTS, name) for name in names), SLOTS, strict=True))
    delays = [delay for delay, *_ in points]
    _line(axes, delays, [1 + asked / share for _, _, asked, share, _ in points], FLOORS, "any fixed\ninterval")
    _line(axes, delays, [requests for _, requests, *_ in points], OURS, "hailuo-async")
    for delay, requests, _, _, slots in points:
        if slots >= 8:  # with fewer, the budget is no bound, and all lie at one place
            words = f"{slots} slots" if slots > 8 else "up to 8"
            beside = {"xytext": (-4, -5), "textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 8}
            axes.annotate(words, (delay, requests), color=OURS, **beside)
    axes.set(
        title="What it takes to notice an end", xlabel="mean delay until it is noticed, s", ylabel="requests a job"
    )
    axes.set(xlim=(0.5, None), yscale="log", ylim=(1.5, 80))
    axes.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    axes.set_yticks([], minor=True)
    _logarithmic(axes, [1, 2, 5, 10, 20])
    axes.grid()


# --- Side by side -----------------------------------------------------------------------------------------------------


def _bars(axes: Axes, figures: Sequence[Figure], name: str, title: str) -> None:
    """A bar for each that was measured, in the order in which they were done."""
    there = [figure for figure in figures if figure.case == BURST and "wall_s" in figure.values]
    there.sort(key=lambda figure: figure.values["wall_s"], reverse=True)
    colors = {LIBRARY: OURS, STREAM: OURS, FLOOR: FLOORS, SAFE_FLOOR: FLOORS}
    subjects = [figure.subject for figure in there]
    bars = axes.barh(
        subjects,
        [figure.values[name] for figure in there],
        color=[colors.get(subject, OTHERS) for subject in subjects],
        height=0.68,
    )
    axes.bar_label(bars, fmt="%.0f" if name == "stall_ms" else "%.2f", padding=4)
    axes.set(title=title, xticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=name == "wall_s")
    axes.margins(x=0.15, y=0.02)


def _wall(axes: Axes, figures: Sequence[Figure]) -> None:
    _bars(axes, figures, "wall_s", "Wall, s")


def _cpu(axes: Axes, figures: Sequence[Figure]) -> None:
    _bars(axes, figures, "cpu_s", "CPU, s")


def _stall(axes: Axes, figures: Sequence[Figure]) -> None:
    _bars(axes, figures, "stall_ms", "Longest stall of the loop, ms")


# --- How cost grows ---------------------------------------------------------------------------------------------------


def _cost(axes: Axes, figures: Sequence[Figure]) -> None:
    _grow(axes, figures, "cpu_ms_per_job")
    highest = 0.0
    for workload, color in (("stream", OURS), ("callers", FLOORS)):
        cases = [Load(workload, jobs, has_journal=True).name for jobs in JOURNAL_COUNTS]
        values = _values(figures, cases, "cpu_ms_per_job")
        axes.plot(JOURNAL_COUNTS, values, color=color, marker="o", linestyle=":")
        highest = max(highest, values[-1])
    axes.annotate("with journal", (JOURNAL_COUNTS[-1], highest), (8, 4), textcoords="offset points")
    axes.set(title="CPU", ylabel="CPU a job, ms", ylim=(0, None))


def _memory(axes: Axes, figures: Sequence[Figure]) -> None:
    _grow(axes, figures, "peak_rss_mb")
    axes.set(title="Memory", ylabel="peak RSS of the process, MB", ylim=(0, None))


def _grow(axes: Axes, figures: Sequence[Figure], name: str) -> None:
    for workload, color, words in (("stream", OURS, "a stream"), ("callers", FLOORS, "a task each")):
        _line(axes, COUNTS, _values(figures, [Load(workload, jobs).name for jobs in COUNTS], name), color, words)
    _logarithmic(axes, [10, 100, 1_000, 10_000])
    axes.set(xlabel="jobs in one session", xlim=(8, 13_000))
    axes.grid(axis="y")


Panel = Callable[[Axes, Sequence[Figure]], None]

PLOTS: Mapping[str, tuple[str, float, Sequence[Panel]]] = {
    "limits": ("Batches of 300 jobs and more, 90 s each, at 100 requests a minute", 4.0, (_efficiency, _noticing)),
    "peers": ("300 jobs at once, each ready after 0.5 s", 3.6, (_wall, _cpu, _stall)),
    "growth": ("Jobs in one session, each ready after 0.5 s", 3.6, (_cost, _memory)),
}
"""The title of each plot, its height in inches, and its panels."""
