"""Names of files made from keys: safe everywhere, and one file a key."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async._io.filenames import (
    MAX_NAME_BYTES,
    check_target,
    file_name,
    is_directory,
    part_name,
    private_name,
    suffix_for,
    target_for,
)
from hailuo_async.errors import DownloadError

_KEYS = st.text() | st.text("aAbB./\\ -_éÉß:", max_size=6) | st.from_regex(r"\A[a-z]{1,3}-[0-9a-f]{12}\Z")


@pytest.mark.parametrize("key", ["cat", "task-abc123", "a.b", "猫 1", "2026_11_21", "x" * 196])
def test_a_harmless_key_is_kept_as_it_is(key: str) -> None:
    assert file_name(key) == f"{key}.mp4"


@pytest.mark.parametrize(
    ("key", "start"),
    [
        ("../../etc/passwd", "_.._etc_passwd-"),
        ("..", "video-"),
        ("", "video-"),
        ("Cat", "Cat-"),
        ("nul", "_nul-"),
        ("com1.tar", "_com1.tar-"),
        ("lpt¹", "_lpt¹-"),
        ("conin$", "_conin$-"),
        ("cat. ", "cat-"),
        (".hidden", "hidden-"),
        ("a\x00b\nc\u202ed", "a_b_c_d-"),
        ("a\ud800", "a_-"),
        ("c:\\x|y?", "c__x_y_-"),
        ("cafe\u0301", "cafe\u0301-"),
        ("straße", "straße-"),
        ("cat-0123456789ab", "cat-0123456789ab-"),
    ],
)
def test_any_other_key_is_made_harmless_and_marked(key: str, start: str) -> None:
    name = file_name(key)
    assert name.startswith(start)
    assert len(name) == len(start) + 12 + len(".mp4")


@given(_KEYS)
def test_every_name_is_one_short_component_that_every_platform_takes(key: str) -> None:
    name = file_name(key)
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert not set(name) & set('<>:"/\\|?*')
    assert name.isprintable()
    assert name == name.strip(" .")
    assert os.path.basename(name) == name


@given(_KEYS, _KEYS)
def test_two_keys_never_share_a_file_even_where_case_and_composition_do_not_count(one: str, other: str) -> None:
    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

    assert (folded(file_name(one)) == folded(file_name(other))) == (one == other)


def test_long_keys_are_cut_between_letters_and_stay_apart() -> None:
    one, other = file_name("é" * 150 + "1"), file_name("é" * 150 + "2")
    assert one != other
    assert len(one.encode()) <= MAX_NAME_BYTES
    assert one.startswith("é" * 90)


@pytest.mark.parametrize(
    ("format_name", "url", "suffix"),
    [
        ("mp4", "https://x/a.webm?sig=.mov", ".mp4"),
        ("MOV", "https://x/a", ".mov"),
        (None, "https://x/a.WEBM?sig=1", ".webm"),
        (None, "https://x/a", ".mp4"),
        (None, "https://x/a.exe", ".mp4"),
        ("../x", "https://x/a.html", ".mp4"),
        (None, "https://[x/a.webm", ".mp4"),
    ],
)
def test_the_suffix_is_the_formats_or_the_urls_and_always_a_films(format_name: str, url: str, suffix: str) -> None:
    assert suffix_for(format_name, url) == suffix


def test_a_directory_is_one_that_exists_or_is_written_as_one(tmp_path: Path) -> None:
    assert is_directory(tmp_path)
    assert is_directory(f"{tmp_path}/new/")
    assert not is_directory(tmp_path / "new")


def test_in_a_directory_the_file_is_named_by_the_key_or_else_by_the_task() -> None:
    assert target_for("v", is_directory=True, key="cat", task_id="task-1") == Path("v/cat.mp4")
    assert target_for("v/", is_directory=True, key=None, task_id="task-1", suffix=".mov") == Path("v/task-1.mov")
    assert target_for(Path("v/a.bin"), is_directory=False, key="cat", task_id="task-1") == Path("v/a.bin")


@pytest.mark.parametrize("name", ["cat.mp4", "x" * 200, "é" * 100])
def test_beside_most_files_the_part_has_their_whole_name(name: str) -> None:
    assert part_name(name) == f"{name}.part"


@pytest.mark.parametrize("name", ["x" * 201, "x" * 255, "é" * 101, "a" + "é" * 127, "\u212a" * 85])
def test_beside_a_long_name_the_part_has_a_shorter_one_with_room_for_its_neighbours(name: str) -> None:
    part = part_name(name)
    assert re.fullmatch(r"(.*)-[0-9a-f]{12}\.part", part)
    assert name.startswith(part[:-18])
    assert len(f"{private_name(part, 'f' * 8)}.json".encode()) <= 255
    assert part != part_name(name[:-1] + "y")


@pytest.mark.parametrize("directory", [".", "/"])
def test_what_has_no_name_is_there_already(directory: str) -> None:
    with pytest.raises(DownloadError, match="is there already"):
        check_target(Path(directory))


def test_a_file_that_can_be_made_is_no_fault_and_nothing_is_made_yet(tmp_path: Path) -> None:
    for target in ("a.mp4", "x" * 251 + ".mp4", "new/of/tonight/a.mp4"):
        check_target(tmp_path / target)
    check_target(Path("nothing is called this.mp4"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("there.mp4", "is there already: move it away, or save elsewhere"),
        ("directory", "is there already: move it away, or save elsewhere"),
        ("link", "is there already: move it away, or save elsewhere"),
        ("x" * 256, "cannot be written: File name too long"),
        ("new/" + "x" * 256, "cannot be written: File name too long"),
        ("x" * 256 + "/a.mp4", "cannot be written: File name too long"),
        ("there.mp4/a.mp4", "cannot be written: Not a directory"),
        ("a\0b", "cannot be written: "),  # how it names the NUL differs between versions of Python
        ("a\ud800b", "cannot be written: 'utf-8' codec can't encode"),
    ],
)
def test_a_file_that_cannot_be_made_is_known_before_it_is_paid_for(target: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "there.mp4").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(DownloadError) as caught:
        check_target(tmp_path / target)
    assert caught.value.reason.startswith(reason)
    assert caught.value.path == str(tmp_path / target)
