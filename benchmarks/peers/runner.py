"""The library, the bare loop and the peers side by side: the same jobs, all at once, each client in its own process."""

from __future__ import annotations

import io
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from PIL import Image

from benchmarks.figures import Figure
from benchmarks.peers.clients import Setup
from benchmarks.peers.processes import BrokenClientError, Report, run
from benchmarks.peers.server import Options
from benchmarks.peers.subjects import BARE, BARE_ALONE, BARE_IN_PIECES, DEFAULTS, FASTEST, OURS, SLOW, STREAMED, Subject

PENDING_S = 0.5
PICTURE_BYTES = 2**20
#: What takes longer than this is not measured again: its figures do not hang on a few milliseconds.
LONG_S = 5.0

#: Held against each other by a few hundredths, and quick: so they are measured more often.
CLOSE, CLOSE_REPEATS = (OURS, BARE, STREAMED, BARE_ALONE), 7
ALL = (*CLOSE, *DEFAULTS, *FASTEST)


@attrs.frozen
class Case:
    """What each of them has to do."""

    name: str
    jobs: int
    picture: str | None = None


@attrs.define
class Record:
    """What a subject came to in one case, run by run."""

    runs: list[Mapping[str, float]] = attrs.field(factory=list)
    problem: str = ""
    """Begins with ``absent:`` or ``failed:``."""

    @property
    def is_over(self) -> bool:
        """Whether another run would show nothing more."""
        return bool(self.problem) or any(each["wall_s"] > LONG_S for each in self.runs)

    def add(self, report: Report, case: Case) -> None:
        """Puts a run on record. Jobs without a video are a problem, even if all other figures are good."""
        figures = {**report.measured, "requests_per_job": report.ledger.requests / case.jobs}
        if case.picture is not None:
            figures["sent_mb_per_job"] = report.ledger.body_bytes / case.jobs / 2**20
        self.runs.append(figures)
        errors = Counter(told.error.partition(":")[0] for told in report.told if told.word != "video")
        if errors:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in errors.most_common())
            self.problem = f"failed: of {case.jobs:,} jobs {kinds}"

    def figure(self, subject: Subject, case: Case) -> Figure:
        """The median of the runs, value by value."""
        names = self.runs[0] if self.runs else ()
        values = {name: statistics.median(each[name] for each in self.runs) for name in names}
        words = [self.problem, subject.calls, subject.note]
        if len(self.runs) == 1 and self.is_over:
            words.append("measured once")
        return Figure(subject=str(subject), case=case.name, values=values, note="; ".join(filter(None, words)))


def measure_peers(
    counts: Sequence[int] = (300, 1000), repeats: int = 3, images: bool = True, subjects: Sequence[Subject] = ALL
) -> list[Figure]:
    """A figure for each subject and case: the median of ``repeats`` runs, in which all take turns.

    Pictures are sent once, and the slow peers have the first of ``counts`` only. Each bare loop sends as many queries
    as the library did just before it. A subject that is not installed, or broke down, has a figure without values,
    whose note says so; one whose jobs failed in part has its values, and says how many failed. Takes some six minutes,
    and a gigabyte of memory for the pictures.
    """
    with tempfile.TemporaryDirectory() as directory:
        figures = list[Figure]()
        for count in counts:
            is_first = count == counts[0]
            able = [subject for subject in subjects if is_first or subject not in SLOW]
            close_repeats = CLOSE_REPEATS if is_first and repeats > 1 else repeats
            figures += _measure(Case(f"{count:,} jobs at {PENDING_S} s", count), able, repeats, close_repeats)
        if images:
            case = Case(f"{counts[0]:,} jobs with a 1 MiB image", counts[0], str(draw_picture(Path(directory))))
            figures += _measure(case, [*subjects, BARE_IN_PIECES], 1, 1)
        return figures


def measure_slow_peers() -> list[Figure]:
    """1,000 jobs of the slow peers, once, and of the library. Takes some four minutes."""
    return measure_peers((1000,), 1, False, (OURS, *SLOW))


def _measure(case: Case, subjects: Sequence[Subject], repeats: int, close_repeats: int) -> list[Figure]:
    records = {subject: Record(problem=subject.problem) for subject in subjects}
    for turn in range(close_repeats):
        queries = 0
        for subject, record in records.items():
            if record.is_over or (turn >= repeats and subject not in CLOSE):
                continue
            setup = Setup(base_url="", jobs=case.jobs, pending_s=PENDING_S, picture=case.picture, queries=queries)
            try:
                report = run("work", subject.where, subject.client, Options(pending_s=PENDING_S), setup)
            except BrokenClientError as error:
                record.problem = f"failed: {error}"
                continue
            record.add(report, case)
            if subject in (OURS, STREAMED):
                queries = report.ledger.queries
    return [record.figure(subject, case) for subject, record in records.items()]


def draw_picture(directory: Path) -> Path:
    """A JPEG of exactly so many bytes: noise, and zeros after its end, which every reader leaves alone."""
    image = io.BytesIO()
    Image.effect_noise((1400, 900), 90).save(image, "JPEG", quality=90)
    path = directory / "picture.jpg"
    path.write_bytes(image.getvalue().ljust(PICTURE_BYTES, b"\0"))
    return path
