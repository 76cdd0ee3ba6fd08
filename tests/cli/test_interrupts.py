"""A batch that is interrupted, and its terminal: what is paid for is saved, or named, and never paid for twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import click
import pytest

from hailuo_async import AsyncSession, ImageToVideo, Journal
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.batch import Batch, BatchPlan
from hailuo_async._cli.batch.bill import Bill
from hailuo_async._cli.batch.progress import Screen
from hailuo_async._cli.batch.results import JobResult, ResultLine
from hailuo_async._cli.batch.run import run_batch
from hailuo_async._cli.generate import SingleVideo
from hailuo_async._cli.interrupts import interruptible
from hailuo_async._cli.jobfile.joblist import Entry
from hailuo_async.emulator import Emulator

from ..support.commands import (
    INTERRUPT,
    child,
    command,
    environment,
    facts,
    names_in,
    once,
    paid,
    run,
    statuses,
    terminal,
    wait_until,
    write_jobs,
)
from ..support.running_emulator import credentials, emulator_in_thread
from ..support.service import until

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

COLOUR = re.compile(r"\x1b\[[39][0-9;]*m")


@pytest.fixture
def service() -> Iterator[Emulator]:
    """A service whose tasks take long enough to be interrupted, three at once."""
    with emulator_in_thread(generation_s=1.0) as emulator:
        yield emulator


def finish(jobs: Path, service: Emulator) -> tuple[int, dict[str | None, str]]:
    """The exit code and the statuses of another run, which nobody interrupts."""
    env = environment(**credentials(service))
    with child("batch", jobs, "--output", jobs.parent, "--yes", "--json", env=env) as process:
        output, _ = process.communicate(timeout=60)
    return process.returncode, statuses(output)


# --- Signals ---


async def heard(*numbers: signal.Signals) -> list[str]:
    """What is called for each of the signals, in order."""
    calls: list[str] = []
    happened = [anyio.Event() for _ in numbers]

    def note(name: str) -> Callable[[], None]:
        def call() -> None:
            calls.append(name)
            happened[len(calls) - 1].set()

        return call

    with interruptible(note("stop"), note("quit")):
        for number, event in zip(numbers, happened, strict=True):
            signal.raise_signal(number)
            await event.wait()
    return calls


async def test_ctrl_c_stops_and_again_it_quits() -> None:
    assert await heard(signal.SIGINT, signal.SIGINT) == ["stop", "quit"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_who_does_not_wait_is_not_made_to(number: signal.Signals) -> None:
    assert await heard(number) == ["quit"]
    assert await heard(signal.SIGINT, number) == ["stop", "quit"]


async def test_afterwards_signals_do_what_they_did_and_what_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    term = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        assert await heard(signal.SIGTERM) == ["quit"]
        with interruptible(lambda: None, lambda: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, term)


def started(folder: Path, first: str, number: str) -> subprocess.CompletedProcess[str]:
    """The command after ``first``, to which ``number`` is sent while it still imports what it needs."""
    send = f"import os, signal\nos.kill(os.getpid(), signal.{number})\nraise ModuleNotFoundError('click')\n"
    (folder / "click.py").write_text(send)
    run_it = f"import signal\n{first}\nimport hailuo_async_command\nhailuo_async_command.main()"
    arguments = [sys.executable, "-c", run_it]
    return subprocess.run(arguments, env=environment(folder), capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_a_signal_ends_the_command_in_good_order_before_it_has_begun(tmp_path: Path) -> None:
    for number in ("SIGTERM", "SIGHUP", "SIGINT"):
        done = started(tmp_path, "", number)
        assert (number, done.returncode, done.stderr) == (number, 130, "")


@pytest.mark.slow
def test_a_signal_that_was_to_be_ignored_is_ignored_from_the_beginning(tmp_path: Path) -> None:
    done = started(tmp_path, "signal.signal(signal.SIGHUP, signal.SIG_IGN)", "SIGHUP")
    assert (done.returncode, "needs the extra 'cli'" in done.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "saved"), [(signal.SIGINT, 2), (signal.SIGTERM, 0)])
async def test_a_batch_that_is_stopped_sends_no_more_and_one_that_is_quit_waits_for_none(
    number: signal.Signals, saved: int, service: Emulator, tmp_path: Path
) -> None:
    service.service.generation_s = 600.0
    jobs = {key: ImageToVideo("https://example.com/cat.jpg", prompt=f"scene {key}", key=key) for key in "abcdefghijkl"}
    told: list[ResultLine] = []
    entries = [Entry(key, jobs.__getitem__) for key in jobs]
    names = {key: tmp_path / f"{key}.mp4" for key in jobs}
    plan = BatchPlan(entries=lambda: entries, total=len(jobs), targets=names.__getitem__, output=tmp_path)
    batch = Batch(plan, Bill(plan.targets), told.append)
    session = AsyncSession(api_key=service.api_key, base_url=service.url, max_running=2)
    async with session, anyio.create_task_group() as tasks:
        tasks.start_soon(batch.run, session, Screen(lambda _: None))
        await anyio.to_thread.run_sync(wait_until, lambda: service.ledger.submits_accepted == 2)
        signal.raise_signal(number)
        if saved:
            await until(lambda: batch.is_interrupted)
            service.clock_offset_s = 600.0
    assert ([line.result for line in told], batch.is_interrupted, batch.stopped_by) == (
        [JobResult.SAVED] * saved,
        True,
        None,
    )
    assert service.ledger.posts == 2


@pytest.mark.parametrize(("max_running", "result"), [(0, JobResult.NOT_SENT), (1, JobResult.UNFINISHED)])
async def test_one_video_that_is_interrupted_is_not_sent_or_goes_on(
    max_running: int, result: JobResult, service: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.service.max_running = max_running
    single = SingleVideo(ImageToVideo("https://example.com/cat.jpg"), tmp_path / "a.mp4", None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interrupt_when, lambda: service.ledger.posts > 0)
        line = await single.run(AsyncSession(api_key=service.api_key, base_url=service.url))
    assert (line.result, single.report(line, is_json=False)) == (result, 130)
    _, _, end = capsys.readouterr().err.rpartition("hailuo-async: interrupted; ")
    assert ("--task-id" in end) == (result is JobResult.UNFINISHED)


async def interrupt_when(holds: Callable[[], bool]) -> None:
    await anyio.to_thread.run_sync(wait_until, holds)
    signal.raise_signal(signal.SIGINT)


# --- A batch, in a pipe ---


@pytest.mark.slow
def test_interrupted_once_it_sends_nothing_more_and_saves_what_runs_and_goes_on_when_it_is_run_again(
    service: Emulator, tmp_path: Path
) -> None:
    service.service.generation_s = 600.0
    jobs = write_jobs(tmp_path, 6)
    env = environment(**credentials(service))
    with child("batch", jobs, "--output", tmp_path, "--yes", "--json", env=env) as process:
        wait_until(lambda: service.ledger.posts > service.ledger.submits_accepted == 3)  # there is room for no fourth
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = next(line for line in process.stderr if "no more jobs" in line)
        service.clock_offset_s = 600.0
        output, errors = process.communicate(timeout=60)
    saved = {key for key, status in statuses(output).items() if status == "saved"}
    assert (process.returncode, Counter(statuses(output).values())) == (130, {"saved": 3, "not sent": 3})
    assert re.match(r"hailuo-async: no more jobs are sent; waiting for those that run: [34]", told)
    assert errors.endswith("\n3 not sent\nRun the same command again to go on: nothing is paid for twice\n")
    assert paid(service) == {f"scene {key}": 1 for key in saved}

    service.service.generation_s = 0.1
    assert finish(jobs, service) == (0, {key: "there" if key in saved else "saved" for key in "abcdef"})
    assert paid(service) == once("abcdef")


@pytest.mark.slow
def test_told_to_end_it_names_what_runs_and_has_it_when_it_is_run_again(service: Emulator, tmp_path: Path) -> None:
    service.service.generation_s = 600.0
    arguments = ("batch", write_jobs(tmp_path, 3), "--output", tmp_path, "--yes", "--json")

    def end_it() -> None:
        wait_until(lambda: service.ledger.submits_accepted == 3)
        os.kill(os.getpid(), signal.SIGTERM)

    ending = threading.Thread(target=end_it)
    ending.start()
    first = run(*arguments, env=credentials(service))
    ending.join()
    assert (first.exit_code, names_in(tmp_path)) == (130, [])
    assert statuses(first.stdout) == dict.fromkeys("abc", "unfinished")
    assert {f"scene {key}": [fact["task_id"]] for key, fact in facts(first.stdout).items()} == service.ledger.accepted
    assert "hailuo-async: quitting; what runs goes on at the service\n" in first.stderr

    service.clock_offset_s = 600.0
    again = run(*arguments, env=credentials(service))
    assert (again.exit_code, statuses(again.stdout)) == (0, dict.fromkeys("abc", "saved"))
    assert paid(service) == once("abc")


@contextlib.asynccontextmanager
async def interrupted() -> AsyncIterator[AsyncSession]:
    raise KeyboardInterrupt
    yield AsyncSession()


@pytest.mark.slow
def test_interrupted_before_it_has_begun_it_tells_what_an_earlier_run_has_saved_and_what_is_gone(
    service: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.service.generation_s = 0.2
    entries = [Entry(key, lambda key: ImageToVideo("https://example.com/cat.jpg", key=key)) for key in "ab"]
    names, journal = {key: tmp_path / f"{key}.mp4" for key in "ab"}, tmp_path / "batch.db"
    plan = BatchPlan(
        entries=lambda: entries,
        total=2,
        targets=names.__getitem__,
        output=tmp_path,
        journal=journal,
        is_json=True,
    )
    session = AsyncSession(api_key=service.api_key, base_url=service.url, journal=journal)
    assert run_batch(plan, session, is_agreed=True) == 0
    names["b"].unlink()
    assert statuses(capsys.readouterr().out) == {"a": "saved", "b": "saved"}
    assert run_batch(plan, interrupted(), is_agreed=True) == 130
    assert statuses(capsys.readouterr().out) == {"a": "there", "b": "not saved"}


@pytest.mark.slow
def test_a_reader_that_goes_takes_no_video_with_it(service: Emulator, tmp_path: Path) -> None:
    service.service.generation_s = 0.2
    env = environment(**credentials(service))
    with child("batch", write_jobs(tmp_path, 4), "--output", tmp_path, "--yes", env=env) as process:
        assert process.stdout is not None
        assert "saved" in process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read() if process.stderr is not None else ""
        assert process.wait(60) == 0
    assert "\n4 of 4 saved in " in errors
    assert "Error" not in errors
    assert names_in(tmp_path) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


@pytest.mark.slow
def test_with_every_stream_closed_it_saves_what_it_pays_for(service: Emulator, tmp_path: Path) -> None:
    service.service.generation_s = 0.2
    closed = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-']
    arguments = command("batch", write_jobs(tmp_path, 2), "--output", tmp_path, "--yes")
    done = subprocess.run([*closed, *arguments], env=environment(**credentials(service)), timeout=60)
    assert (done.returncode, names_in(tmp_path), paid(service)) == (0, ["a.mp4", "b.mp4"], once("ab"))


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, click.Abort])
def test_interrupted_while_it_checks_or_asks_it_says_that_nothing_was_sent(
    interrupt: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exit_codes.nothing_sent():
        raise interrupt
    assert (ended.value.code, capsys.readouterr().err) == (130, "hailuo-async: interrupted; nothing was sent\n")


# --- A batch, at a terminal ---


@pytest.mark.slow
def test_at_a_terminal_ctrl_c_stops_and_again_it_quits_at_once(service: Emulator, tmp_path: Path) -> None:
    service.service.generation_s = 60.0
    env = environment(**credentials(service))
    with terminal("batch", write_jobs(tmp_path, 4), "--output", tmp_path, "--yes", env=env) as here:
        here.wait_for("3 running (limit 3)")
        here.type(INTERRUPT)
        here.wait_for("Once more to quit at once")
        here.type(INTERRUPT)
        here.wait_for("quitting")
        assert here.end() == 130
    assert here.shown.count("unfinished          task task-") == 3
    assert "3 unfinished: they go on at the service\r\n1 not sent\r\n" in here.shown
    assert (service.ledger.submits_accepted, names_in(tmp_path)) == (3, [])


@pytest.mark.slow
def test_a_terminal_that_goes_leaves_the_ids_in_the_journal(service: Emulator, tmp_path: Path) -> None:
    env = environment(**credentials(service))
    with terminal("batch", write_jobs(tmp_path, 3), "--output", tmp_path, "--yes", env=env) as here:
        wait_until(lambda: service.ledger.submits_accepted == 3)
        here.hang_up()
        here.process.wait(60)
    with Journal.open(tmp_path / "batch.db") as journal:
        known = {f"scene {record.key}": [record.task_id] for record in journal.records()}
    assert known == service.ledger.accepted
    assert here.process.returncode == 130


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "more"), [(100, {}), (32, {"NO_COLOR": "1"})])
def test_the_bar_fits_its_terminal_and_ends_full_under_what_was_told(
    columns: int, more: dict[str, str], service: Emulator, tmp_path: Path
) -> None:
    service.service.generation_s = 0.2
    service.next_fault("submit", "refuse")
    env = environment(**credentials(service), **more)
    jobs = write_jobs(tmp_path, 3)
    with terminal("batch", jobs, "--output", tmp_path, env=env, columns=columns) as here:
        here.wait_for("Go on? [y/N]: ")
        here.type("y\n")
        assert here.end() == 1
    _, _, drawn = here.shown.partition("[y/N]: y\r\n")
    assert (COLOUR.search(drawn) is None) == ("NO_COLOR" in more)
    bar, _, end = ANSI.sub("", drawn).replace("\r", "\n").partition("2 of 3 saved in ")
    assert "\n1 failed\n" in end
    assert max(len(line) for line in bar.splitlines()) <= columns
    assert re.match(r"0:0\d:\d\d", " ".join(bar.split()).rpartition("3/3 ")[2])
    assert re.search(r"0 waiting, 0 running \(limit \d\), 2 saved, 1 failed\b", " ".join(bar.split()))
    for key in "abc":
        assert len(re.findall(rf"^{key}  (?:saved|failed)", bar, re.MULTILINE)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 80])
def test_nothing_breaks_within_a_word_and_a_failure_has_its_reason_under_its_key(
    width: int, service: Emulator, tmp_path: Path
) -> None:
    service.service.generation_s = 0.2
    service.next_fault("submit", "refuse")
    env = environment(**credentials(service))
    jobs, out = write_jobs(tmp_path, 2), tmp_path / "out"
    with terminal("batch", jobs, "--output", out, "--yes", "--max-running", "1", env=env, columns=width) as here:
        assert here.end() == 1
    shown = ANSI.sub("", here.shown).replace("\r", "\n")
    assert re.search(r"\n[ab]  failed\n+  400 Invalid parameters: refused", shown)
    words = {word for line in shown.splitlines() for word in line.split()}
    for message in ("by the prices of 2026-08-10.", "refused on purpose"):
        assert set(message.split()) <= words
    assert max(len(line) for line in shown.splitlines()) <= width


@pytest.mark.slow
def test_a_dumb_terminal_gets_lines(service: Emulator, tmp_path: Path) -> None:
    service.next_fault("submit", "refuse")
    env = environment(**credentials(service), TERM="dumb")
    with terminal("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes", env=env) as here:
        assert here.end() == 1
    assert "\x1b" not in here.shown
    assert re.search(r"^ *\d+\.\d s  0 waiting, 0 running \(limit \d\), 0 saved, 1 failed", here.shown, re.MULTILINE)
