"""One small server that speaks all the protocols: ``python -m benchmarks.peers.server OPTIONS``, in its own process.

No client may ever wait for it, so it is a raw ``asyncio.Protocol`` that knows just enough HTTP: requests with a
``Content-Length``, one after the other on each connection. Of a body it keeps the first kilobytes, for the prompt.

It says its origin on its standard output; when its standard input ends, it says its ledger there and ends.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

import attrs

from benchmarks.peers.services import SERVICES, Json, Said, Service, replicate_file

_KEPT = 4096
"""Bytes of a body: a prompt stands before any picture, or there is no picture."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_PREFERS_TO_WAIT = re.compile(rb"\r\nprefer: *wait", re.IGNORECASE)
_PROMPT = re.compile(rb"job \d+")
_TASK = re.compile(r"task-\d+")
_SORRY = {"code": 500, "message": "Internal error", "detail": "internal error"}


@attrs.frozen
class Options:
    """How the service behaves."""

    pending_s: float = 0.5
    """From a task's acceptance to its video."""
    holds_s: float = 60.0
    """The longest that a POST is held for a client that prefers to wait, where the service has that (Replicate: 60)."""
    lost_answers: int = 0
    """Of each job, so many POSTs are accepted and their connection is closed without an answer."""
    failed_queries: int = 0
    """Of each task, so many queries are answered by a 500."""


@attrs.define
class Ledger:
    """What was asked for, and what the service would be paid for."""

    posts: int = 0
    """Requests that ask for a video."""
    queries: int = 0
    uploads: int = 0
    body_bytes: int = 0
    """Of all requests, as they came over the line."""
    accepted: dict[str, list[str]] = attrs.field(factory=dict)
    """The tasks of each job, in order. A job is known by the ``job 17`` in its prompt, or by nothing."""

    @property
    def requests(self) -> int:
        return self.posts + self.queries + self.uploads


@attrs.define
class Task:
    """A video that is being made, and paid for."""

    id: str
    service: Service
    done_at: float
    queries: int = 0


@attrs.define
class Works:
    """The service behind all connections: its tasks and its ledger. ``ledger`` may be replaced by a fresh one."""

    options: Options
    origin: str = ""
    ledger: Ledger = attrs.field(factory=Ledger)
    _tasks: dict[str, Task] = attrs.field(factory=dict)

    def upload(self) -> Json:
        """Takes a file."""
        self.ledger.uploads += 1
        return replicate_file(self.origin, self.ledger.uploads)

    def accept(self, path: str, body: bytes) -> tuple[Task, bool]:
        """Takes a job. Whether its answer may arrive."""
        self.ledger.posts += 1
        service = SERVICES[path.split("/")[1]]
        task = Task(f"task-{len(self._tasks) + 1}", service, time.monotonic() + self.options.pending_s)
        self._tasks[task.id] = task
        prompt = _PROMPT.search(body)
        accepted = self.ledger.accepted.setdefault(prompt.group().decode("ascii") if prompt else "", [])
        accepted.append(task.id)
        return task, len(accepted) > self.options.lost_answers

    def query(self, path: str) -> Json | None:
        """How a task stands; ``None`` if that goes wrong. Raises ``LookupError`` for what is no task."""
        self.ledger.queries += 1
        task = self._tasks[_TASK.findall(path)[0]]
        task.queries += 1
        return self.told(task, path) if task.queries > self.options.failed_queries else None

    def told(self, task: Task, path: str) -> Json:
        """The answer to a query of ``path`` about ``task``."""
        tell = task.service.done if time.monotonic() >= task.done_at else task.service.running
        return tell(Said(task.id, path, self.origin))

    def first_word(self, task: Task, path: str) -> Json:
        """The answer to the POST of ``path`` that began ``task``."""
        return task.service.accepted(Said(task.id, path, self.origin))


class Connection(asyncio.Protocol):
    """One connection. A request is answered when its body is there to the end."""

    _transport: asyncio.Transport

    def __init__(self, works: Works) -> None:
        self._works = works
        self._head = bytearray()
        self._body = bytearray()
        self._left = 0
        """Bytes of the body that are still to come, of the request that ``_head`` begins."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._take(data)
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return
        rest = self._head[end + 4 :]
        del self._head[end:]
        if _CHUNKED.search(self._head):
            self._send("411 Length Required", {"detail": "this server reads bodies of a known length alone"})
            self._transport.close()
            return
        length = _LENGTH.search(self._head)
        self._left = int(length.group(1)) if length else 0
        self._works.ledger.body_bytes += self._left
        self._take(bytes(rest))

    def _take(self, data: bytes) -> None:
        self._left -= len(data)
        self._body += data[: _KEPT - len(self._body)]
        if self._left == 0:
            head, body = bytes(self._head), bytes(self._body)
            self._head.clear()
            self._body.clear()
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        path = target.partition("?")[0]
        works = self._works
        if path == "/fresh-ledger":
            works.ledger = Ledger()
            self._send("200 OK", {})
        elif method != "POST":
            told = works.query(path)
            self._send("200 OK", told) if told is not None else self._send("500 Internal Server Error", _SORRY)
        elif path.endswith("/files"):
            self._send("200 OK", works.upload())
        else:
            self._begin(path, body, waits=_PREFERS_TO_WAIT.search(head) is not None)

    def _begin(self, path: str, body: bytes, *, waits: bool) -> None:
        works = self._works
        task, is_answered = works.accept(path, body)
        if not is_answered:
            self._transport.close()
        elif waits and task.service.holds and works.options.pending_s <= works.options.holds_s:
            held_s = task.done_at - time.monotonic()
            asyncio.get_running_loop().call_later(held_s + 0.001, self._send_told, task, path)
        else:
            self._send("200 OK", works.first_word(task, path))

    def _send_told(self, task: Task, path: str) -> None:
        self._send("200 OK", self._works.told(task, path))

    def _send(self, status: str, answer: Json) -> None:
        body = json.dumps(answer)
        kind = "Content-Type: application/json"
        self._transport.write(f"HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


async def serve(options: Options) -> None:
    """Serves until the standard input ends."""
    loop, works, ended = asyncio.get_running_loop(), Works(options), asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    server = await loop.create_server(lambda: Connection(works), "127.0.0.1", 0, backlog=4096)
    works.origin = "http://{}:{}".format(*server.sockets[0].getsockname())
    print(works.origin, flush=True)
    await ended.wait()
    print(json.dumps(attrs.asdict(works.ledger)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Options(**json.loads(sys.argv[1]))))
