"""Downloads a result as a complete file, or as a stream of bytes; never a part that looks complete.

A file is written as ``NAME.part`` beside its target, and gets its name only when every byte is on the disk and every
check has passed. After a cut, a cancellation or a kill, a later download resumes it by ``Range`` and ``If-Range``, if
the resource is still in the same state. (``partial_file`` keeps the facts for that, ``transfer`` reads the answers,
``allowed_hosts`` says where they may come from.)

Invariants:

- Checksums are computed over the complete file on the disk.
- A download waits for its writing thread, even if it is cancelled several times meanwhile.
- At most one piece of a download is held in memory, and nothing is read while it is written.
- No text of aiohttp's errors is passed on: some of them hold whole URLs, and the queries of these are secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar, TypeVarTuple

import aiohttp
import anyio
import anyio.to_thread
import attrs
from aiohttp.abc import AbstractResolver

from hailuo_async._io.download.allowed_hosts import ANYWHERE, PUBLIC, Clients, Reach
from hailuo_async._io.download.encoding import Inflater
from hailuo_async._io.download.partial_file import SYNC_EVERY_BYTES, Part
from hailuo_async._io.download.stamp import new_hash
from hailuo_async._io.download.transfer import Again, Expired, Transfer
from hailuo_async._io.download.values import USUAL, Limits, VideoPieces
from hailuo_async._io.wording import describe
from hailuo_async.errors import DownloadError, SessionClosedError

#: Seconds before each new try of a download that was cut, or that the server put off.
DEFAULT_WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0)
#: How long a server may put a download off in all (``Retry-After``): a file can wait, a reader cannot. One that asks
#: for more, as a host that is down for an hour, is tried as if it had not asked: a batch learns of it soon.
_PATIENCE_S, _READERS_PATIENCE_S = 60.0, 2.0

#: A piece is gathered before one hop to a thread writes it: the larger, the fewer hops. All downloads under way share
#: the memory for it, so that fifty at once hold little more than one.
_MAX_PIECE_BYTES, _MIN_PIECE_BYTES, _PIECES_BYTES = 2**20, 2**17, 2**23
#: A reader gets smaller pieces: it may be slow, there may be hundreds, and each wants its first piece soon.
_READERS_PIECE_BYTES = 2**18
#: Threads for the disk, so that a slow one does not take all of the program's.
_THREADS = 8

#: Asks the service for a new URL of the same result.
Refresh: TypeAlias = Callable[[], Awaitable[str]]
#: Notes the size in bytes and the SHA-256 in hex of a complete file, before the file has its name.
NoteWhole: TypeAlias = Callable[[int, str], Awaitable[object]]

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


@attrs.define(kw_only=True, eq=False)
class Downloads:
    """Fetches results, over connections of its own that carry no key and no cookies and read no environment.

    Belongs to one loop, from its first download on. ``stall_s`` is how long a connection may bring nothing,
    ``waits_s`` the waits before each new try, ``tls`` what certificates are checked with, if not with what aiohttp has
    read when it was imported; ``reach`` and ``make_resolver`` are for tests.
    """

    allow_private_network: bool
    find_proxy: Callable[[str], str | None] = attrs.field(default=lambda origin: None, repr=False)
    stall_s: float = 60.0
    waits_s: Sequence[float] = DEFAULT_WAITS_S
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    reach: Reach = attrs.field()
    make_resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver
    _clients: Clients = attrs.field(init=False, repr=False)
    _closed: asyncio.Event = attrs.field(factory=asyncio.Event, init=False, repr=False)
    _reading: set[aiohttp.StreamReader] = attrs.field(factory=set, init=False, repr=False)
    """The bodies that are being read. When a client closes, aiohttp lets their readers wait for ever."""
    _threads: anyio.CapacityLimiter = attrs.field(
        factory=lambda: anyio.CapacityLimiter(_THREADS), init=False, repr=False
    )

    @reach.default
    def _by_the_setting(self) -> Reach:
        return ANYWHERE if self.allow_private_network else PUBLIC

    @_clients.default
    def _not_yet_connected(self) -> Clients:
        return Clients(
            reach=self.reach,
            find_proxy=self.find_proxy,
            make_resolver=self.make_resolver,
            stall_s=self.stall_s,
            tls=self.tls,
        )

    async def fetch(
        self,
        url: str,
        target: Path,
        limits: Limits = USUAL,
        *,
        overwrite: bool = False,
        refresh: Refresh | None = None,
        task_id: str | None = None,
        on_whole: NoteWhole | None = None,
    ) -> Path:
        """Saves the resource at ``url`` as the file ``target``, and returns that. Not charged for.

        ``refresh`` gives a new URL if this one has expired; it is called at most once, and its errors are passed on.
        ``on_whole`` is awaited when every byte is on the disk, before the file has its name. Raises
        ``DownloadError`` with the path if the target exists or cannot be written, the URL or an address is not allowed,
        the server sent no video or after several tries not all of it, or a checksum or a limit does not hold. The
        target is then as it was, and beside it lies what a later download can go on with; so it is if cancelled before
        the file has its name. The disk finishes first what it has begun.
        """
        part = Part(target=target, overwrite=overwrite)
        transfer = Transfer(url=url, task_id=task_id, limits=limits)
        with _naming(task_id, target), anyio.move_on_after(limits.timeout_s):
            await self._save(transfer, part, refresh, on_whole)
            return target
        raise DownloadError(reason=f"not whole within {limits.timeout_s:g} s", path=str(target), task_id=task_id)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        url: str,
        limits: Limits = USUAL,
        *,
        refresh: Refresh | None = None,
        task_id: str | None = None,
        start: int = 0,
    ) -> AsyncGenerator[VideoPieces, None]:
        """The bytes at ``url`` from ``start`` on, in pieces of some 256 KiB, without a file: for passing a video on.

        Entering it fetches the first piece, so that a web handler learns of an error before it has begun to answer.
        Checks, tries and limits are those of ``fetch``, except for the time. A ``DownloadError`` may come as late as
        after the last piece (cut for good, changed, wrong checksum): then what was passed on is not a video.
        """
        transfer = Transfer(url=url, task_id=task_id, limits=limits, start=start)
        async with contextlib.aclosing(self._checked(transfer, refresh)) as pieces:
            first = await anext(pieces, None)
            if first is None:
                raise DownloadError(reason=f"it ends before byte {start}", task_id=task_id)
            yield VideoPieces(transfer.total, first, pieces)

    async def aclose(self) -> None:
        """Closes the connections. Downloads under way, and later ones, raise ``SessionClosedError``."""
        self._closed.set()
        for content in self._reading:
            content.set_exception(SessionClosedError(reason="the session is closed"))
        await self._clients.aclose()

    async def _save(self, transfer: Transfer, part: Part, refresh: Refresh | None, on_whole: NoteWhole | None) -> None:
        syncing: asyncio.Future[None] | None = None
        try:
            await self._in_thread(part.open, transfer.stamp.of)
            if part.stamp is not None:
                transfer.held, transfer.stamp = part.size, part.stamp
            synced = part.size
            found = self._pieces(transfer, refresh, _MAX_PIECE_BYTES, _PATIENCE_S)
            async with contextlib.aclosing(found) as pieces:
                async for offset, piece in pieces:
                    await self._in_thread(part.write, offset, piece, transfer.stamp)
                    del piece
                    # The difference is negative where the download began again.
                    if abs(part.size - synced) >= SYNC_EVERY_BYTES and (syncing is None or syncing.done()):
                        await _result_of(syncing)
                        synced, syncing = part.size, asyncio.ensure_future(self._in_thread(part.sync))
            await _result_of(syncing)
            await self._check_whole(transfer, part, on_whole)
            with anyio.CancelScope(shield=True):  # a file that gets its name is noted, even if the session closes now
                await self._in_thread(part.publish)
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await _wait_for(syncing)
                finally:
                    await self._in_thread(partial(part.leave, useful=not transfer.spoilt))

    async def _check_whole(self, transfer: Transfer, part: Part, on_whole: NoteWhole | None) -> None:
        """Compares the file on the disk with the server's checksums, and has its digest noted, if that is wanted."""
        expected = transfer.stamp.checksums
        digests = await self._in_thread(part.digests, {*expected, "sha256"} if on_whole is not None else expected)
        for algorithm, value in expected.items():
            if digests[algorithm] != value:
                raise transfer.useless(_wrong(algorithm))
        if on_whole is not None:
            await on_whole(part.size, digests["sha256"])

    async def _checked(self, transfer: Transfer, refresh: Refresh | None) -> AsyncGenerator[bytes, None]:
        """The pieces for a reader, who cannot give one back. Their checksums are checked after the last one."""
        hashes: dict[str, hashlib._Hash] = {}
        sent = transfer.start
        with _naming(transfer.task_id):
            found = self._pieces(transfer, refresh, _READERS_PIECE_BYTES, _READERS_PATIENCE_S)
            async with contextlib.aclosing(found) as pieces:
                async for offset, piece in pieces:
                    if offset < sent == transfer.start:  # the server sends all of it
                        piece = piece[sent - offset :]
                        if not piece:
                            continue
                    elif offset != sent:
                        raise DownloadError(reason="the server cannot go on where it was cut")
                    if not transfer.start:  # checksums are of the whole
                        hashes = hashes or {algorithm: new_hash(algorithm) for algorithm in transfer.stamp.checksums}
                    for running in hashes.values():
                        await self._in_thread(running.update, piece)
                    sent += len(piece)
                    yield piece
            for algorithm, running in hashes.items():
                if running.hexdigest() != transfer.stamp.checksums[algorithm]:
                    raise DownloadError(reason=_wrong(algorithm))

    async def _pieces(
        self, transfer: Transfer, refresh: Refresh | None, max_bytes: int, patience_s: float
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Each piece with its offset, until all are there. An offset of 0 begins again."""
        asked_s = 0.0
        for wait_s in (0.0, *self.waits_s):
            if asked_s <= patience_s:
                patience_s, wait_s = patience_s - asked_s, max(wait_s, asked_s)
            await self._pause(wait_s)
            asked_s = 0.0
            try:
                async with (
                    self._answer(transfer) as content,
                    contextlib.aclosing(self._body(transfer, content, max_bytes)) as body,
                ):
                    async for piece in body:
                        yield transfer.take(piece), piece
                transfer.end()
                return
            except Again as again:
                problem, asked_s = again.reason, again.after_s
            except Expired as expired:
                problem = f"the server answered {expired.status}"
                if refresh is None:
                    raise DownloadError(reason=f"{problem}: the URL is not valid, or no longer") from None
                transfer.move(await refresh())
                refresh = None
        raise DownloadError(reason=f"{problem}, at the last of {len(self.waits_s) + 1} tries")

    async def _pause(self, wait_s: float) -> None:
        """Waits for ``wait_s``, or until the downloads close."""
        if wait_s:
            with anyio.move_on_after(wait_s):
                await self._closed.wait()

    async def _body(
        self, transfer: Transfer, content: aiohttp.StreamReader, max_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """The pieces of one answer; as they were before the server compressed them, if it did."""
        piece = await _next_piece(content, self._piece_bytes(max_bytes))
        inflater = transfer.inflater(piece, _MIN_PIECE_BYTES)
        while piece:
            if inflater is None:
                yield piece
            else:
                while plain := await self._inflate(inflater, piece):
                    yield plain
                    piece = b""
            del piece  # it is not to be held while the next one is gathered
            piece = await _next_piece(content, self._piece_bytes(max_bytes))

    def _piece_bytes(self, max_bytes: int) -> int:
        return max(_MIN_PIECE_BYTES, min(max_bytes, _PIECES_BYTES // max(1, len(self._reading))))

    async def _inflate(self, inflater: Inflater, piece: bytes) -> bytes:
        try:
            return await self._in_thread(inflater.inflate, piece)
        except zlib.error:
            raise Again("what the server sent compressed is damaged") from None

    @contextlib.asynccontextmanager
    async def _answer(self, transfer: Transfer) -> AsyncGenerator[aiohttp.StreamReader, None]:
        """The body that answers the transfer's next request. What fails on the way there, or in it, is ``Again``."""
        if self._closed.is_set():
            raise SessionClosedError(reason="the session is closed")
        try:
            async with self._clients.travel(transfer.url, transfer.headers()) as response:
                transfer.begin(response.status, response.headers)
                self._reading.add(response.content)
                try:
                    yield response.content
                finally:
                    self._reading.discard(response.content)
        except ValueError as error:  # no host of that name can be, or its certificate is another's
            raise DownloadError(reason=describe(error)) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Again(describe(error)) from None

    async def _in_thread(self, call: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Runs ``call`` in a thread and waits for its end, also when cancelled, by anyio or by asyncio, even twice.

        Raises ``DownloadError`` for an ``OSError``: what runs here is work on the disk. A cancellation is delivered
        afterwards. (Left alone, a task that asyncio cancels returns while its thread still writes.)
        """
        work = asyncio.ensure_future(anyio.to_thread.run_sync(call, *arguments, limiter=self._threads))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await _wait_for(work)
            raise  # and not the thread's exception: the caller has gone
        except (OSError, ValueError) as failure:
            why = failure.strerror if isinstance(failure, OSError) else None
            raise DownloadError(reason=f"cannot be written: {why or failure}") from failure


async def _result_of(work: asyncio.Future[None] | None) -> None:
    """Waits for ``work``, if there is any, and raises what it raises. Cancelling it cancels only the wait."""
    if work is not None:
        await asyncio.shield(work)


async def _wait_for(work: asyncio.Future[_Result] | None) -> None:
    """Returns when ``work`` is done, even if it failed. A cancellation is raised then, and not before."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while work is not None and not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as error:
                cancelled = error
    if work is not None and not work.cancelled():
        work.exception()
    if cancelled is not None:
        raise cancelled


@contextlib.contextmanager
def _naming(task_id: str | None, target: Path | None = None) -> Iterator[None]:
    """Adds the path and the task to a ``DownloadError``, and the task to a ``SessionClosedError``."""
    try:
        yield
    except DownloadError as error:
        error.path, error.task_id = None if target is None else str(target), task_id
        raise
    except SessionClosedError as error:
        error.task_id = task_id
        raise


async def _next_piece(content: aiohttp.StreamReader, size: int) -> bytes:
    """The next piece: at least ``size`` bytes, or what came before the end or a cut, which the next call meets.

    Read with ``readany``: with every other way of reading aiohttp holds up to twice as much beside it.
    """
    chunks, length = [], 0
    try:
        while length < size and (chunk := await content.readany()):
            chunks.append(chunk)
            length += len(chunk)
            del chunk  # not to be held during the wait for the next one
    except (aiohttp.ClientError, TimeoutError):
        if not chunks:
            raise
    return b"".join(chunks)


def _wrong(algorithm: str) -> str:
    return f"its {algorithm} is not the one that the server named"
