"""``hailuo-async status`` and ``resolve``: what a journal says, and its owner's word."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hailuo_async import Journal
from hailuo_async._io.journal.table import open_table
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import RequestRejectedError, TaskFailedError

from ..support.commands import child, environment, facts, run, statuses, terminal, wait_until, write_jobs
from ..support.running_emulator import credentials, emulator_in_thread
from ..support.tables import LEASE_S, Clock, accepted, did, in_doubt, sent, video

WHEN = r"sent \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal in which ``a`` is in doubt, ``b`` was refused, and ``c`` is saved."""
    for name in ("MODELLIX_API_KEY", "MODELLIX_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "batch.db"
    table = open_table(path, DEFAULT_BASE_URL, Clock(), "ours", LEASE_S, busy_timeout_s=1.0)
    in_doubt(table, "a")
    sent(table, "b")
    did(table, lambda it: it.refused("b", RequestRejectedError(message="no", status=400)))
    accepted(table, "c", "t3")
    did(table, lambda it: it.succeeded("c", video("t3")))
    did(table, lambda it: it.saved("t3", str(tmp_path / "c.mp4")))
    table.close()
    return path


def state_of(journal: Path, key: str) -> list[str]:
    with Journal.open(journal) as opened:
        return [record.state for record in opened.records(key=key)]


# --- status ---


def test_the_states_are_counted_and_what_is_in_doubt_is_named(journal: Path) -> None:
    result = run("status", journal)
    assert (result.exit_code, result.stderr) == (3, "")
    head, *counts, doubt, failure, retry, advice = result.stdout.splitlines()
    assert (head, counts) == (f"{journal}: 3 jobs, $0.24 spent", ["      1 saved", "      1 failed", "      1 unknown"])
    assert re.fullmatch(f"a may have been accepted and paid for: {WHEN}, cut", doubt)
    assert failure == "b refused: 400 no"
    assert retry == "To send again what was refused, which cost nothing: the command that sent it"
    assert advice == f"To decide: hailuo-async resolve {journal} KEY... --task-id ID | --resubmit | --forget"


def test_for_machines_every_job_is_an_object(journal: Path) -> None:
    result = run("status", journal, "--json")
    told = facts(result.stdout)
    assert (result.exit_code, statuses(result.stdout)) == (3, {"a": "unknown", "b": "failed", "c": "saved"})
    assert told["b"]["error"] == {"type": "RequestRejectedError", "message": "400 no"}
    assert told["c"] == {
        "key": "c",
        "status": "saved",
        "path": str(journal.parent / "c.mp4"),
        "spent": "0.2400",
        "task_id": "t3",
        "sent_at": 999.0,
        "accepted_at": 1001.0,
        "ended_at": 1_000_000.0,
        "error": None,
    }


def test_the_exit_code_says_whether_all_is_done(journal: Path) -> None:
    codes = [run("status", journal).exit_code]
    for key in ("a", "b"):
        run("resolve", journal, key, "--forget")
        codes.append(run("status", journal).exit_code)
    assert codes == [3, 1, 0]
    assert run("status", journal).stdout.startswith(f"{journal}: 1 job, $0.24 spent\n")


def test_without_a_name_it_is_the_journal_of_a_batch_here(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(journal.parent)
    result = run("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "File 'videos/batch.db' does not exist (see 'hailuo-async status --help')" in result.stderr


def test_what_is_no_journal_is_told(journal: Path) -> None:
    letter = journal.with_name("letter.txt")
    letter.write_text("Dear journal, " * 100)
    result = run("status", letter)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"hailuo-async: journal {letter}: it is not a SQLite file")


@pytest.mark.slow
def test_a_batch_is_followed_until_nothing_is_to_come(tmp_path: Path) -> None:
    jobs, journal = write_jobs(tmp_path, 1), tmp_path / "batch.db"
    shown: list[str] = []
    with emulator_in_thread(generation_s=600.0) as service:
        env = environment(**credentials(service))
        with child("batch", jobs, "--output", tmp_path, "--yes", env=env) as process:
            wait_until(lambda: service.ledger.submits_accepted == 1)
            with child("status", journal, "--watch", env=env) as following:
                assert following.stdout is not None
                for line in following.stdout:
                    shown.append(line.rstrip())
                    if "1 unfinished" in line:
                        service.clock_offset_s = 600.0
                assert following.wait(60) == 0
            process.communicate(timeout=60)
    first, *_, last = shown
    assert first == f"{journal}: 1 job"
    assert "      1 unfinished" in shown
    assert last in ("      1 saved", "      1 not saved")  # it has ended, and its film may be on its way


# --- Completion ---


def completed(journal: Path, incomplete: str) -> list[str]:
    asked = {"COMP_WORDS": f"hailuo-async resolve {journal} {incomplete}", "COMP_CWORD": "3"}
    done = run(env={**asked, "_HAILUO_ASYNC_COMPLETE": "bash_complete"})
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


def test_the_keys_that_may_be_decided_on_are_completed_those_in_doubt_first(journal: Path) -> None:
    table = open_table(journal, DEFAULT_BASE_URL, Clock(), "ours", LEASE_S, busy_timeout_s=1.0)
    in_doubt(table, "another")
    accepted(table, "along", "t4")
    did(table, lambda it: it.failed("along", TaskFailedError(reason="too dark", task_id="t4")))
    table.close()
    assert completed(journal, "a") == ["a", "another", "along"]
    assert completed(journal, "al") == ["along"]
    assert completed(journal, "x") == []


def test_a_journal_is_completed_as_a_file_is(tmp_path: Path) -> None:
    for words in ("hailuo-async resolve ./b", "hailuo-async status ./b"):
        done = run(env={"COMP_WORDS": words, "COMP_CWORD": "2", "_HAILUO_ASYNC_COMPLETE": "bash_complete"})
        assert done.stdout == "file,./b\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "ask"),
    [
        ("bash", 'COMP_WORDS=(x resolve {0} "") COMP_CWORD=3; _hailuo_async_completion hailuo-async; echo $COMPREPLY'),
        ("zsh", "compdef _seen hailuo-async; (( $+functions[_hailuo_async_completion] )) && echo a"),
        ("fish", 'complete -C "hailuo-async resolve {0} "'),
    ],
)
def test_a_shell_that_reads_what_it_is_given_completes_a_key(shell: str, ask: str, journal: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    command_file = journal.parent / "bin" / "hailuo-async"
    command_file.parent.mkdir()
    command_file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m hailuo_async "$@"\n')
    command_file.chmod(0o755)
    source = (
        "hailuo-async completion fish | source" if shell == "fish" else f'eval "$(hailuo-async completion {shell})"'
    )
    path = os.pathsep.join((str(command_file.parent), os.environ["PATH"]))
    env = environment(PATH=path, HOME=str(journal.parent), XDG_CONFIG_HOME=str(journal.parent))
    script = f"{source}; {ask.format(journal)}"
    quiet = ["--norc"] if shell == "bash" else ["-f"] if shell == "zsh" else ["--no-config"]
    done = subprocess.run([shell, *quiet, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["a"], "")


# --- resolve ---


def test_several_are_decided_at_once(journal: Path) -> None:
    result = run("resolve", journal, "a", "b", "--forget")
    assert (result.exit_code, result.stdout) == (0, "a: forgotten\nb: forgotten\n")
    assert (
        "a task has one job: give one KEY with --task-id" in run("resolve", journal, "c", "d", "--task-id", "t").stderr
    )


def test_of_a_known_failure_it_is_asked_whether_to_pay_again_and_of_a_refusal_nothing(tmp_path: Path) -> None:
    path = tmp_path / "batch.db"
    table = open_table(path, DEFAULT_BASE_URL, Clock(), "ours", LEASE_S, busy_timeout_s=1.0)
    accepted(table, "a", "t1")
    did(table, lambda it: it.failed("a", TaskFailedError(reason="too dark", task_id="t1")))
    sent(table, "b")
    did(table, lambda it: it.refused("b", RequestRejectedError(message="no", status=400)))
    table.close()
    assert run("resolve", path, "b", "--resubmit").exit_code == 0
    with terminal("resolve", path, "a", "--resubmit", env=environment()) as screen:
        screen.wait_for("a failed: to make it again is paid for again. Send it again? [y/N]: ")
        screen.type("y\n")
        assert screen.end() == 0


def test_a_question_is_broken_between_words_at_a_narrow_terminal(journal: Path) -> None:
    with terminal("resolve", journal, "a", "--resubmit", env=environment(), columns=40) as screen:
        screen.wait_for("If a was accepted after all, it\r\n  is paid for twice. Send it\r\n  again? [y/N]: ")
        screen.type("n\n")
        assert screen.end() == 1


def test_forgotten_it_is_gone(journal: Path) -> None:
    result = run("resolve", journal, "a", "--forget")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a: forgotten\n", "")
    assert state_of(journal, "a") == []


def test_given_its_task_it_is_waited_for_from_now_on(journal: Path) -> None:
    result = run("resolve", journal, "a", "--task-id", "t1", "--json")
    assert (result.exit_code, facts(result.stdout)) == (0, {"a": {"key": "a", "status": "unfinished"}})
    assert facts(run("status", journal, "--json").stdout)["a"]["task_id"] == "t1"


def test_sent_again_it_may_be_paid_for_twice_so_that_is_asked(journal: Path) -> None:
    refused = run("resolve", journal, "a", "--resubmit")
    words = "hailuo-async: there is no terminal to ask at before paying again: give --yes\n"
    assert (refused.exit_code, refused.stderr, state_of(journal, "a")) == (2, words, ["unknown"])
    with terminal("resolve", journal, "a", "--resubmit", env=environment()) as screen:
        screen.wait_for("If a was accepted after all, it is paid for twice. Send it again? [y/N]: ")
        screen.type("n\n")
        assert screen.end() == 1
    assert state_of(journal, "a") == ["unknown"]
    agreed = run("resolve", journal, "a", "--resubmit", "--yes")
    assert (agreed.exit_code, agreed.stdout, state_of(journal, "a")) == (0, "a: not sent\n", ["intended"])
    assert agreed.stderr == "Run the command that sent it again to go on.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a"], "give one of --task-id, --resubmit and --forget"),
        (["a", "--forget", "--resubmit"], "give one of --task-id, --resubmit and --forget"),
        (["nobody", "--forget"], "key 'nobody': must name a job in this journal"),
        (["c", "--task-id", "x"], "key 'c': names a job whose state is success: only one that is unknown is "),
        (["a", "--task-id", "a b"], "task_id 'a b': must be a short printable str without spaces, and not . or .."),
    ],
)
def test_what_cannot_be_decided_is_one_line(arguments: list[str], words: str, journal: Path) -> None:
    result = run("resolve", journal, *arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith(f"hailuo-async: {words}")


def test_a_job_is_decided_on_whichever_service_its_journal_belongs_to(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELLIX_BASE_URL", "http://localhost:1")
    assert (run("resolve", journal, "a", "--forget").exit_code, state_of(journal, "a")) == (0, [])


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = run("resolve", tmp_path / "none.db", "a", "--forget")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])


@pytest.mark.slow
def test_a_job_that_was_killed_in_the_middle_of_its_post_is_in_doubt_until_it_is_decided(tmp_path: Path) -> None:
    jobs, journal = write_jobs(tmp_path, 1), tmp_path / "batch.db"
    with emulator_in_thread(generation_s=0.1) as service:
        service.next_fault("submit", "hang_before")
        env = environment(**credentials(service))
        with child("batch", jobs, "--output", tmp_path, "--yes", env=env) as process:
            wait_until(lambda: service.ledger.posts == 1)
            process.kill()
            process.communicate(timeout=60)
        assert (run("status", journal).exit_code, state_of(journal, "a")) == (3, ["sending"])
        assert "the process that sent it has ended" in run("status", journal).stdout
        assert run("resolve", journal, "a", "--resubmit", "--yes", env=credentials(service)).exit_code == 0
        assert run("batch", jobs, "--output", tmp_path, "--yes", env=credentials(service)).exit_code == 0
        assert service.ledger.submits_accepted == 1


@pytest.mark.slow
def test_deciding_needs_no_key_and_does_not_ask_after_the_tasks_of_other_jobs(tmp_path: Path) -> None:
    path = tmp_path / "batch.db"
    with emulator_in_thread() as service:
        table = open_table(path, service.url, Clock(), "ours", LEASE_S, busy_timeout_s=1.0)
        for key in ("a", "b", "c"):
            in_doubt(table, key)
        accepted(table, "along", "t4")
        table.close()
        assert run("resolve", path, "a", "b", "c", "--forget").exit_code == 0
        assert (dict(service.ledger.requests), state_of(path, "along")) == ({}, ["accepted"])
