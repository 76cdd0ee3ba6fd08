"""The emulated service of a life, and the lines of its sessions to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random

import anyio
import attrs

from benchmarks.books import Books, Payer, Post
from benchmarks.hosts import EPOCH
from benchmarks.processes import outside
from hailuo_async._rules.wire import Answer, Refusal, Request, Verdict, read_submit, unsent
from hailuo_async.emulator import Kind, Reply, Service, WebhookPost
from hailuo_async.emulator import Request as Received
from hailuo_async.emulator.fields import Submission
from hailuo_async.emulator.tasks import Task
from hailuo_async.emulator.wire import Refusal as Refused
from hailuo_async.emulator.wire import json_reply, refused
from hailuo_async.testing import InMemory

_POST = "x-post"


@attrs.define(kw_only=True)
class WatchedService(Service):
    """A service that tells its books of each POST, and keeps the deliveries that come before the answer."""

    books: Books = attrs.field(init=False)
    posts: dict[str, Post] = attrs.field(factory=dict, init=False)
    early: list[WebhookPost] = attrs.field(factory=list, init=False)
    numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    lag_s: float = 0.0
    """For so long a new task may not be known to what answers queries."""
    lies: bool = False
    """Whether it says nonsense about how long a task took."""

    def _accept(self, submission: Submission, price: Decimal, now: float, *, at_once: bool) -> Task:
        """As ``Service._accept``; a video of ten seconds takes three times as long."""
        mean_s = self.generation_s
        self.generation_s = mean_s * (3 if submission.seconds == 10 else 1)
        try:
            return super()._accept(submission, price, now, at_once=at_once)
        finally:
            self.generation_s = mean_s

    def handle(self, request: Received, now: float) -> Reply:
        """As ``Service.handle``."""
        reply = super().handle(request, now)
        post, entry = self.posts.get(request.headers.get(_POST, "")), self.ledger.entries[-1]
        if post is not None and entry.kind is Kind.SUBMIT:
            self.books.arrived(entry.prompt or "", entry.task_id, post)
        if entry.kind is Kind.QUERY and reply.status == 200:
            reply = self._falsified(reply, entry.task_id or "")
        if reply.preceded_by is not None:
            self.early.append(reply.preceded_by)
        return reply

    def is_young(self, task_id: str) -> bool:
        """Whether it may not be known yet to what answers queries."""
        task = self._tasks.find(task_id)
        return task is not None and EPOCH + anyio.current_time() < task.accepted_at + self.lag_s

    def _falsified(self, reply: Reply, task_id: str) -> Reply:
        """The answer to a query, as one gives it that knows of the task later, or not how long it took."""
        if self.is_young(task_id) and self._dice.random() < 0.5:
            return refused(Refused.of(404, "it is not known yet")).adding(reply.headers)
        if self.lies and b'"duration"' in reply.body:
            envelope = reply.json()
            envelope["data"]["duration"] = self._dice.choice((0, -1, 1, 10**8, "long", None, [], 1e300))
            return json_reply(200, envelope).adding(reply.headers)
        return reply


@attrs.define(eq=False)
class Network:
    """What lies between the sessions and the service."""

    service: WatchedService
    rng: Random
    latency_s: float = 0.1
    unsent_rate: float = 0.02
    slow_rate: float = 0.02
    contrary_rate: float = 0.02
    """How often an answer refuses a job, and names its task all the same."""
    strike_rate: float = 0.0
    strike: Callable[[Payer], None] = lambda _: None
    """Stops or kills the process that is about to send a POST, or has just got its answer; or closes its session."""
    is_down: bool = False

    @property
    def is_calm(self) -> bool:
        """Whether nothing happens any more."""
        return not self.unsent_rate

    def calm_down(self) -> None:
        """Ends all troubles."""
        self.unsent_rate = self.slow_rate = self.contrary_rate = 0.0
        self.is_down = False

    async def befall(self, payer: Payer) -> None:
        """A moment at which a process may be struck."""
        if self.rng.random() < self.strike_rate:
            self.strike(payer)
            await anyio.sleep(self.rng.choice((0.0, 0.05)))  # a session that closes may tear the POST


@attrs.define(eq=False)
class Wire:
    """A session's line to the service. What was sent goes on without its process, as the kernel would have it."""

    network: Network
    payer: Payer

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """Sends it once. Cancelled, it tears the request."""
        network, rng, began_at = self.network, self.network.rng, anyio.current_time()
        if network.is_down or rng.random() < network.unsent_rate:
            await anyio.sleep(rng.choice((0.0, 0.1, 3.0)))
            return unsent("cannot connect")
        if rng.random() < network.slow_rate:
            await anyio.sleep(rng.choice((0.1, 20.0)))
        if _is_submit(request):
            await network.befall(self.payer)
        if request.may_go_on is not None and not request.may_go_on():
            return unsent("its permission to send had lapsed")
        line = InMemory(network.service, latency_s=network.latency_s, epoch=EPOCH)
        if _is_submit(request):
            return await self._post(line, request, timeout_s, Post(self.payer, began_at=began_at))
        return await outside(line.send(request, timeout_s))

    async def _post(self, line: InMemory, request: Request, timeout_s: float, post: Post) -> Answer:
        service, heard = self.network.service, None
        number = str(next(service.numbers))
        service.posts[number] = post
        request = attrs.evolve(request, headers={**request.headers, _POST: number})
        is_refused = False
        try:
            answer = await outside(line.send(request, timeout_s))
            if self.network.rng.random() < self.network.contrary_rate:
                answer = _contradicted(answer)
            await self.network.befall(self.payer)
            read = read_submit(answer)
            heard = read.task_id if read.verdict is Verdict.ACCEPTED else None
            is_refused = read.verdict is Verdict.REFUSED
            return answer
        finally:
            del service.posts[number]
            if not is_refused:
                service.books.answered(post, heard)

    async def aclose(self) -> None:
        """Holds nothing."""


def _contradicted(answer: Answer) -> Answer:
    """An answer that accepts a job, with the status of a refusal."""
    task_id = read_submit(answer).task_id
    if answer.verdict is not Verdict.ACCEPTED or task_id is None:
        return answer
    return attrs.evolve(answer, verdict=Verdict.REFUSED, status=400, refusal=Refusal.REJECTED, task_id=task_id)


def _is_submit(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/async")
