"""A process that ended is told from one that runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hailuo_async._io.journal.holders import is_gone, this_holder


def test_a_running_process_is_not_gone_and_a_name_that_says_nothing_never_is() -> None:
    holder = this_holder()
    assert not is_gone(holder)
    assert not any(is_gone(name) for name in ("", "ours", "/1/2/3", holder.replace("/", "/x", 1)))
    assert this_holder() != holder


def test_a_pid_that_was_given_out_again_does_not_keep_a_lease() -> None:
    machine, pid, started, nonce = this_holder().rsplit("/", 3)
    if not started:
        pytest.skip("this system has no /proc to tell when a process began")
    assert is_gone(f"{machine}/{pid}/{int(started) - 1}/{nonce}")
    assert is_gone(f"{machine}/{2**22 + 1}/{started}/{nonce}")


@pytest.mark.parametrize(("state", "has_ended"), [("S", False), ("Z", True), ("X", True)])
def test_a_process_that_has_ended_is_gone_though_its_parent_has_not_asked_how(
    tmp_path: Path, state: str, has_ended: bool
) -> None:
    for folder in ("sys/kernel/random", "self/ns", str(os.getpid())):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("this boot")
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    stat = tmp_path / str(os.getpid()) / "stat"
    stat.write_text(f"{os.getpid()} (a name) S {' 0' * 18} 4711")
    holder = this_holder(tmp_path)
    stat.write_text(f"{os.getpid()} (a name) {state} {' 0' * 18} 4711")
    assert is_gone(holder, tmp_path) is has_ended


def test_without_proc_nobody_is_known_to_be_gone(tmp_path: Path) -> None:
    holder = this_holder(tmp_path)
    assert holder.startswith("/")
    assert not is_gone(holder, tmp_path)
    assert not is_gone(this_holder(), tmp_path)
