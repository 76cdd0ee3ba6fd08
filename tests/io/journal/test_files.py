"""The files of a journal: whoever may read them, and what is missing or damaged is noticed before anything is paid."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hailuo_async._io.journal import files, sqlite
from hailuo_async._io.journal.database import MIGRATIONS, faults_as_errors
from hailuo_async._io.journal.opening import is_used
from hailuo_async._io.journal.reader import Journal
from hailuo_async._io.journal.table import JobTable, open_table
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import JournalError

from ...support.tables import LEASE_S, accepted, did, intent, record_of, sent

PAGE = 24 + 4096


def opened(path: Path) -> JobTable:
    return open_table(path, DEFAULT_BASE_URL, time.time, None, LEASE_S, 0.1)


def refusal(path: Path) -> str:
    """Why the journal is not opened for writing."""
    with pytest.raises(JournalError) as caught:
        opened(path).close()
    return caught.value.reason


@pytest.fixture
def killed(path: Path, tmp_path: Path) -> Path:
    """A journal as a kill leaves it: three jobs were accepted, and only its log has them."""
    table = opened(path)
    for key in ("cat", "dog", "cow"):
        accepted(table, key, f"task-{key}")
    place = tmp_path / "killed"
    place.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        shutil.copy(path.with_name(name), place)
    table.close()
    return place / path.name


def identities(path: Path) -> list[str]:
    with Journal.open(path) as journal:
        return [record.identity for record in journal.records()]


def test_a_killed_journal_has_all_its_jobs(killed: Path) -> None:
    assert identities(killed) == ["cat", "dog", "cow"]
    opened(killed).close()
    assert not files.log_of(killed).exists()
    assert identities(killed) == ["cat", "dog", "cow"]


def test_a_link_to_a_journal_leads_to_its_log_as_well(killed: Path, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    link = elsewhere / "link.db"
    link.symlink_to(killed)
    table = opened(link)
    opened(link).close()  # while the log is in use
    assert identities(link) == ["cat", "dog", "cow"]
    table.close()
    assert list(elsewhere.iterdir()) == [link]
    assert not files.log_of(killed).exists()


def test_a_journal_that_was_closed_needs_no_log(path: Path, tmp_path: Path) -> None:
    table = opened(path)
    sent(table)
    table.close()
    (tmp_path / "new").mkdir()
    moved = path.rename(tmp_path / "new" / "moved.db")
    assert identities(moved) == ["cat"]


def test_a_killed_journal_without_its_log_is_refused_by_sessions_and_readers(killed: Path) -> None:
    files.log_of(killed).unlink()
    reason = refusal(killed)
    assert reason.startswith("its log batch.db-wal is missing: it was in use when its process ended")
    with pytest.raises(JournalError, match=r"its log batch\.db-wal is missing"):
        Journal.open(killed)
    files.log_of(killed).touch()  # its owner's word
    assert identities(killed) == []


@pytest.mark.parametrize("then", ["gone", "empty"])
def test_a_log_without_its_journal_is_not_begun_anew(killed: Path, then: str) -> None:
    moved = killed.rename(killed.with_name("moved.db"))
    if then == "empty":
        killed.touch()
    assert refusal(killed).startswith("it is missing or empty, but its log batch.db-wal is there")
    with pytest.raises(JournalError, match="it is missing or empty"):
        Journal.open(killed)
    moved.replace(killed)
    assert identities(killed) == ["cat", "dog", "cow"]


def test_a_session_may_change_its_working_directory(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    table = opened(Path(path.name))
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    sent(table)
    table.close()
    assert identities(path) == ["cat"]


def test_of_two_sessions_the_one_that_stays_still_needs_the_log(path: Path, tmp_path: Path) -> None:
    stays, goes = opened(path), opened(path)
    accepted(stays)
    goes.close()
    accepted(stays, "dog", "t2")
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    stays.close()
    assert refusal(copy).startswith("its log copy.db-wal is missing")


def test_a_session_that_was_killed_as_it_opened_leaves_a_journal_whole_when_the_last_other_closes(path: Path) -> None:
    table = opened(path)
    sent(table)
    killed_one = sqlite3.connect(path)
    with killed_one:  # what it has written when it is killed: it was about to make its first commit
        killed_one.execute("UPDATE journal SET log_due = log_due + 1")
    killed_one.close()
    accepted(table, "dog", "t2")
    table.close()
    assert not files.log_of(path).exists()
    opened(path).close()
    assert identities(path) == ["cat", "dog"]


def test_a_journal_that_another_program_wrote_back_after_a_kill_is_whole(killed: Path) -> None:
    with sqlite3.connect(killed) as connection:
        connection.execute("SELECT * FROM job").fetchall()
    connection.close()
    assert not files.log_of(killed).exists()
    assert identities(killed) == ["cat", "dog", "cow"]


def test_a_journal_of_an_earlier_version_needs_no_log(path: Path) -> None:
    earlier = sqlite3.connect(path)
    earlier.execute("PRAGMA journal_mode = WAL")
    for statements in MIGRATIONS[:3]:
        for statement in statements:
            earlier.execute(statement.format_map(sqlite.SqliteDatabase.TYPES))
    earlier.execute(f"PRAGMA application_id = {sqlite.APPLICATION_ID}")
    earlier.execute("PRAGMA user_version = 3")
    earlier.close()
    assert not files.log_of(path).exists()
    opened(path).close()


# --- Damage in the log ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [3, 20, 32 + 8, 32 + 24 + 100, 32 + PAGE + 20, 32 + 2 * PAGE + 3000])
def test_one_bit_of_the_log_that_is_not_as_it_was_is_noticed(killed: Path, place: int) -> None:
    log = files.log_of(killed)
    data = bytearray(log.read_bytes())
    data[place] ^= 1
    log.write_bytes(data)
    assert refusal(killed).startswith("its log batch.db-wal is damaged")
    assert log.read_bytes() == data


def test_a_write_that_was_torn_by_a_loss_of_power_is_no_damage(killed: Path) -> None:
    log = files.log_of(killed)
    whole = log.read_bytes()
    for cut in range(1, 3 * PAGE, 997):
        log.write_bytes(whole[:-cut] + random.Random(cut).randbytes(cut % 4096))
        files.check_files(killed)
    earlier = bytearray(whole[32:])  # the pages of an earlier round of the log
    for page in range(0, len(earlier), PAGE):
        earlier[page + 8] ^= 1
    log.write_bytes(whole + earlier)
    files.check_files(killed)


def test_the_last_commit_may_be_torn_in_the_middle(killed: Path) -> None:
    log = files.log_of(killed)
    data = bytearray(log.read_bytes())
    pages = range(32, len(data), PAGE)
    commits = [page for page in pages if struct.unpack_from(">I", data, page + 4)[0]]
    data[commits[-2] + PAGE + 500] ^= 0xFF
    log.write_bytes(data)
    files.check_files(killed)


def test_random_damage_of_either_file_is_a_journal_error_or_none_at_all(killed: Path) -> None:
    dice = random.Random(5)
    whole = {file: file.read_bytes() for file in (killed, files.log_of(killed))}
    for _ in range(60):
        for file, content in whole.items():
            file.write_bytes(content)
        file = dice.choice(list(whole))
        data = bytearray(whole[file])
        for _ in range(dice.choice([1, 8])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        file.write_bytes(data)
        with contextlib.suppress(JournalError):
            table = opened(killed)
            with faults_as_errors(table.database):
                did(table, JobTable.unfinished)
                table.close()


# --- Another file under the name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["gone", "another"])
def test_a_session_whose_file_was_moved_sends_nothing_more(path: Path, then: str) -> None:
    table = opened(path)
    did(table, lambda it: it.intend(intent("dog")))
    path.rename(path.with_name("moved.db"))
    if then == "another":
        path.touch()
    with pytest.raises(JournalError, match="it was moved, removed or replaced while this session used it"):
        did(table, lambda it: it.intend(intent("cat")))
    with pytest.raises(JournalError, match="it was moved, removed or replaced while this session used it"):
        did(table, lambda it: it.sending("dog", 1.0))
    did(table, lambda it: it.accepted("dog", "t1", 1.0))  # what is known is written where it can be found
    table.close()


def test_a_session_whose_file_was_replaced_by_its_copy_leaves_the_log_to_the_next_one(path: Path) -> None:
    table = opened(path)
    keys = [str(number) for number in range(20)]
    for key in keys:
        did(table, lambda it, key=key: it.intend(intent(key)))  # type: ignore[misc]
    did(table, lambda it: it.sending("1", 1.0))
    copy = Path(shutil.copy(path, path.with_name("copy.db")))
    copy.replace(path)
    with pytest.raises(JournalError, match="it was moved, removed or replaced while this session used it"):
        did(table, lambda it: it.sending("2", 1.0))
    did(table, lambda it: it.accepted("1", "t1", 1.0))
    table.close()
    table = opened(path)
    assert [record.identity for record in did(table, JobTable.unfinished)] == keys
    assert record_of(table, "1").task_id == "t1"
    table.close()


# --- Who may read them ------------------------------------------------------------------------------------------------


def test_only_its_owner_may_read_a_journal_and_its_companions(path: Path) -> None:
    before = os.umask(0)
    try:
        table = opened(path)
        sent(table)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        table.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("batch.db", "batch.db-wal", "batch.db-shm"), 0o600)


def test_a_file_that_is_no_journal_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    path.write_text("notes")
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE ours (it TEXT)")
    for file in (path, other):
        file.chmod(0o644)
        refusal(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("name", "words"), [("x" * 256, "File name too long"), ("\ud800.db", "surrogates not allowed")]
)
def test_where_no_file_can_be_there_is_no_journal(name: str, words: str, tmp_path: Path) -> None:
    reason = refusal(tmp_path / name)
    assert reason.startswith("no journal can be there (")
    assert reason.endswith(f"{words}): give another path")
    assert not is_used(tmp_path / name)


def left_without_a_table(path: Path) -> None:
    """What a session leaves that was killed while it made its journal."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    assert path.stat().st_size > 0


def test_a_journal_is_used_once_it_has_its_tables_and_one_without_them_is_gone_on_with(path: Path) -> None:
    left_without_a_table(path)
    assert not is_used(path)
    opened(path).close()
    assert is_used(path)


def test_a_pipe_is_no_journal_and_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path, 0o644)
    assert refusal(path) == "it is a device or a pipe: give the path of a file"
    with pytest.raises(JournalError, match="a device or a pipe"), Journal.open(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044


def test_a_journal_that_others_could_read_is_closed_to_them(path: Path) -> None:
    opened(path).close()
    path.chmod(0o644)
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- Network file systems ---------------------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Callable[[str], Path]:
    """A table of mounts in which a directory of a difficult name is of some type."""
    place = tmp_path / "team share"
    place.mkdir()

    def table(kind: str) -> Path:
        mounts = tmp_path / "mountinfo"
        name = str(place).replace(" ", "\\040")
        lines = (
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
            f"30 22 0:40 / {name} rw shared:2 master:1 - {kind} server:/share rw",
        )
        mounts.write_text("\n".join(lines))
        return mounts

    return table


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "fuse.sshfs", "fuse"])
def test_a_journal_on_a_network_file_system_is_refused_with_the_way_out(
    mounted: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    with pytest.raises(JournalError, match=f"network file system .{kind}.*journal='postgresql://user@host/db'"):
        files.check_files(tmp_path / "team share" / "batch.db", mounted(kind))
    files.check_files(tmp_path / "batch.db", mounted(kind))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "fuseblk"])
def test_a_journal_on_a_local_file_system_is_taken(mounted: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    files.check_files(tmp_path / "team share" / "batch.db", mounted(kind))


def test_without_a_table_of_mounts_every_file_system_is_taken(tmp_path: Path) -> None:
    files.check_files(tmp_path / "batch.db", tmp_path / "no such file")


def test_a_damaged_schema_is_a_journal_error(path: Path) -> None:
    opened(path).close()
    data = bytearray(path.read_bytes())
    data[data.find(b"(task_id)") + 1] = 0xFF
    path.write_bytes(data)
    assert "damaged" in refusal(path)
    with pytest.raises(JournalError, match="damaged"):
        sqlite.open_for_reading(path)


def test_in_an_empty_file_there_is_nothing_to_decide_on(path: Path) -> None:
    path.touch()
    with pytest.raises(JournalError, match="it is empty: no session has used it yet"):
        open_table(path, None, time.time, None, LEASE_S, 0.1)
