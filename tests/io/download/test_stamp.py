"""What is read as a stamp, and what is left alone in its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hailuo_async._io.download.stamp import Stamp, StampedBytes, read_stamp, remove_stamp, write_stamp

STAMPED = StampedBytes(Stamp("of", '"v1"', {"md5": "0" * 32}), 3)


def test_a_stamp_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "a.part.json")
    assert read_stamp(path) is None
    write_stamp(path, STAMPED)
    assert read_stamp(path) == STAMPED
    remove_stamp(path)
    remove_stamp(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"size": 3}',
        '{"stamp": {"of": "of"}, "size": "x"}',
        "[" * 100_000,
        '{"stamp":' * 100_000,
        json.dumps({"stamp": {"of": "of" * 2**16}, "size": 3}),
    ],
    ids=["empty", "torn", "list", "without", "word", "deep", "deeper", "long"],
)
def test_what_is_damaged_is_no_stamp(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.part.json").write_text(text)
    assert read_stamp(str(tmp_path / "a.part.json")) is None


def test_what_is_not_a_plain_file_is_not_read_and_not_removed(tmp_path: Path) -> None:
    (tmp_path / "b").write_text(json.dumps({"stamp": {"of": "of"}, "size": 3}))
    (tmp_path / "link").symlink_to("b")
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for a writer for ever
    (tmp_path / "directory").mkdir()
    before = sorted(os.listdir(tmp_path))
    for name in ("link", "fifo", "directory"):
        assert read_stamp(str(tmp_path / name)) is None
        remove_stamp(str(tmp_path / name))
        with pytest.raises(FileExistsError):
            write_stamp(str(tmp_path / name), STAMPED)
    assert sorted(os.listdir(tmp_path)) == before
