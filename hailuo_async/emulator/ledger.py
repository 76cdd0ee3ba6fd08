"""What the emulator saw: an entry for each request, and sums that stay exact after any number of requests."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal

import attrs

from .faults import Fault, Kind
from .fields import Submission
from .tasks import Task


@attrs.frozen
class Entry:
    """One request and what became of it."""

    at: float
    """Server time, Unix seconds."""
    kind: Kind
    method: str
    path: str
    """Without its query, which may be a signature."""
    status: int | None
    """The HTTP status of the answer, ``None`` where none was sent; 200 for any part of a film. Of a webhook: the
    receiver's answer."""
    fault: Fault | None = None
    task_id: str | None = None
    """The task that was accepted, asked about or fetched."""
    cost: Decimal | None = None
    """What the accepted task cost, in USD; also where its answer was lost."""
    model: str | None = None
    prompt: str | None = None
    seconds: int | None = None
    first_frame: str | None = None
    """The URL, or ``sha256:`` and the digest of the image file, of a submit that could be read."""
    last_frame: str | None = None
    unknown_fields: tuple[str, ...] = ()
    key_sent: bool = False
    """Whether an ``Authorization`` header came with it."""
    connection: str = ""
    body_bytes: int = 0

    def about(self, job: Submission) -> Entry:
        """The same entry with the facts of the job that its body held."""
        return attrs.evolve(
            self,
            model=job.model.name,
            prompt=job.prompt,
            seconds=job.seconds,
            first_frame=job.first.source if job.first is not None else None,
            last_frame=job.last.source if job.last is not None else None,
            unknown_fields=job.unknown,
        )


def _entries(ledger: Ledger) -> deque[Entry]:
    return deque(maxlen=ledger.size)


@attrs.define
class Ledger:
    """The last ``size`` entries, and sums over all requests since the start."""

    size: int = 100_000
    entries: deque[Entry] = attrs.field(default=attrs.Factory(_entries, takes_self=True), init=False)
    requests: Counter[Kind] = attrs.field(factory=Counter, init=False)
    """How many requests of each kind came."""
    statuses: Counter[tuple[Kind, int | None]] = attrs.field(factory=Counter, init=False)
    """How many of each kind were answered with each status."""
    faults: Counter[tuple[Kind, Fault]] = attrs.field(factory=Counter, init=False)
    accepted: dict[str | None, list[str]] = attrs.field(factory=dict, init=False)
    """The ids of the accepted tasks under each prompt. A prompt with two was paid for twice."""
    submits_accepted: int = attrs.field(default=0, init=False)
    paid_s: int = attrs.field(default=0, init=False)
    """Seconds of video that were accepted."""
    spent: Decimal = attrs.field(default=Decimal(0), init=False)
    """What all accepted tasks cost together, in USD. Exact."""
    most_running: int = attrs.field(default=0, init=False)
    """The most tasks that ran at once."""
    keys_leaked: int = attrs.field(default=0, init=False)
    """Downloads that came with an ``Authorization`` header, which belongs to the API alone."""
    watcher: Callable[[Entry], None] | None = attrs.field(default=None, init=False)
    """Gets each entry as it is written."""

    @property
    def posts(self) -> int:
        """How many submits came, accepted or not."""
        return self.requests[Kind.SUBMIT]

    @property
    def costs(self) -> dict[str, Decimal]:
        """What each accepted task cost, in USD, by its id: as far back as the entries go."""
        submits = [(entry.task_id, entry.cost) for entry in list(self.entries)]
        return {task_id: cost for task_id, cost in submits if task_id is not None and cost is not None}

    def of(self, kind: Kind | str) -> list[Entry]:
        """The entries of one kind, oldest first. May be called from another thread than the one that serves."""
        return [entry for entry in list(self.entries) if entry.kind == kind]

    def note(self, entry: Entry) -> None:
        """Writes down one request and what became of it."""
        self.entries.append(entry)
        self.requests[entry.kind] += 1
        self.statuses[entry.kind, entry.status] += 1
        if entry.fault is not None:
            self.faults[entry.kind, entry.fault] += 1
        self.keys_leaked += entry.kind is Kind.DOWNLOAD and entry.key_sent
        if self.watcher is not None:
            self.watcher(entry)

    def note_accepted(self, task: Task, running: int) -> None:
        """Writes down a task that was accepted, as one of ``running``."""
        self.submits_accepted += 1
        self.spent += task.cost
        self.paid_s += task.submission.seconds
        self.most_running = max(self.most_running, running)
        self.accepted.setdefault(task.submission.prompt, []).append(task.task_id)
