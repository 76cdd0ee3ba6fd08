"""The API without I/O: a request and the time go in, an answer comes out.

    request ─▶ read (pure; heavy for large images) ─▶ decide (quick; the only place that changes anything) ─▶ reply

The time is the server's, in Unix seconds, and is expected not to run backwards. ``Service`` owns all state; the parts
that it is made of are its own. Each request is counted, authenticated and held against the requests limit, in this
order; then it may meet a fault, then it is worked on, then its answer may be spoiled. A refused request has changed
nothing but the counts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import attrs

from .catalogue import find_address, listing
from .faults import AFTER, BEFORE, Fault, FaultDealer, Faults, Kind
from .fields import Submission
from .films import Picture, PlainFilm, choose_portion
from .ledger import Entry, Ledger
from .limits import RequestWindow
from .links import Signer, same_secret
from .routes import API, RESULTS, Reading, kind_of, read, segments
from .spoiling import spoil, strike
from .tasks import Task, TaskBoard
from .uploads import Shelf, Upload
from .wire import Delivery, Refusal, Reply, Request, json_reply, refused, success

DEFAULT_API_KEY = "emulator-key"


@attrs.define
class _Visit:
    """One request on its way through ``decide``, and what the ledger is to know of it."""

    request: Request
    reading: Reading
    now: float
    kind: Kind
    fault: Fault | None = None
    task_id: str | None = None


def _from(lowest: int, highest: float = math.inf) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not lowest <= value <= highest:
            bounds = f"at least {lowest}" if highest == math.inf else f"from {lowest} to {highest:g}"
            raise ValueError(f"{attribute.name} must be {bounds}; got {value!r}")

    return check


@attrs.define(kw_only=True)
class Service:
    """The emulated service. Its arguments may also be set while it runs, but for ``render``, ``seed`` and the ledger's.

    Raises ``ValueError`` for a setting out of its range, ``TypeError`` for faults that are none.
    """

    api_key: str = attrs.field(default=DEFAULT_API_KEY, repr=False)
    origin: str = "http://emulator.invalid"
    """Scheme and host of the URLs that it hands out."""
    max_running: int | None = attrs.field(default=3, validator=_from(0))
    """How many tasks the team may run at once; ``None`` for any number."""
    others_running: int = attrs.field(default=0, validator=_from(0))
    """How many of those are held by other programs of the team."""
    requests_per_minute: int | None = attrs.field(default=100, validator=_from(0))
    """``None`` for no limit, and no headers that tell of one."""
    generation_s: float = attrs.field(default=4.0, validator=_from(0))
    """How long a task takes in the mean."""
    spread: float = attrs.field(default=0.2, validator=_from(0, 1))
    """By which share of the mean a task may take more or less."""
    fail_rate: float = attrs.field(default=0.0, validator=_from(0, 1))
    results_last_s: float = attrs.field(default=24 * 3600.0, validator=_from(0))
    """How long after its end a task is known."""
    url_lasts_s: float = attrs.field(default=3600.0, validator=_from(0))
    """How long a result's URL opens it, from the query that gave it."""
    balance: float = attrs.field(default=100_000.0, validator=_from(0))
    """USD."""
    price_per_s: float = attrs.field(default=0.05, validator=_from(0))
    """USD for a second of video."""
    faults: Faults = attrs.field(factory=Faults, validator=attrs.validators.instance_of(Faults))
    render: bool = attrs.field(default=False, on_setattr=attrs.setters.frozen)
    """Whether the pictures of tasks are kept, to make films of."""
    video_size: int = attrs.field(default=4096, validator=_from(1))
    """Bytes of a film that is not rendered."""
    ledger_entries: int = attrs.field(default=100_000, validator=_from(0), on_setattr=attrs.setters.frozen)
    seed: int = attrs.field(default=0, on_setattr=attrs.setters.frozen)
    """Everything that is left to chance follows from it."""

    ledger: Ledger = attrs.field(init=False)
    _tasks: TaskBoard = attrs.field(init=False)
    _window: RequestWindow = attrs.field(factory=RequestWindow, init=False)
    _shelf: Shelf = attrs.field(factory=Shelf, init=False)
    _dealer: FaultDealer = attrs.field(init=False)
    _dice: random.Random = attrs.field(init=False)
    _signer: Signer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # A source of chance for each purpose: more queries, say, must not change how long tasks take.
        self.ledger = Ledger(self.ledger_entries)
        self._tasks = TaskBoard(self._chance("names"), self._chance("lives"))
        self._dealer = FaultDealer(self._chance("faults"))
        self._dice = self._chance("answers")
        self._signer = Signer(self._chance("secret").randbytes(32))

    def _chance(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}/{purpose}")

    @property
    def running(self) -> int:
        """How many tasks ran when the last request came."""
        return self._tasks.running

    def next_fault(self, kind: Kind | str, fault: Fault | str) -> None:
        """Lets the next request of this kind meet this fault, after those already planned, before any drawn.

        A fault that spoils answers waits for a request that succeeds. Raises ``ValueError`` for one that this kind
        of request cannot meet.
        """
        self._dealer.plan(Kind(kind), Fault(fault))

    def handle(self, request: Request, now: float) -> Reply:
        """The answer to ``request`` at ``now``. A film is answered with its plain bytes."""
        reply = self.decide(request, read(request), now)
        if reply.film is None:
            return reply
        film = PlainFilm(reply.film.task_id, self.video_size)
        portion = choose_portion(request.headers, film.size, film.etag)
        whole = attrs.evolve(reply, status=portion.status, body=film.read(portion.start, portion.stop), film=None)
        return whole.adding(portion.headers)

    def decide(self, request: Request, reading: Reading, now: float) -> Reply:
        """The answer to a request whose body was read before. Takes no longer for a large body than for none."""
        self._tasks.advance(now, self.results_last_s)
        visit = _Visit(request, reading, now, kind_of(request))
        counted = self.requests_per_minute is not None and request.path.startswith(API)
        if counted:
            self._window.count(now)
        try:
            reply = self._serve(visit)
        except Refusal as refusal:
            reply = refused(refusal)
        reply = reply.adding({"Date": formatdate(now, usegmt=True)})
        if counted and self.requests_per_minute is not None:
            reply = reply.adding(self._window.headers(self.requests_per_minute))
        self._note(visit, reply)
        return reply

    def _serve(self, visit: _Visit) -> Reply:
        if visit.request.path.startswith(API):
            self._admit(visit)
        rates = self.faults.of(visit.kind)
        visit.fault = self._dealer.draw(visit.kind, BEFORE, rates)
        if visit.fault is not None:
            return strike(visit.fault)
        reply = self._work(visit)
        visit.fault = self._dealer.draw(visit.kind, AFTER, rates)
        return reply if visit.fault is None else spoil(visit.fault, reply, self._dice)

    def _admit(self, visit: _Visit) -> None:
        given = visit.request.headers.get("authorization", "")
        if not same_secret(given, f"Bearer {self.api_key}"):
            raise Refusal.of(401, "the API key is not valid" if given else "no API key was given")
        if self.requests_per_minute is not None and self._window.exceeds(self.requests_per_minute):
            raise self._window.refusal(self.requests_per_minute, visit.now, self._dice)

    def _work(self, visit: _Visit) -> Reply:
        if isinstance(visit.reading, Refusal):
            raise visit.reading
        request = visit.request
        if visit.kind is Kind.SUBMIT:
            return self._submit(visit)
        if visit.kind is Kind.DOWNLOAD and request.method == "GET":
            return self._download(visit)
        if isinstance(visit.reading, Upload):
            return self._keep(visit.reading, visit.now)
        match request.method, segments(request):
            case "GET", ["tasks", task_id]:
                return self._query(visit, task_id)
            case "GET", ["models"]:
                return json_reply(200, {"models": listing()})
            case "GET", ["apikey", "validate"]:
                return success({"is_valid": True})
            case "GET", ["team", "balance"]:
                return success({"balance": round(self.balance, 4)})
            case "GET", ["", "media", *_]:
                return self._show(request)
        raise Refusal.of(404, f"nothing answers {request.method} {request.path}")

    def _submit(self, visit: _Visit) -> Reply:
        address = find_address(segments(visit.request))
        if address is None or not isinstance(visit.reading, Submission):
            raise Refusal.of(404, f"there is no model at {visit.request.path}")
        task = self._accept(visit.reading, visit.now)
        visit.task_id = task.task_id
        data: dict[str, object] = {"status": "pending", "task_id": task.task_id, "model_id": address.model.model_id}
        if not address.typed:
            data["get_result"] = {"method": "GET", "url": f"{self.origin}{API}tasks/{task.task_id}"}
        return success(data)

    def _accept(self, submission: Submission, now: float) -> Task:
        price = submission.seconds * self.price_per_s
        if price > self.balance:
            raise Refusal.of(402, f"this task costs {price:.2f} USD and {self.balance:.2f} USD are left")
        if self.max_running is not None and self._tasks.running + self.others_running >= self.max_running:
            raise Refusal(429, f"Concurrent limit exceeded: the team may run {self.max_running} tasks at once")
        self.balance -= price
        kept = attrs.evolve(submission, first=self._kept(submission.first), last=self._kept(submission.last))
        task = self._tasks.accept(kept, now, self.generation_s, self.spread, self.fail_rate)
        self.ledger.note_accepted(task, self._tasks.running)
        return task

    def _kept(self, picture: Picture | None) -> Picture | None:
        """What a task keeps of a picture: its data only where a film will be made of it."""
        if picture is None or not self.render:
            return picture and attrs.evolve(picture, data=None)
        stored = self._shelf.find(picture.source.removeprefix(self.origin))
        return picture if stored is None else attrs.evolve(stored.upload.picture, source=picture.source)

    def _query(self, visit: _Visit, task_id: str) -> Reply:
        visit.task_id = task_id
        task = self._tasks.find(task_id)
        if task is None:
            raise Refusal.of(404, f"there is no task {task_id}, or it has expired")
        expires_at = min(visit.now + self.url_lasts_s, task.ends_at + self.results_last_s)
        url = self.origin + self._signer.sign(f"{RESULTS}{task_id}.mp4", expires_at)
        return success(task.described(visit.now, url))

    def _download(self, visit: _Visit) -> Reply:
        path = visit.request.path
        visit.task_id = path.removeprefix(RESULTS).removesuffix(".mp4")
        self._signer.check(path, visit.request.query, visit.now)
        task = self._tasks.find(visit.task_id)
        if task is None or task.status(visit.now) != "success":
            raise Refusal.of(404, f"there is no result at {path}")
        return Reply(200, film=task.film())

    def _keep(self, upload: Upload, now: float) -> Reply:
        return success(self._shelf.put(upload, now).described(self.origin))

    def _show(self, request: Request) -> Reply:
        stored = self._shelf.find(request.path)
        if stored is None:
            raise Refusal.of(404, f"there is no file at {request.path}")
        return Reply(200, {"Content-Type": f"image/{stored.upload.kind}"}, stored.data)

    def _note(self, visit: _Visit, reply: Reply) -> None:
        silent = reply.delivery in (Delivery.CUT, Delivery.HANG)
        entry = Entry(
            at=visit.now,
            kind=visit.kind,
            method=visit.request.method,
            path=visit.request.path,
            status=None if silent else reply.status,
            fault=visit.fault,
            task_id=visit.task_id,
            key_sent="authorization" in visit.request.headers,
            connection=visit.request.connection,
            body_bytes=len(visit.request.body),
        )
        self.ledger.note(entry.about(visit.reading) if isinstance(visit.reading, Submission) else entry)
