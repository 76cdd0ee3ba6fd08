"""The file that a video comes to life in: what a crash, a rival or a poor file system may do to it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hailuo_async._io.download.partial_file import Part, Stamp, _give_name, _open_alone
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


def reopened(target: Path, of: str = "of") -> tuple[int, Stamp | None]:
    """What a later download finds to go on with."""
    part = Part(target=target, overwrite=False)
    part.open(of)
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


def test_a_killed_download_loses_no_more_than_the_last_sixteen_mebibytes(tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"abc")
    for _ in range(33):
        part.write(part.size, bytearray(2**19), STAMP)
    stamped = json.loads((tmp_path / "a.part.json").read_text())
    assert stamped["stamp"] == {"of": "of", "validator": '"v1"', "checksums": {"md5": "0" * 32}}
    assert stamped["size"] == 3 + 32 * 2**19
    part.leave(useful=False)


def test_a_second_download_of_this_or_any_process_is_kept_out(tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"abc")
    with pytest.raises(DownloadError, match="another download writes it"):
        reopened(tmp_path / "a")
    assert (tmp_path / "a.part").read_bytes() == b"abc"
    part.leave(useful=True)
    assert reopened(tmp_path / "a") == (3, STAMP)


def after(act: Callable[[], object]) -> Callable[[int], None]:
    """A lock that is given only after ``act``, as when its holder finishes first."""

    def lock(descriptor: int) -> None:
        act()
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    return lock


def test_a_part_that_became_a_video_while_it_was_being_opened_is_left_alone(tmp_path: Path) -> None:
    part, target = tmp_path / "a.part", tmp_path / "a"
    part.write_bytes(b"whole")

    def published() -> None:
        os.replace(part, target)

    def published_and_begun_again() -> None:
        os.replace(part, target)
        part.write_bytes(b"new")

    for act in (published, published_and_begun_again):
        part.write_bytes(b"whole")
        with pytest.raises(DownloadError, match="another download writes it"):
            _open_alone(str(part), after(act))
        assert target.read_bytes() == b"whole"


def test_a_file_system_without_locks_is_an_error(tmp_path: Path) -> None:
    def lock(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with pytest.raises(OSError, match="No locks available"):
        _open_alone(str(tmp_path / "a.part"), lock)


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


def test_a_link_in_place_of_a_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"precious")
    (tmp_path / "a.part").symlink_to(tmp_path / "b")
    with pytest.raises(OSError, match="symbolic links"):
        reopened(tmp_path / "a")
    assert (tmp_path / "b").read_bytes() == b"precious"


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


def test_a_wrong_checksum_is_named(tmp_path: Path) -> None:
    part = begun(tmp_path / "a", b"abc")
    assert part.wrong_checksum() == "md5"
    part.leave(useful=False)
    right = begun(tmp_path / "a", b"abc", Stamp("of", None, {"md5": "900150983cd24fb0d6963f7d28e17f72"}))
    assert right.wrong_checksum() is None
    right.leave(useful=False)
