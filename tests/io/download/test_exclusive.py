"""A file for one download alone, whatever lies at its name and whoever else wants it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hailuo_async._io.download.exclusive import close, open_alone
from hailuo_async.errors import DownloadError


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def after(act: Callable[[], object]) -> Callable[[int], None]:
    """A lock that is given only after ``act``, as when its holder finishes first."""

    def lock(descriptor: int) -> None:
        act()
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    return lock


def test_a_file_is_one_downloads_until_that_closes_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.part")
    descriptor, opened = open_alone(path)
    assert opened == path
    with pytest.raises(DownloadError, match="another download writes it"):
        open_alone(path)
    close(descriptor)
    close(open_alone(path)[0])


def test_a_part_that_became_a_video_while_it_was_being_opened_is_left_alone(tmp_path: Path) -> None:
    part, target = tmp_path / "a.part", tmp_path / "a"

    def published() -> None:
        os.replace(part, target)

    def published_and_begun_again() -> None:
        os.replace(part, target)
        part.write_bytes(b"new")

    for act in (published, published_and_begun_again):
        part.write_bytes(b"whole")
        with pytest.raises(DownloadError, match="another download writes it"):
            open_alone(str(part), after(act))
        assert target.read_bytes() == b"whole"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_each_download_has_a_new_file_of_its_own(number: int, tmp_path: Path) -> None:
    def no_locks(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    opened = [open_alone(str(tmp_path / "a.part"), no_locks) for _ in range(2)]
    assert names(tmp_path) == sorted(os.path.basename(path) for _, path in opened)
    assert len({path for _, path in opened}) == 2
    for descriptor, path in opened:
        assert os.path.samestat(os.fstat(descriptor), os.stat(path))
        close(descriptor)


def test_without_locks_what_an_earlier_download_left_is_kept(tmp_path: Path) -> None:
    def no_locks(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "a.part").write_bytes(b"left")
    descriptor, path = open_alone(str(tmp_path / "a.part"), no_locks)
    assert names(tmp_path) == ["a.part", os.path.basename(path)] or names(tmp_path)[1] == "a.part"
    assert (tmp_path / "a.part").read_bytes() == b"left"
    close(descriptor)


def test_any_other_failure_of_a_lock_is_an_error(tmp_path: Path) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        open_alone(str(tmp_path / "a.part"), broken)


def as_link(path: Path) -> None:
    path.symlink_to(path.with_name("precious"))


def as_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, as_link, as_socket, os.mkdir])
def test_what_is_not_a_plain_file_is_neither_opened_nor_removed(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    make(tmp_path / "a.part")
    before = (tmp_path / "a.part").lstat()
    with pytest.raises(DownloadError, match=r"a\.part beside it is not a plain file: move it away"):
        open_alone(str(tmp_path / "a.part"))
    assert (tmp_path / "a.part").lstat() == before
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_what_takes_the_place_of_the_file_while_it_is_locked_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.part"

    def replaced_by_a_fifo() -> None:
        path.unlink()
        os.mkfifo(path)

    with pytest.raises(DownloadError, match="another download writes it"):
        open_alone(str(path), after(replaced_by_a_fifo))


@pytest.mark.slow
def test_a_forked_child_does_not_keep_a_file_locked(tmp_path: Path) -> None:
    path = str(tmp_path / "a.part")
    descriptor, _ = open_alone(path)
    told, tell = os.pipe()
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:  # lives on, as a worker would, and touches nothing that pytest holds
        os.close(end)
        try:
            os.fstat(descriptor)
            os.write(tell, b"open")
        except OSError:
            os.write(tell, b"closed")
        os.read(ended, 1)
        os._exit(0)
    try:
        assert os.read(told, 10) == b"closed"
        os.close(descriptor)  # as the end of this process would: without a word to the lock
        descriptor, _ = open_alone(path)
        close(descriptor)
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for end_of_pipe in (told, tell, ended):
            os.close(end_of_pipe)
