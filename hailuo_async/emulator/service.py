"""The API without I/O: a request and the time go in, an answer comes out.

    request ─▶ read (pure; heavy for large images) ─▶ decide (quick; the only place that changes anything) ─▶ reply

The time is the server's, in Unix seconds, and is expected not to run backwards. ``Service`` owns all state. Each
request is counted, authenticated and held against the requests limit, in this order; then it may meet a fault, then it
is worked on, then its answer may be spoiled. A refused request has changed nothing but the counts.

Webhooks leave it as values: ``take_webhooks`` gives those that are due, ``settle_webhook`` takes each one's answer.
"""

from __future__ import annotations

import random
from decimal import Decimal
from email.utils import formatdate

import attrs

from .announcements import Announcement, WebhookPost
from .answers import answer_query, answer_submit
from .catalogue import find_address, list_models
from .facts import API
from .faults import AFTER, BEFORE, DELIVERY, Fault, FaultDealer, Kind
from .fields import Submission
from .films import Picture, PlainFilm, choose_portion
from .ledger import Entry, Ledger
from .limits import RequestWindow
from .links import Signer, same_secret
from .routes import RESULTS, Reading, kind_of, methods_at, read, segments
from .settings import Settings
from .spoiling import spoil, strike
from .tasks import Task, TaskBoard
from .uploads import Upload, UploadStore
from .webhooks import WebhookQueue, is_worth_a_retry, read_webhook_url
from .wire import Delivery, Refusal, Reply, Request, json_reply, refused, success

_FOUR_DECIMALS = Decimal("0.0001")
#: A balance is a float: a sum of costs may miss it by this much.
_SLACK = 1e-9


@attrs.define
class _Visit:
    """One request on its way through ``decide``, and what the ledger is to know of it."""

    request: Request
    reading: Reading
    now: float
    kind: Kind
    fault: Fault | None = None
    task_id: str | None = None
    cost: Decimal | None = None
    early: WebhookPost | None = None


@attrs.define(kw_only=True)
class Service(Settings):
    """The emulated service. ``Settings`` has its arguments.

    Raises ``ValueError`` for a setting out of its range, ``TypeError`` for faults that are not ``Faults``.
    """

    ledger: Ledger = attrs.field(init=False)
    _tasks: TaskBoard = attrs.field(init=False)
    _window: RequestWindow = attrs.field(factory=RequestWindow, init=False)
    _uploads: UploadStore = attrs.field(factory=UploadStore, init=False)
    _webhooks: WebhookQueue = attrs.field(init=False)
    _dealer: FaultDealer = attrs.field(init=False)
    _dice: random.Random = attrs.field(init=False)
    _request_ids: random.Random = attrs.field(init=False)
    _signer: Signer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # A source of chance for each purpose: more queries, say, must not change how long tasks take.
        self.ledger = Ledger(self.ledger_entries)
        self._tasks = TaskBoard(self._chance("names"), self._chance("lives"))
        self._webhooks = WebhookQueue(self._chance("deliveries"))
        self._dealer = FaultDealer(self._chance("faults"))
        self._dice = self._chance("answers")
        self._request_ids = self._chance("request ids")
        self._signer = Signer(self._chance("secret").randbytes(32))

    def _chance(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}/{purpose}")

    @property
    def running(self) -> int:
        """How many tasks ran when the last request came."""
        return self._tasks.running

    def next_fault(self, kind: Kind | str, fault: Fault | str) -> None:
        """Lets the next request of this kind meet this fault, after those already planned, before any drawn.

        A fault that spoils answers waits for a request that succeeds; one of a webhook's, for the next accepted task
        that has a webhook. Raises ``ValueError`` for one that this kind of request cannot meet.
        """
        self._dealer.plan(Kind(kind), Fault(fault))

    # --- Requests ---

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
        self._uploads.expire(now, self.files_last_s)
        visit = _Visit(request, reading, now, kind_of(request))
        is_api = request.path.startswith(API)
        if is_api:
            self._window.count(now)
        try:
            reply = self._serve(visit)
        except Refusal as refusal:
            reply = refused(refusal)
        reply = reply.adding({"Date": formatdate(now, usegmt=True)} | (self._api_headers() if is_api else {}))
        self._note(visit, reply)
        return attrs.evolve(reply, preceded_by=visit.early)

    def _api_headers(self) -> dict[str, str]:
        headers = {"X-Request-Id": f"req-{self._request_ids.getrandbits(64):016x}"}
        return headers if self.requests_per_minute is None else headers | self._window.headers(self.requests_per_minute)

    def _serve(self, visit: _Visit) -> Reply:
        if visit.request.path.startswith(API):
            self._admit(visit)
        rates = self.faults.of(visit.kind)
        visit.fault = self._dealer.draw(visit.kind, BEFORE, rates)
        if visit.fault is not None:
            return strike(visit.fault, self._dice)
        reply = self._work(visit)
        visit.fault = self._dealer.draw(visit.kind, AFTER, rates)
        return reply if visit.fault is None else spoil(visit.fault, reply, self._dice)

    def _admit(self, visit: _Visit) -> None:
        given = visit.request.headers.get("authorization", "")
        # The question whether a key is valid is answered with 200 for one that is not.
        is_question = bool(given) and segments(visit.request) == ["apikey", "validate"]
        if not self._is_key(given) and not is_question:
            raise Refusal.of(401, "the API key is not valid" if given else "no API key was given")
        if self.requests_per_minute is not None and self._window.exceeds(self.requests_per_minute):
            raise self._window.refusal(self.requests_per_minute, visit.now, self._dice)

    def _is_key(self, authorization: str) -> bool:
        return same_secret(authorization, f"Bearer {self.api_key}")

    def _work(self, visit: _Visit) -> Reply:
        if isinstance(visit.reading, Refusal):
            raise visit.reading
        request = visit.request
        if visit.kind is Kind.DOWNLOAD and request.method == "GET":
            return self._download(visit)
        if isinstance(visit.reading, Upload):
            stored = self._uploads.add(visit.reading, visit.now, self.max_files)
            return success(stored.described(self.origin, iso_times=self.iso_times))
        if isinstance(visit.reading, Submission):
            return self._submit(visit, visit.reading)
        match request.method, segments(request):
            case "GET", ["tasks", task_id]:
                return self._query(visit, task_id)
            case "GET", ["models"]:
                featured = request.query.get("featured") == "true"
                return json_reply(200, {"models": list_models(featured=featured, prices_as_text=self.prices_as_text)})
            case "GET", ["apikey", "validate"]:
                return success({"is_valid": self._is_key(request.headers.get("authorization", ""))})
            case "GET", ["team", "balance"]:
                return success({"balance": round(self.balance, 4)})
            case "GET", ["media", "files"]:
                return self._list_uploads()
            case "DELETE", ["media", "files", file_id]:
                return self._delete_upload(file_id)
            case "GET", ["", "media", *_]:
                return self._show_upload(request)
        raise _nothing_there(request)

    # --- Tasks ---

    def _submit(self, visit: _Visit, submission: Submission) -> Reply:
        webhook_url = read_webhook_url(visit.request)
        price = self._price(submission)
        self._check_room(price)
        fault = None
        if webhook_url is not None:
            fault = self._dealer.draw(Kind.WEBHOOK, DELIVERY, self.faults.webhook)
        task = self._accept(submission, price, visit.now, at_once=fault is Fault.EARLY)
        visit.task_id, visit.cost = task.task_id, task.cost
        if webhook_url is not None:
            self._announce(visit, task, webhook_url, fault)
        address = find_address(segments(visit.request))
        return answer_submit(task, self, typed=address is not None and address.typed)

    def _price(self, submission: Submission) -> Decimal:
        per_s = submission.price_per_s if self.price_per_s is None else Decimal(str(self.price_per_s))
        return (submission.seconds * per_s).quantize(_FOUR_DECIMALS)

    def _check_room(self, price: Decimal) -> None:
        if price > self.balance + _SLACK:
            raise Refusal.of(402, f"this task costs {price:.2f} USD and {self.balance:.2f} USD are left")
        if self.max_running is not None and self._tasks.running + self.others_running >= self.max_running:
            raise Refusal(429, self._dice.choice(self.running_limit_wordings).format(limit=self.max_running))

    def _accept(self, submission: Submission, price: Decimal, now: float, *, at_once: bool) -> Task:
        life = self._tasks.draw_life(self.generation_s, self.spread, self.fail_rate, self.cancel_rate)
        if at_once:
            life = attrs.evolve(life, length_s=0.0)
        cost = price if life.ending == "success" or self.bills_failures else Decimal(0)
        self.balance: float = max(0.0, self.balance - float(cost))
        kept = attrs.evolve(submission, first=self._kept(submission.first), last=self._kept(submission.last))
        task = self._tasks.accept(kept, now, life, cost)
        self.ledger.note_accepted(task, self._tasks.running)
        return task

    def _kept(self, picture: Picture | None) -> Picture | None:
        """What a task keeps of a picture: its data only where a film will be made of it."""
        if picture is None or not self.render:
            return picture and attrs.evolve(picture, data=None)
        stored = self._uploads.find(picture.source.removeprefix(self.origin))
        return picture if stored is None else attrs.evolve(stored.upload.picture, source=picture.source)

    def _query(self, visit: _Visit, task_id: str) -> Reply:
        visit.task_id = task_id
        task = self._tasks.find(task_id)
        if task is None:
            raise Refusal.of(404, f"there is no task {task_id}, or it has expired")
        return self._describe(task, visit.now)

    def _describe(self, task: Task, now: float) -> Reply:
        expires_at = min(now + self.url_lasts_s, task.ends_at + self.results_last_s)
        return answer_query(
            task, self, now, self.origin + self._signer.sign(f"{RESULTS}{task.task_id}.mp4", expires_at)
        )

    def _download(self, visit: _Visit) -> Reply:
        path = visit.request.path
        visit.task_id = path.removeprefix(RESULTS).removesuffix(".mp4")
        self._signer.check(path, visit.request.query, visit.now)
        task = self._tasks.find(visit.task_id)
        if task is None:
            raise Refusal.of(404, f"there is no result at {path}")
        return Reply(200, film=task.film())

    # --- Uploads ---

    def _list_uploads(self) -> Reply:
        files = [stored.described(self.origin, iso_times=self.iso_times) for stored in self._uploads.all()]
        return success({"files": files})

    def _delete_upload(self, file_id: str) -> Reply:
        stored = self._uploads.delete(file_id)
        return success({"file_id": stored.file_id}) if self.delete_answers else Reply(204)

    def _show_upload(self, request: Request) -> Reply:
        stored = self._uploads.find(request.path)
        if stored is None:
            raise Refusal.of(404, f"there is no file at {request.path}")
        return Reply(200, {"Content-Type": f"image/{stored.upload.kind}"}, stored.data)

    # --- Webhooks ---

    @property
    def next_webhook_at(self) -> float | None:
        """When the next webhook is to be called (Unix seconds), ``None`` if no delivery is planned."""
        return self._webhooks.next_due_at

    def take_webhooks(self, now: float) -> list[WebhookPost]:
        """Removes and returns the POSTs that are due, in their order. Hand each one's answer to ``settle_webhook``."""
        self._tasks.advance(now, self.results_last_s)
        posts = [self._compose(planned, now) for planned in self._webhooks.take(now)]
        return [post for post in posts if post is not None]

    def settle_webhook(self, post: WebhookPost, status: int | None, now: float) -> None:
        """Notes what the receiver of ``post`` answered, ``None`` for no answer, and plans a retry where one is due."""
        self._note_webhook(post.announcement, status, now)
        if is_worth_a_retry(status):
            self._webhooks.try_again(post.announcement, now, self.webhook_retry_s)

    def _announce(self, visit: _Visit, task: Task, url: str, fault: Fault | None) -> None:
        planned = self._webhooks.announce(task, url, fault, self.webhook_late_s)
        if planned is None:
            return
        if fault is Fault.LOST:
            self._note_webhook(planned, None, visit.now)
        else:
            visit.early = self._compose(planned, visit.now)

    def _compose(self, planned: Announcement, now: float) -> WebhookPost | None:
        """The POST about a task, ``None`` if the task has expired meanwhile."""
        task = self._tasks.find(planned.task_id)
        if task is None:
            return None
        return WebhookPost(planned, planned.headers(task.ending), self._describe(task, now).body)

    # --- The ledger ---

    def _note_webhook(self, planned: Announcement, status: int | None, now: float) -> None:
        self.ledger.note(Entry(now, Kind.WEBHOOK, "POST", planned.path, status, planned.fault, planned.task_id))

    def _note(self, visit: _Visit, reply: Reply) -> None:
        is_silent = reply.delivery in (Delivery.CUT, Delivery.HANG)
        entry = Entry(
            at=visit.now,
            kind=visit.kind,
            method=visit.request.method,
            path=visit.request.path,
            status=None if is_silent else reply.status,
            fault=visit.fault,
            task_id=visit.task_id,
            cost=visit.cost,
            key_sent="authorization" in visit.request.headers,
            connection=visit.request.connection,
            body_bytes=len(visit.request.body),
        )
        self.ledger.note(entry.about(visit.reading) if isinstance(visit.reading, Submission) else entry)


def _nothing_there(request: Request) -> Refusal:
    methods = methods_at(segments(request))
    if request.path.startswith(API) and methods and request.method not in methods:
        refusal = Refusal.of(405, f"{request.path} does not answer {request.method}")
        return attrs.evolve(refusal, headers={"Allow": ", ".join(methods)})
    if request.method == "POST" and request.path.startswith(API):
        return Refusal.of(404, f"there is no model at {request.path}")
    return Refusal.of(404, f"nothing answers {request.method} {request.path}")
