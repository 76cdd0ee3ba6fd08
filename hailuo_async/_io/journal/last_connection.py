"""Whether a journal's database was connected to anew since something was last done with it.

A server that fails over to an asynchronous standby has lost the last commits. A new connection may lead to such a copy,
and nothing else shows that for certain. So what a session has written or read over an earlier connection counts no
longer once its database was connected to anew:

- ``AssertingTable`` writes again what it knows of its jobs.
- ``TeamTable`` reads the team's state again, and a refresh says that it may have missed changes.
- ``Members`` takes over its own tasks again.
- ``Following`` waits for a lease before it believes that a job is gone.
"""

from __future__ import annotations

from typing import Protocol

import attrs


class Connects(Protocol):
    """What counts its connections: a ``Database``, or a session's journal over it."""

    @property
    def connections(self) -> int:
        """How many were made so far."""


@attrs.define(eq=False)
class LastConnection:
    """The connection over which one thing was last done; at first, the one that there is now."""

    _database: Connects
    _number: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.update()

    @property
    def is_replaced(self) -> bool:
        """Whether the database was connected to anew since."""
        return self._number != self._database.connections

    def update(self) -> None:
        """Notes that the thing was done over the present connection."""
        self._number = self._database.connections
