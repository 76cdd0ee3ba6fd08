"""A file is the video that was saved before only if it is the one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hailuo_async._io.download.saved_file import is_saved_video

FILM = b"film" * 1000
DIGEST = hashlib.sha256(FILM).hexdigest()


def test_the_file_that_was_saved_is_known_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(FILM)
    assert is_saved_video(tmp_path / "a", len(FILM), DIGEST)


@pytest.mark.parametrize(("size", "sha256"), [(None, None), (len(FILM), None), (None, DIGEST), (3, DIGEST)])
def test_nothing_is_believed_of_which_not_both_are_known(size: int | None, sha256: str | None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(FILM)
    assert not is_saved_video(tmp_path / "a", size, sha256)


def test_another_file_of_that_name_is_not_the_video(tmp_path: Path) -> None:
    (tmp_path / "same size").write_bytes(b"diar" * 1000)
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("same size", "directory", "fifo", "none", "none/none", "a\0b", "x" * 300):
        assert not is_saved_video(tmp_path / name, len(FILM), DIGEST)
