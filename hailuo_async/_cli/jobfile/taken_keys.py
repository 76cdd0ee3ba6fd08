"""The keys that the rows of a list give. A number is held for each instead of its text: there may be millions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import attrs

from hailuo_async._cli.jobfile.fields import JobRow

#: Two keys of a list of millions have the same number once in thousands of lists, and then their texts are compared.
_MARK_BYTES = 7


def mark_of(key: str) -> int:
    """The number for ``key``, the same in every process. Capitals do not count: some file systems know none."""
    return int.from_bytes(blake2b(key.lower().encode(errors="surrogatepass"), digest_size=_MARK_BYTES).digest())


@attrs.define(eq=False)
class TakenKeys:
    """The keys that were given, and the keys that another row may have given too."""

    alike: frozenset[str] = attrs.field(default=frozenset(), init=False)
    """The keys, in small letters, that differ from another only in their capitals."""
    _marks: set[int] = attrs.field(factory=set, init=False)
    _doubled: set[int] = attrs.field(factory=set, init=False)

    def add(self, key: str) -> None:
        mark = mark_of(key)
        (self._doubled if mark in self._marks else self._marks).add(mark)

    def has(self, key: str) -> bool:
        """Whether a row gives ``key``, or one that is alike."""
        return bool(self._marks) and mark_of(key) in self._marks

    @property
    def is_settled(self) -> bool:
        """Whether no row can have the key of another, nor one that is alike."""
        return not self._doubled

    def settle(self, given: Iterable[tuple[int, JobRow, str]]) -> Iterator[tuple[int, JobRow, str, str]]:
        """Compares the keys themselves: of each that comes again, its row, the key, and the place that had it first.

        ``given`` are all of them, each with the number of its row and the row.
        """
        first: dict[str, tuple[int, str]] = {}
        for number, job_row, key in given:
            if mark_of(key) in self._doubled:
                first_number, place = first.setdefault(key, (number, job_row.row.place))
                if first_number != number:
                    yield number, job_row, key, place
        small = Counter(key.lower() for key in first)
        self.alike = frozenset(key for key, count in small.items() if count > 1)
