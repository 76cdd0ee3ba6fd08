"""What a journal survives: bad files, full disks, kills and lost power. Each fault is made, none is simulated."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from hailuo_async._io.journal import database, files, sqlite
from hailuo_async._io.journal.holders import is_gone
from hailuo_async._io.journal.reader import Journal
from hailuo_async._io.journal.records import Intent, JournalState, Record
from hailuo_async._io.journal.table import open_table
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import JournalError

from ...support.crash_journal import read_records
from ...support.tables import accepted

ROOT = Path(__file__).parents[3]

#: A child that works on many jobs at once, and says on its standard output that one is sent, and that its task is kept.
WRITER = """
import asyncio, sys, time
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._io.journal.records import Intent

async def work(journal, keys):
    for key in keys:
        intent = Intent(identity=key, key=key, fingerprint="f", kind="ImageToVideo", model="m", facts={})
        if (await journal.intend(intent)).ours and await journal.sending(key, time.time()):
            print("sent", key, flush=True)
            await journal.note(journal.jobs.accepted, key, f"task-{key}", time.time())
            print("kept", key, flush=True)

async def main(path, jobs):
    journal = await JournalWriter.open(path, base_url="https://api.modellix.ai", now=time.time)
    keys = (str(number) for number in range(int(jobs)))
    await asyncio.gather(*(work(journal, keys) for _ in range(50)))
    await journal.aclose()

asyncio.run(main(*sys.argv[1:]))
"""

#: A child that may not write files beyond a size, which is a full disk to it. It tells how far it came.
BOUNDED = """
import asyncio, resource, sys, time
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._io.journal.records import Intent
from hailuo_async.errors import JournalError

def intent(key, prompt=None):
    return Intent(identity=key, key=key, fingerprint="f", kind="ImageToVideo", model="m", facts={}, prompt=prompt)

async def main(path):
    journal = await JournalWriter.open(path, base_url="https://api.modellix.ai", now=time.time, patience_s=0.2)
    await journal.intend(intent("before"))
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, free[1]))
    try:
        await journal.intend(intent("big", "x" * 200_000))
    except JournalError as error:
        print(str(error).split(": ")[1])
    while journal._commits.is_under_way:  # a last try, which would find room
        await asyncio.sleep(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, free)
    journal._commits._patience_s = 60.0
    await journal.intend(intent("after"))
    await journal.aclose()

asyncio.run(main(sys.argv[1]))
"""


def refusal(path: Path, base_url: str = DEFAULT_BASE_URL) -> str:
    """Why a journal at ``path`` cannot be opened for writing."""
    opening = partial(JournalWriter.open, path, base_url=base_url, now=time.time, busy_timeout_s=0.05)
    with pytest.raises(JournalError) as caught:
        anyio.run(opening)
    assert caught.value.path == str(path)
    return caught.value.reason


def made(path: Path, jobs: int = 0) -> None:
    """A journal at ``path``, closed again, with so many intended jobs."""

    async def make() -> None:
        journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=time.time)
        async with anyio.create_task_group() as group:
            for number in range(jobs):
                group.start_soon(journal.intend, intent(str(number)))
        await journal.aclose()

    anyio.run(make)


def filled_up(filler: Path) -> None:
    """Takes the last byte of a disk."""
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def intent(key: str) -> Intent:
    return Intent(identity=key, key=key, fingerprint="f", kind="ImageToVideo", model="m", facts={}, prompt="p" * 500)


def altered(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def child(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of its own, of one megabyte."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    reason = refusal(tmp_path / "no" / "batch.db")
    assert reason == f"there is no directory {tmp_path / 'no'}: make it first"


def test_a_directory_is_no_journal(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "it is a directory: give the path of a file in it"


def test_a_file_of_another_kind_is_left_as_it_is(path: Path) -> None:
    text = b"Not a database, but a letter. " * 200
    path.write_bytes(text)
    assert refusal(path).startswith("it is not a SQLite file: give the path of a journal")
    assert path.read_bytes() == text


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    altered(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    assert refusal(path) == "it is another program's SQLite file: give another path"
    assert path.read_bytes() == before


def test_a_journal_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    made(path)
    altered(path, "PRAGMA user_version = 999")
    before = path.read_bytes()
    known = len(database.MIGRATIONS)
    assert refusal(path) == f"a newer version of this library made it (schema 999, known up to {known}): upgrade"
    assert path.read_bytes() == before


def test_a_journal_of_another_service_is_refused(path: Path) -> None:
    made(path)
    reason = refusal(path, "http://localhost:8000")
    assert reason == f"it belongs to {DEFAULT_BASE_URL}, and this session to http://localhost:8000: give each its own"


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_journal_that_was_cut_short_is_refused(path: Path, kept: float) -> None:
    made(path, jobs=100)
    os.truncate(path, int(path.stat().st_size * kept))
    assert refusal(path).startswith("it is damaged or cut short: restore it from a copy")


def test_a_journal_with_a_page_of_rubbish_is_refused(path: Path) -> None:
    made(path, jobs=100)
    whole = bytearray(path.read_bytes())
    whole[4096 * 8 : 4096 * 12] = os.urandom(4096 * 4)
    path.write_bytes(whole)
    assert "damaged or cut short" in refusal(path)


@pytest.mark.parametrize("hold", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_journal_that_another_program_has_locked_is_refused(path: Path, hold: str) -> None:
    made(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(hold)
    reason = refusal(path)
    other.close()
    assert reason.startswith("another program has locked it: end that program")


def test_a_new_journal_that_another_program_does_not_let_go_of_is_refused(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA application_id = 1214343532")
    other.execute("BEGIN")
    other.execute("SELECT * FROM sqlite_master").fetchall()
    reason = refusal(path)
    other.close()
    assert reason.startswith("another program has locked it")


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    made(path)
    assert read_records(path) == {}


def test_a_name_that_means_something_to_sqlite_is_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:x?mode=memory"):
        made(Path(name), jobs=1)
        assert (tmp_path / name).is_file()
        assert list(read_records(Path(name))) == ["0"]


def test_a_file_system_that_cannot_be_written_is_refused() -> None:
    # Root may write to a directory of any mode; to /proc not even root.
    assert "give a file in a directory that this user may write to" in refusal(Path("/proc/self/batch.db"))


def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    path = small_disk / "batch.db"
    made(path, jobs=1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "give a file in a directory that this user may write to" in refusal(path)


def test_a_full_disk_is_told_and_the_next_write_is_tried_anew(small_disk: Path) -> None:
    path, filler = small_disk / "batch.db", small_disk / "filler"

    async def write() -> None:
        journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=time.time, patience_s=0.2)
        await journal.intend(intent("before"))
        await to_thread.run_sync(filled_up, filler)
        with pytest.raises(JournalError, match="the disk is full: free some room, then run it again"):
            await journal.intend(intent("during"))
        await to_thread.run_sync(filler.unlink)
        journal._commits._patience_s = 60.0
        assert (await journal.intend(intent("after"))).ours
        await journal.aclose()

    anyio.run(write)
    assert list(read_records(path)) == ["before", "after"]


def test_a_session_that_closes_on_a_full_disk_leaves_its_log_and_the_next_goes_on(small_disk: Path) -> None:
    path, filler = small_disk / "batch.db", small_disk / "filler"
    table = open_table(path, DEFAULT_BASE_URL, time.time, None, 30.0, 0.1)
    accepted(table)
    table.database.fold_soon()
    with table.transaction():
        pass  # the log is begun anew, and the next commit is to say so
    filled_up(filler)
    with pytest.raises(sqlite3.OperationalError):
        table.close()
    filler.unlink()
    open_table(path, DEFAULT_BASE_URL, time.time, None, 30.0, 0.1).close()
    assert list(read_records(path)) == ["cat"]


def test_an_interrupt_leaves_no_transaction_open(path: Path) -> None:
    interrupts: list[KeyboardInterrupt] = []

    def now() -> float:
        if interrupts:
            raise interrupts.pop()
        return time.time()

    table = open_table(path, DEFAULT_BASE_URL, now, None, 30.0, 0.1)
    interrupts.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), table.transaction():
        pytest.fail("it has begun")
    with table.transaction():
        assert table.intend(intent("cat")).ours
    table.database.execute("BEGIN IMMEDIATE")  # as if an interrupt had come while it was taken back
    with table.transaction():
        assert table.intend(intent("dog")).ours
    table.close()


def test_a_log_is_folded_before_it_fills_the_disk(small_disk: Path) -> None:
    table = open_table(small_disk / "batch.db", DEFAULT_BASE_URL, time.time, None, 30.0, 0.1)
    with table.transaction():
        table.intend(intent("cat"))
    for _ in range(1000):  # each takes some 12 KB of the log
        with table.transaction():
            table.renew()
    table.close()


def test_a_full_disk_is_found_when_the_journal_is_opened(small_disk: Path) -> None:
    filled_up(small_disk / "filler")
    assert "the disk is full" in refusal(small_disk / "batch.db")


def test_a_write_beyond_the_largest_file_size_fails_alone(path: Path) -> None:
    with child(BOUNDED, path) as process:
        told, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, "")
    assert told.strip() in {"the disk is full", "the disk or the file system failed"}
    assert list(read_records(path)) == ["before", "after"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 60, 400])
def test_nothing_that_was_reported_is_lost_by_a_kill(path: Path, after: int) -> None:
    lines = killed_after(path, after)
    records = read_records(path)
    kept = {line.split()[1] for line in lines if line.startswith("kept")}
    sent = {line.split()[1] for line in lines if line.startswith("sent")}
    assert {records[key].task_id for key in kept} == {f"task-{key}" for key in kept}
    assert {records[key].state for key in sent} <= {JournalState.SENDING, JournalState.ACCEPTED}
    assert all(is_gone(record.holder) for record in records.values() if record.holder)

    async def taken_up() -> tuple[str, list[Record]]:
        journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=time.time)
        unfinished = await journal.unfinished()
        await journal.aclose()
        return journal.holder, unfinished

    holder, unfinished = anyio.run(taken_up)
    assert {record.identity for record in unfinished} == records.keys()
    assert kept <= {record.identity for record in unfinished if record.holder == holder}
    doubtful = {key for key, record in records.items() if record.state is JournalState.SENDING}
    assert {record.identity for record in unfinished if record.state is JournalState.UNKNOWN} == doubtful


def killed_after(path: Path, lines: int) -> list[str]:
    """What a child said before it was killed: at least so many lines, and whatever was in the pipe."""
    with child(WRITER, path, "1000000") as process:
        out = process.stdout
        if out is None:
            raise RuntimeError("the child has no output")
        said = [out.readline() for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        said.extend(out)
        process.wait()
    return [line for line in said if line.endswith("\n")]


@pytest.mark.slow
def test_two_processes_never_both_send_a_job(path: Path) -> None:
    children = [child(WRITER, path, "150") for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in children]
    assert [(process.returncode, complaint) for process, (_, complaint) in zip(children, outputs, strict=True)] == [
        (0, "")
    ] * 3
    sent = sorted(int(line.split()[1]) for said, _ in outputs for line in said.splitlines() if line.startswith("sent"))
    assert sent == list(range(150))
    assert {record.state for record in read_records(path).values()} == {JournalState.ACCEPTED}


def test_a_loss_of_power_loses_nothing_that_had_returned(path: Path, tmp_path: Path) -> None:
    async def lose_power_after_each_write() -> None:
        journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=time.time)
        for number in range(20):
            await journal.intend(intent(str(number)))
            copy = tmp_path / f"copy-{number}"
            await to_thread.run_sync(copied, path, copy, number * 97)
            assert await to_thread.run_sync(recovered, copy / path.name) == [str(n) for n in range(number + 1)]
        await journal.aclose()

    anyio.run(lose_power_after_each_write)


def copied(path: Path, to: Path, torn: int) -> None:
    """The files as a loss of power leaves them: no shared memory, and the start of a write that never ended."""
    to.mkdir()
    shutil.copy(path, to)
    log = to / f"{path.name}-wal"
    shutil.copy(f"{path}-wal", log)
    with log.open("ab") as file:
        file.write(os.urandom(torn))


def recovered(path: Path) -> list[str]:
    sqlite.open_for_writing(path, DEFAULT_BASE_URL, time.time, 1.0).close()
    return list(read_records(path))


def test_a_journal_is_flushed_to_the_disk_with_every_commit(path: Path) -> None:
    database = sqlite.open_for_writing(path, DEFAULT_BASE_URL, time.time, 1.0)
    names = ("journal_mode", "synchronous", "secure_delete")
    told = {name: database.execute(f"PRAGMA {name}").fetchone()[0] for name in names}
    database.close()
    assert told == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


def test_a_log_that_cannot_be_folded_now_is_folded_later(path: Path) -> None:
    database = sqlite.open_for_writing(path, DEFAULT_BASE_URL, time.time, 1.0)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM journal").fetchall()
    database.fold_soon()
    with database.transaction():
        database.execute("UPDATE journal SET opened_at = 1")
    assert files.size_of(files.log_of(path)) > 0
    reader.close()
    with database.transaction():
        database.execute("UPDATE journal SET opened_at = 2")
    assert files.size_of(files.log_of(path)) == 0
    assert database.execute("PRAGMA busy_timeout").fetchone()[0] == 1000
    database.close()


def test_an_answer_that_is_not_read_is_not_in_the_way_of_the_log_or_of_the_next_transaction(path: Path) -> None:
    ours, theirs = (sqlite.open_for_writing(path, DEFAULT_BASE_URL, time.time, 0.05) for _ in range(2))
    ours.fold_soon()
    with ours.transaction():
        ours.execute("INSERT INTO place (urls) VALUES (zeroblob(50000))")
        unread = ours.execute("SELECT * FROM journal UNION ALL SELECT * FROM journal")
        unread.fetchone()
    assert files.size_of(files.log_of(path)) == 0
    with theirs.transaction():
        theirs.execute("UPDATE journal SET opened_at = 1")
    with ours.transaction():
        ours.execute("UPDATE journal SET opened_at = 2")
    assert [len(unread.fetchall()), unread.fetchone()] == [1, None]
    for each in (ours, theirs):
        each.close()


def test_a_log_that_has_grown_is_folded(path: Path) -> None:
    database = sqlite.open_for_writing(path, DEFAULT_BASE_URL, time.time, 1.0)
    for _ in range(3):
        with database.transaction():
            database.execute("INSERT INTO place (urls) VALUES (zeroblob(5000000))")
    assert files.size_of(files.log_of(path)) < 6_000_000
    database.close()


def test_a_reader_names_what_it_cannot_read(path: Path) -> None:
    reasons: list[str] = []
    for content in (None, b"", b"Not a database. " * 100):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(JournalError) as caught:
            Journal.open(path)
        reasons.append(caught.value.reason.partition(":")[0])
    assert reasons == ["there is no such file", "it is empty", "it is not a SQLite file"]


def test_a_file_system_without_shared_memory_is_refused(path: Path) -> None:
    database = sqlite.SqliteDatabase(path, sqlite3.connect(":memory:", isolation_level=None), time.time)
    with pytest.raises(JournalError, match="give a path on a local disk"):
        sqlite._use_wal(database)
    database.close()
