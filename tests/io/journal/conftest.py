"""One journal, by two holders, on a clock that the test sets; in a file, and in a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from hailuo_async._io.journal import postgres_opening
from hailuo_async._io.journal.table import JobTable, open_table
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.settings import Dsn, JournalLocation

from ...support.postgres import Postgres
from ...support.tables import LEASE_S, Clock, Opener, ServerClock, everything_in

Everything: TypeAlias = Callable[[], bytes]


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    """Where the journal is."""
    return str(request.param)


@pytest.fixture
def server(engine: str, request: pytest.FixtureRequest) -> Postgres | None:
    return request.getfixturevalue("postgres") if engine == "postgres" else None


@pytest.fixture
def place(path: Path, server: Postgres | None) -> Iterator[JournalLocation]:
    if server is None:
        yield path
        return
    schema = server.new_schema()
    yield Dsn(server.dsn(schema))
    server.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE", f"DROP SCHEMA IF EXISTS {schema}_clock CASCADE")


@pytest.fixture
def schema(postgres: Postgres) -> Iterator[str]:
    """A name for a journal on the server, which is removed with the test."""
    name = postgres.new_schema()
    yield name
    postgres.run(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def clock(place: JournalLocation, server: Postgres | None) -> Clock:
    if server is None or isinstance(place, Path):
        return Clock()
    return ServerClock(server=server, schema=place.options.partition("=")[2])


@pytest.fixture
def everything(place: JournalLocation, server: Postgres | None) -> Everything:
    """All that the journal keeps."""
    return lambda: everything_in(place, server)


@pytest.fixture
def opened(place: JournalLocation, clock: Clock) -> Iterator[Opener]:
    tables: list[JobTable] = []

    def open_as(holder: str) -> JobTable:
        if isinstance(clock, ServerClock) and isinstance(place, Dsn):
            table = JobTable(postgres_opening.open_for_writing(place, DEFAULT_BASE_URL, clock.sql), holder, LEASE_S)
            with table.transaction():
                table.wipe_expired()
        else:
            table = open_table(place, DEFAULT_BASE_URL, clock, holder, LEASE_S, 0.2)
        tables.append(table)
        return table

    yield open_as
    for table in tables:
        table.database.close()


@pytest.fixture
def ours(opened: Opener) -> JobTable:
    return opened("ours")


@pytest.fixture
def theirs(opened: Opener) -> JobTable:
    return opened("theirs")
