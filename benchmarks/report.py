"""The results of a run: printed at a terminal, kept as JSON, and written out for the README."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import cattrs

from benchmarks.figures import Figure
from benchmarks.machine import Machine
from benchmarks.parts import PARTS
from benchmarks.tables import WIDTH, Table
from benchmarks.targets import Target


@attrs.frozen(kw_only=True)
class Report:
    """The figures of a run, by part, and where they were made."""

    machine: Machine
    load_after: float
    """As ``machine.load``, when all was over."""
    is_quick: bool
    figures: Mapping[str, Sequence[Figure]]

    @classmethod
    def read(cls, path: Path) -> Report:
        """One that was written. Raises ``OSError``, and ``ValueError`` for a file that is none."""
        try:
            return cattrs.structure(json.loads(path.read_text("utf-8")), cls)
        except cattrs.BaseValidationError as error:
            raise ValueError(f"{path} holds no report: {'; '.join(cattrs.transform_error(error))}") from None

    def write(self, path: Path) -> None:
        """Writes it as JSON, with the targets beside what they are made of."""
        targets = [{**attrs.asdict(target), "holds": target.holds} for target in self.targets()]
        path.write_text(json.dumps(attrs.asdict(self) | {"targets": targets}, indent=1) + "\n", "utf-8")

    def targets(self) -> list[Target]:
        """What was to be reached, of what was measured."""
        return [target for part, figures in self.figures.items() for target in PARTS[part].targets(figures)]

    def text(self) -> Iterator[str]:
        """Lines for a terminal: one table, in groups, and then each target."""
        yield from self._made()
        for part, figures in self.figures.items():
            yield from ("", PARTS[part].title.upper(), *textwrap.wrap(PARTS[part].about, WIDTH))
            yield from Table.of(figures).text()
        targets = self.targets()
        yield from ("", f"TARGETS: {sum(target.holds for target in targets)} of {len(targets)} hold")
        for target in targets:
            yield from textwrap.wrap(str(target), WIDTH, subsequent_indent=" " * 26)

    def markdown(self) -> Iterator[str]:
        """The same tables, without the targets."""
        yield " ".join(self._made())
        for part, figures in self.figures.items():
            yield from ("", f"### {PARTS[part].title}", "", PARTS[part].about, "", *Table.of(figures).markdown())

    def _made(self) -> Iterator[str]:
        yield from str(self.machine).splitlines()
        yield f"Load at the end: {self.load_after:.1f}.{' QUICK: single runs, rough figures.' if self.is_quick else ''}"
