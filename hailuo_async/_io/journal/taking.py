"""Taking over kept jobs, as a write that may have to be made twice: the answer to its commit may get lost.

Made again, it would find those jobs held by this session, and leave them out: no part of the session would send them.
So it remembers which it took.
"""

from __future__ import annotations

import attrs

from hailuo_async._io.journal.kept import KeptClaim
from hailuo_async._io.journal.kept_table import KeptTable
from hailuo_async._io.journal.table import JobTable


@attrs.define(eq=False)
class Taking:
    """``KeptTable.take`` for one caller."""

    limit: int
    identity: str | None
    _taken: set[str] = attrs.field(factory=set, init=False)
    """What earlier tries took, which may be on record."""

    def __call__(self, table: JobTable) -> list[KeptClaim]:
        """The jobs that this session has taken over."""
        claims = KeptTable(table).take(self.limit, self.identity, self._taken)
        self._taken.update(claim.record.identity for claim in claims)
        return claims

    def undo(self, table: JobTable) -> None:
        """Frees them again: the caller is gone."""
        for identity in self._taken:
            table.release(identity)
