"""The file that a video comes to life in: what a crash, a rival or a poor file system may do to it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hailuo_async._io.download.partial_file import Part, _give_name
from hailuo_async._io.download.stamp import Stamp
from hailuo_async.errors import DownloadError

STAMP = Stamp("of", '"v1"', {"md5": "0" * 32})


def begun(target: Path, body: bytes, stamp: Stamp = STAMP) -> Part:
    """A part that holds ``body``, open."""
    part = Part(target=target, overwrite=False)
    part.open(stamp.of)
    part.write(0, bytearray(body), stamp)
    return part


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def reopened(target: Path) -> tuple[int, Stamp | None]:
    """What a later download finds to go on with."""
    part = Part(target=target, overwrite=False)
    part.open("of")
    found = part.size, part.stamp
    part.leave(useful=True)
    return found


def test_a_useful_part_is_found_again_with_its_stamp(tmp_path: Path) -> None:
    begun(tmp_path / "a", b"abc").leave(useful=True)
    assert reopened(tmp_path / "a") == (3, STAMP)


@pytest.mark.parametrize("useful", [True, False])
def test_a_part_that_cannot_be_gone_on_with_is_removed(useful: bool, tmp_path: Path) -> None:
    begun(tmp_path / "a", b"abc", STAMP if not useful else Stamp("of")).leave(useful=useful)
    assert names(tmp_path) == []


def test_a_part_that_cannot_be_stamped_is_removed(tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"abc")
    (tmp_path / "a.part.json").mkdir()
    part.leave(useful=True)
    assert names(tmp_path) == ["a.part.json"]


def test_leaving_twice_or_before_opening_does_nothing(tmp_path: Path) -> None:
    Part(target=tmp_path / "a", overwrite=False).leave(useful=True)
    part = begun(tmp_path / "a", b"abc")
    part.leave(useful=True)
    part.leave(useful=False)
    assert names(tmp_path) == ["a.part", "a.part.json"]


def test_bytes_that_came_after_the_stamp_are_not_trusted(tmp_path: Path) -> None:
    begun(tmp_path / "a", b"abc").leave(useful=True)
    with open(tmp_path / "a.part", "ab") as file:
        file.write(b"\0\0\0\0")
    assert reopened(tmp_path / "a") == (3, STAMP)
    assert (tmp_path / "a.part").read_bytes() == b"abc"


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "{",
        "[1]",
        '{"stamp": {"of": "of"}, "size": "x"}',
        '{"stamp": {"of": "of", "validator": "v"}, "size": 4}',
        '{"stamp": {"of": "of", "validator": "v"}, "size": 0}',
        '{"stamp": {"of": "of", "validator": "v"}, "size": -1}',
        '{"stamp": {"of": "other", "validator": "v"}, "size": 3}',
    ],
)
def test_a_torn_or_foreign_stamp_begins_anew(stamp: str, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"abc")
    (tmp_path / "a.part.json").write_text(stamp)
    assert reopened(tmp_path / "a") == (0, None)


def test_a_part_without_a_stamp_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"abc")
    assert reopened(tmp_path / "a") == (0, None)


def test_beginning_anew_takes_the_stamp_away_before_the_bytes(tmp_path: Path) -> None:
    begun(tmp_path / "a", b"abc").leave(useful=True)
    part = Part(target=tmp_path / "a", overwrite=False)
    part.open("of")
    part.write(0, bytearray(b"xy"), Stamp("of", '"v2"'))
    assert names(tmp_path) == ["a.part"]
    assert (tmp_path / "a.part").read_bytes() == b"xy"
    part.leave(useful=False)


def stamped_size(target: Path) -> int:
    stamped = json.loads(target.with_name(f"{target.name}.part.json").read_text())
    assert stamped["stamp"] == {"of": "of", "validator": '"v1"', "checksums": {"md5": "0" * 32}}
    size: int = stamped["size"]
    return size


def test_what_was_synced_is_found_again_after_a_kill_and_what_came_later_is_not_trusted(tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"abc")
    part.sync()
    part.write(3, b"def", STAMP)
    assert stamped_size(tmp_path / "a") == 3
    part.sync()
    assert stamped_size(tmp_path / "a") == 6
    part.leave(useful=False)


def test_a_sync_that_ends_after_the_download_began_anew_stamps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = begun(tmp_path / "a", b"abc")

    def begin_anew(descriptor: int) -> None:
        part.write(0, b"xyz", Stamp("of", '"v2"'))

    monkeypatch.setattr(os, "fsync", begin_anew)  # what comes while the disk works
    part.sync()
    assert names(tmp_path) == ["a.part"]
    monkeypatch.undo()
    part.leave(useful=False)


def test_a_second_download_of_this_or_any_process_is_kept_out(tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"abc")
    with pytest.raises(DownloadError, match="another download writes it"):
        reopened(tmp_path / "a")
    assert (tmp_path / "a.part").read_bytes() == b"abc"
    part.leave(useful=True)
    assert reopened(tmp_path / "a") == (3, STAMP)


def test_a_video_that_a_crash_left_with_a_parts_name_too_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"whole")
    os.link(tmp_path / "a", tmp_path / "a.part")
    part = Part(target=tmp_path / "a", overwrite=True)
    part.open("of")
    part.write(0, bytearray(b"new"), STAMP)
    assert (tmp_path / "a").read_bytes() == b"whole"
    part.publish()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_where_there_are_no_links_a_name_is_given_without_replacing_anything(tmp_path: Path) -> None:
    def no_links(part: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    part, target = tmp_path / "a.part", tmp_path / "a"
    part.write_bytes(b"abc")
    _give_name(str(part), str(target), no_links)
    assert (names(tmp_path), target.read_bytes()) == (["a"], b"abc")
    part.write_bytes(b"other")
    with pytest.raises(FileExistsError):
        _give_name(str(part), str(target), no_links)
    assert (target.read_bytes(), part.read_bytes()) == (b"abc", b"other")


def test_without_links_a_name_that_could_not_be_given_is_not_left_empty(tmp_path: Path) -> None:
    def no_links(part: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with pytest.raises(FileNotFoundError):
        _give_name(str(tmp_path / "none.part"), str(tmp_path / "a"), no_links)
    assert names(tmp_path) == []


def test_the_digests_are_those_of_the_file_on_the_disk(tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"ab")
    part.write(2, b"c", STAMP)
    assert part.digests([]) == {}
    assert part.digests(["md5", "sha256"]) == {
        "md5": hashlib.md5(b"abc").hexdigest(),
        "sha256": hashlib.sha256(b"abc").hexdigest(),
    }
    part.write(3, b"d", STAMP)  # reading has not moved where it writes
    assert (tmp_path / "a.part").read_bytes() == b"abcd"
    part.leave(useful=False)


# --- What other programs do ---------------------------------------------------------------------------------------


def removed(path: Path) -> None:
    path.unlink()


def made_anew(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"not the video")


def written_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("change", [removed, made_anew, written_to])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_part_that_another_program_changed_is_not_published(
    change: Callable[[Path], None], overwrite: bool, tmp_path: Path
) -> None:
    part = Part(target=tmp_path / "a", overwrite=overwrite)
    part.open("of")
    part.write(0, b"abc", STAMP)
    change(tmp_path / "a.part")
    with pytest.raises(DownloadError, match=r"another program removed or changed a\.part beside it"):
        part.publish()
    part.leave(useful=False)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("useful", [True, False])
def test_what_another_program_put_in_place_of_a_part_is_left_alone(useful: bool, tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"abc")
    made_anew(tmp_path / "a.part")
    (tmp_path / "a.part.json").write_text("theirs")
    part.leave(useful=useful)
    assert (names(tmp_path), (tmp_path / "a.part").read_bytes()) == (["a.part", "a.part.json"], b"not the video")
    assert (tmp_path / "a.part.json").read_text() == "theirs"


def test_what_lies_in_place_of_a_stamp_is_not_opened_and_the_video_is_saved_without(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.part.json")
    part = begun(tmp_path / "a", b"abc")
    part.sync()
    part.publish()
    assert names(tmp_path) == ["a", "a.part.json"]
    assert stat.S_ISFIFO((tmp_path / "a.part.json").stat().st_mode)


# --- Targets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [200, 201, 246, 255])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_name_as_long_as_the_file_system_takes_is_saved_and_its_part_is_found_again(
    length: int, letter: str, tmp_path: Path
) -> None:
    target = tmp_path / (letter * (length // len(letter.encode()) - 4) + ".mp4")
    begun(target, b"abc").leave(useful=True)
    assert reopened(target) == (3, STAMP)
    part = Part(target=target, overwrite=False)
    part.open("of")
    part.publish()
    assert names(tmp_path) == [target.name]


def test_a_name_that_is_too_long_is_refused_before_there_is_a_byte(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        Part(target=tmp_path / ("x" * 256), overwrite=True).open("of")
    assert names(tmp_path) == []


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_link_to_a_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to("fifo")


@pytest.mark.parametrize("make", [as_fifo, as_link_to_a_fifo])
def test_a_device_or_its_like_is_never_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    part = Part(target=tmp_path / "a", overwrite=True)
    part.open("of")
    part.write(0, b"abc", STAMP)
    make(tmp_path / "a")
    before = (tmp_path / "a").lstat()
    with pytest.raises(DownloadError, match="never replaced"):
        part.publish()
    part.leave(useful=False)
    with pytest.raises(DownloadError, match="never replaced"):
        part.open("of")
    after = (tmp_path / "a").lstat()  # to look where a link leads may change when it was read
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert "a.part" not in names(tmp_path)


@pytest.mark.parametrize("leads_to", ["b", "nowhere"])
def test_a_link_to_a_file_is_replaced_and_not_what_it_leads_to(leads_to: str, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"precious")
    (tmp_path / "a").symlink_to(leads_to)
    part = Part(target=tmp_path / "a", overwrite=True)
    part.open("of")
    part.write(0, b"abc", STAMP)
    part.publish()
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a", "b"], b"abc")
    assert (tmp_path / "b").read_bytes() == b"precious"


def test_where_there_are_no_locks_no_two_downloads_share_a_file_and_each_can_be_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)  # the kernel's answer on such a file system
    one, other = begun(tmp_path / "a", b"one"), begun(tmp_path / "a", b"other")
    one.publish()
    with pytest.raises(DownloadError, match="is there already"):
        other.publish()
    other.leave(useful=False)
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a"], b"one")
