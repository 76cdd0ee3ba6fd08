"""The virtual server keeps to what a PostgreSQL server does, as far as sessions of a journal can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import psycopg
import pytest

from benchmarks.processes import run_processes
from hailuo_async._io.journal.database import ANYTHING
from hailuo_async._io.journal.postgres import PostgresDatabase
from hailuo_async.settings import Dsn

from ...support.virtual_line import VirtualLine
from ...support.virtual_postgres import VirtualServer

TRIP_S = 0.1
COUNT = "UPDATE team SET gone = gone + 1"
COUNTED = "SELECT gone FROM team"

pytestmark = pytest.mark.usefixtures("lines_may_block")


class Client:
    """A connection, on the thread of its own line."""

    def __init__(self, server: VirtualServer) -> None:
        self.line = VirtualLine(server, Random(0), lambda: TRIP_S / 2)
        self.database = PostgresDatabase(Dsn("postgresql://virtual/server"), connect=self.line.connect)

    async def do(self, work: Callable[[], object]) -> object:
        """Does it in a transaction of its own."""

        def in_a_transaction() -> object:
            with self.database.transaction():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self.line, in_a_transaction)

    def counts(self) -> int:
        return self.database.execute(COUNT).rowcount

    def counted(self) -> int:
        return int(self.database.execute(COUNTED).fetchone()["gone"])

    def sleep(self, seconds: float) -> None:
        self.line.wait(asyncio.sleep(seconds))


def with_clients(work: Callable[[VirtualServer, Client, Client], object]) -> None:
    """Has two clients, both connected, do their work."""

    async def main() -> None:
        server = VirtualServer(Random(0), pause_s=0.0)
        clients = [Client(server) for _ in range(2)]
        for client in clients:
            await client.do(client.counted)
        await work(server, *clients)  # type: ignore[misc]
        for client in clients:
            client.database.close()
        await asyncio.sleep(1.0)
        server.close()

    run_processes(main)


def test_a_statement_sees_what_was_committed_before_it_and_what_its_own_transaction_has_written() -> None:
    async def work(server: VirtualServer, a: Client, b: Client) -> None:
        def looks_twice() -> tuple[int, int]:
            before = a.counted()
            a.sleep(1.0)
            return before, a.counted()

        async def writes() -> object:
            await asyncio.sleep(0.5)
            return await b.do(lambda: (b.counts(), b.counted()))

        assert list(await asyncio.gather(a.do(looks_twice), writes())) == [(0, 1), (1, 1)]

    with_clients(work)


def test_who_wants_a_row_that_another_has_written_waits_for_its_end_and_finds_what_is_there_then() -> None:
    async def work(server: VirtualServer, a: Client, b: Client) -> None:
        def writes_and_waits() -> tuple[int, int]:
            made = a.counts()
            a.sleep(1.0)
            return made, a.counted()

        async def wants_the_row() -> object:
            await asyncio.sleep(0.5)
            unseen = await b.do(b.counted)
            return unseen, await b.do(lambda: (b.counts(), b.counted()))

        assert list(await asyncio.gather(a.do(writes_and_waits), wants_the_row())) == [(1, 1), (0, (1, 2))]

    with_clients(work)


def test_of_two_that_wait_for_each_other_one_is_taken_back() -> None:
    async def work(server: VirtualServer, a: Client, b: Client) -> None:
        first, second = COUNT, "UPDATE journal SET log_due = log_due + 1"

        def in_turn(client: Client, *statements: str) -> Callable[[], None]:
            def writes() -> None:
                for sql in statements:
                    assert client.database.execute(sql).rowcount == 1

            return writes

        results = await asyncio.gather(
            a.do(in_turn(a, first, second)), b.do(in_turn(b, second, first)), return_exceptions=True
        )
        assert sorted(map(repr, results)) == ["DeadlockDetected('deadlock detected')", "None"]
        assert server.select("SELECT gone, log_due FROM team, journal") == [(1, 1)]

    with_clients(work)


@pytest.mark.parametrize(("cut_after_s", "is_made"), [(0.3 * TRIP_S, None), (0.7 * TRIP_S, True)])
def test_a_commit_whose_answer_is_lost_may_be_made(cut_after_s: float, is_made: bool | None) -> None:
    """What had not arrived may arrive all the same."""

    async def work(server: VirtualServer, a: Client, b: Client) -> None:
        asyncio.get_running_loop().call_later(cut_after_s, a.line.cut)
        with pytest.raises(psycopg.OperationalError):
            await a.do(lambda: a.database.execute(COUNT))
        await asyncio.sleep(1.0)
        counted = await a.do(a.counted)
        assert is_made is None or counted == is_made
        assert a.database.connections == 2

    with_clients(work)


def test_others_are_told_when_a_commit_is_made() -> None:
    async def work(server: VirtualServer, a: Client, b: Client) -> None:
        for client in (a, b):
            await client.do(lambda client=client: client.database.listen("topic"))  # type: ignore[misc]
            assert client.database.notifications() == {ANYTHING}
        await a.do(lambda: a.database.notify("topic"))
        await asyncio.sleep(1.0)
        assert [a.database.notifications(), b.database.notifications()] == [frozenset(), frozenset({"topic"})]

    with_clients(work)


def test_nothing_comes_through_to_one_that_is_cut_off_and_its_rows_are_free_for_others() -> None:
    async def work(server: VirtualServer, a: Client, b: Client) -> None:
        def writes_and_waits() -> None:
            a.counts()
            a.sleep(1.0)
            a.counts()

        async def wants_the_row() -> object:
            await asyncio.sleep(2.0)
            with pytest.raises(psycopg.errors.LockNotAvailable):  # the one that waits first ends the silent one
                await b.do(b.counts)
            return await b.do(lambda: (b.counts(), b.counted()))

        asyncio.get_running_loop().call_later(0.5, asyncio.ensure_future, a.line.cut_off(40.0))
        results = await asyncio.gather(a.do(writes_and_waits), wants_the_row(), return_exceptions=True)
        assert (repr(results[0]), results[1]) == ("OperationalError('the connection was cut')", (1, 1))

    with_clients(work)
