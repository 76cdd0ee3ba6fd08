"""Figures as a table: for a terminal of 120 columns, or in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import attrs

from benchmarks.columns import column
from benchmarks.figures import Figure

WIDTH = 120
#: Headings of numbers are broken into lines of about so many characters.
_HEADING = 7
_GAP = "  "


@attrs.frozen
class Row:
    """A figure as it is written."""

    group: str
    """What stands over it and its neighbours; empty where each stands for itself."""
    name: str
    cells: Sequence[str]


@attrs.frozen
class Table:
    """Figures as they are written."""

    headings: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]

    @classmethod
    def of(cls, figures: Sequence[Figure]) -> Table:
        """A column for each value that any figure has, in the order in which they come; a value that is missing is –.

        Where several were measured they stand in groups, a case each. Notes are numbered, each once.
        """
        names = [
            name for name in dict.fromkeys(name for figure in figures for name in figure.values) if column(name).heading
        ]
        notes = list(dict.fromkeys(figure.note for figure in figures if figure.note))
        is_grouped = len({figure.subject for figure in figures}) > 1

        def row(figure: Figure) -> Row:
            mark = f" [{notes.index(figure.note) + 1}]" if figure.note else ""
            group, name = (figure.case, figure.subject) if is_grouped else ("", figure.case)
            return Row(group, name + mark, [_written(figure, name) for name in names])

        return cls([column(name).heading for name in names], [row(figure) for figure in figures], notes)

    def text(self) -> Iterator[str]:
        """Lines for a terminal."""
        heads = [textwrap.wrap(heading, _HEADING, break_long_words=False) for heading in self.headings]
        height = max(map(len, heads), default=0)
        heads = [[""] * (height - len(head)) + head for head in heads]
        cells = zip(*(row.cells for row in self.rows), strict=True)
        widths = [max(map(len, [*head, *column])) for head, column in zip(heads, cells, strict=True)]
        first = max(len(row.name) for row in self.rows)
        yield from (_line("", first, line, widths) for line in zip(*heads, strict=True))
        group = ""
        for row in self.rows:
            if row.group != group:
                group = row.group
                yield f"{group}:"
            yield _line(row.name, first, row.cells, widths)
        for number, note in enumerate(self.notes, 1):
            yield from textwrap.wrap(f"[{number}] {note}", WIDTH, subsequent_indent="    ")

    def markdown(self) -> Iterator[str]:
        """The same for a README."""
        yield _marked(["", *self.headings])
        yield _marked(["---", *["---:"] * len(self.headings)])
        group = ""
        for row in self.rows:
            if row.group != group:
                group = row.group
                yield _marked([f"**{group}**", *[""] * len(self.headings)])
            yield _marked([row.name, *row.cells])
        if self.notes:
            yield ""
            yield "; ".join(f"[{number}] {note}" for number, note in enumerate(self.notes, 1))


def _line(name: str, first: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return _GAP.join([name.ljust(first), *numbers]).rstrip()


def _written(figure: Figure, name: str) -> str:
    return format(figure.values[name], column(name).format) if name in figure.values else "–"


def _marked(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
