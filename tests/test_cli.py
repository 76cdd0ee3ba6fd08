"""The command line: what each command does, says and exits with."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import pytest
from anyio.from_thread import start_blocking_portal
from click.testing import CliRunner, Result
from PIL import Image

from hailuo_async import Journal
from hailuo_async._cli.bar import open_bar
from hailuo_async._cli.batch import Line, table
from hailuo_async._cli.drawings import draw_pictures
from hailuo_async._cli.plan import build_plan, choose_targets, find_pictures
from hailuo_async._cli.tally import Tally
from hailuo_async.cli import main
from hailuo_async.emulator import Emulator
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo
from hailuo_async.outcomes import Stats

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures, one of them named like none, and things that are no pictures."""
    folder = tmp_path / "pictures"
    (folder / "album.jpg").mkdir(parents=True)
    Image.new("RGB", (320, 320), "navy").save(folder / "Cat.JPG", "JPEG")
    Image.new("RGB", (320, 320), "olive").save(folder / "dog", "PNG")
    (folder / "notes.txt").write_text("RIFF and so on")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A service that ``--real`` takes for the real one, in a thread of its own."""
    emulator = Emulator(generation_s=0.2, spread=0)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(emulator):
        monkeypatch.setenv("MODELLIX_API_KEY", emulator.api_key)
        monkeypatch.setenv("MODELLIX_BASE_URL", emulator.url)
        yield emulator


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def statuses(result: Result) -> dict[str, str]:
    """The status of each line of stdout, by its key. Some versions of click echo an answer there, of one word."""
    rows = (line.split() for line in result.stdout.splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1}


# --- Planning ---


def test_pictures_are_found_by_their_content_or_their_ending_in_the_order_of_their_names(pictures: Path) -> None:
    (pictures / "text.webp").write_text("no picture")
    (pictures / "w").write_bytes(b"RIFF\x10\x00\x00\x00WEBPVP8 ")
    names = ["Cat.JPG", "dog", "text.webp", "w"]
    assert find_pictures(pictures) == {name: pictures / name for name in names}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_and_is_not_named_like_a_picture_is_none(pictures: Path) -> None:
    (pictures / "dog").chmod(0)
    assert list(find_pictures(pictures)) == ["Cat.JPG"]


def test_a_plan_has_a_video_for_each_picture_and_one_from_the_first_to_the_second(pictures: Path) -> None:
    plan = build_plan(find_pictures(pictures))
    cat, dog = pictures / "Cat.JPG", pictures / "dog"
    push, turn = "[Push in] The scene slowly comes to life", "The first scene turns into the second"
    assert plan.jobs == {
        "Cat": ImageToVideo(cat, prompt=push, key="Cat"),
        "dog": ImageToVideo(dog, prompt=push, key="dog"),
        "Cat-to-dog": FirstLastFrameToVideo(dog, cat, prompt=turn, key="Cat-to-dog"),
    }
    assert (plan.unusable, plan.seconds) == ((), 18)


def test_a_plan_of_one_picture_has_no_video_between_two(pictures: Path) -> None:
    assert list(build_plan({"a.png": pictures / "dog"}).jobs) == ["a"]


def test_a_plan_of_no_pictures_is_empty_however_many_jobs_are_asked_for() -> None:
    assert build_plan({}, 5).jobs == {}


def test_more_jobs_than_pictures_use_them_again_under_keys_of_their_own(pictures: Path) -> None:
    plan = build_plan(find_pictures(pictures), 7)
    assert list(plan.jobs) == ["Cat", "dog", "Cat-to-dog", "Cat-2", "dog-2", "Cat-to-dog-2", "Cat-3"]
    assert [job.key for job in plan.jobs.values()] == list(plan.jobs)


def test_fewer_jobs_than_pictures_are_the_first_of_them(pictures: Path) -> None:
    assert list(build_plan(find_pictures(pictures), 1).jobs) == ["Cat"]


def test_pictures_that_differ_only_in_their_ending_get_keys_of_their_own(pictures: Path) -> None:
    dog = pictures / "dog"
    assert list(build_plan({"a.jpg": dog, "a.png": dog}).jobs) == ["a", "a-2", "a-to-a"]


def test_a_name_of_any_length_and_letters_makes_a_key_and_a_file_that_can_be(pictures: Path, tmp_path: Path) -> None:
    dog = pictures / "dog"
    jobs = build_plan({"画" * 84 + ".png": dog, "line\nend.png": dog}).jobs
    assert list(jobs) == ["画" * 30, "line_end", "画" * 30 + "-to-line_end"]
    longest = build_plan({"x" * 250 + ".png": dog, "y" * 250 + ".png": dog}).jobs
    for target in choose_targets(longest, tmp_path).values():
        target.with_name(target.name + ".part").touch()


def test_a_target_is_never_a_file_that_exists_nor_another_jobs(tmp_path: Path) -> None:
    for name in ("a.mp4", "a-2.mp4", "b"):
        (tmp_path / name).touch()
    keys = ["a", "b", "a-3"]
    targets = {"a": tmp_path / "a-3.mp4", "b": tmp_path / "b.mp4", "a-3": tmp_path / "a-3-2.mp4"}
    assert choose_targets(keys, tmp_path) == targets


def test_the_pictures_that_are_drawn_are_always_the_same_and_good_for_the_service() -> None:
    drawn = draw_pictures()
    assert draw_pictures() == drawn
    assert list(build_plan(drawn).jobs) == ["dawn", "sea", "night", "dunes", "dawn-to-sea"]


# --- Words ---


def test_a_tally_counts_every_job_once_and_leaves_out_what_there_is_none_of() -> None:
    ended = dict.fromkeys(("succeeded", "failed", "refused", "unknown", "abandoned", "refusals"), 0)
    stats = Stats(queued=2, running=3, limit=4, requests_left=None, **ended)
    tally = Tally.of(stats, total=10, saving=1, saved=2, failed=1, elapsed_s=1.0)
    assert tally.words == "3 waiting, 3 running (limit 4), 1 saving, 2 saved, 1 failed"
    assert Tally.of(stats, total=3, saving=0, saved=0, failed=0, elapsed_s=0.0).words == (
        "0 waiting, 3 running (limit 4), 0 saved"
    )
    assert Tally.of(stats, total=3, saving=0, saved=1, failed=0, elapsed_s=0.0).running == 2


def test_the_table_has_a_line_a_job_with_its_columns_one_under_the_other() -> None:
    lines = [Line("cat", "saved", "videos/cat.mp4", 4.25, 1_230_000), Line("longer", "unfinished", "")]
    assert list(table(lines)) == [
        "cat     saved       4.2 s  videos/cat.mp4  1.2 MB",
        "longer  unfinished",
    ]
    assert list(table([])) == []


# --- The demo, against a service that it takes for the real one ---


def test_a_run_saves_every_video_and_pays_for_each_job_once(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    output = tmp_path / "new" / "videos"
    result = run("demo", pictures, "--real", "--yes", "--output", output)
    assert (result.exit_code, statuses(result)) == (0, {"Cat": "saved", "dog": "saved", "Cat-to-dog": "saved"})
    assert "Jobs to pay for: 3, which is 18 s of video.\n" in result.stderr
    assert {path.name: path.stat().st_size for path in output.glob("*.mp4")} == {
        "Cat.mp4": 4096,
        "dog.mp4": 4096,
        "Cat-to-dog.mp4": 4096,
    }
    assert (service.ledger.posts, service.ledger.submits_accepted) == (3, 3)


def test_run_again_it_pays_only_for_what_is_missing(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    output = tmp_path / "videos"
    run("demo", pictures, "--real", "--yes", "--output", output, "--jobs", "1")
    result = run("demo", pictures, "--real", "--output", output, "--jobs", "2", stdin="y\n")
    assert (result.exit_code, statuses(result)) == (0, {"Cat": "saved", "dog": "saved"})
    assert f"What {output / 'demo.db'} remembers as sent is not sent again." in result.stderr
    assert sorted(path.name for path in output.glob("*.mp4")) == ["Cat.mp4", "dog.mp4"]
    assert service.ledger.submits_accepted == 2


def test_without_a_yes_nothing_is_sent_nor_made(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    result = run("demo", pictures, "--real", "--output", tmp_path / "videos", stdin="n\n")
    assert (result.exit_code, statuses(result)) == (1, {})
    assert result.stderr.endswith("hailuo-async: nothing was sent\n")
    assert (service.ledger.posts, (tmp_path / "videos").exists()) == (0, False)


def test_a_question_that_nobody_answers_counts_as_interrupted(pictures: Path, service: Emulator) -> None:
    result = run("demo", pictures, "--real", stdin="")
    assert (result.exit_code, service.ledger.posts) == (130, 0)
    assert result.stderr.endswith("hailuo-async: interrupted\n")


def test_without_a_key_it_says_so_in_a_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELLIX_API_KEY", raising=False)
    result = run("demo", pictures, "--real", "--yes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("hailuo-async: api_key: ")
    assert len(result.stderr.splitlines()) == 1


def test_what_every_job_would_meet_is_told_once_and_the_rest_is_not_sent(
    pictures: Path, service: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELLIX_API_KEY", "wrong")
    result = run("demo", pictures, "--real", "--yes", "--output", tmp_path / "videos")
    assert (result.exit_code, service.ledger.submits_accepted) == (1, 0)
    assert result.stdout.splitlines() == ["Cat         not sent", "dog         not sent", "Cat-to-dog  not sent"]
    assert result.stderr.endswith("hailuo-async: 401 Authentication failed: the API key is not valid\n")


def test_jobs_that_end_in_an_error_are_lines_and_make_the_exit_code_1(
    pictures: Path, service: Emulator, tmp_path: Path
) -> None:
    service.next_fault("submit", "refuse")
    service.next_fault("submit", "cut_after")
    result = run("demo", pictures, "--real", "--yes", "--output", tmp_path / "videos", "--max-running", "1")
    assert result.exit_code == 1
    assert Counter(statuses(result).values()) == {"failed": 1, "unknown": 1, "saved": 1}
    assert "it is not sent again by itself" in result.stdout
    with Journal.open(tmp_path / "videos" / "demo.db") as journal:
        assert Counter(record.state for record in journal.records()) == {"refused": 1, "unknown": 1, "success": 1}


def test_a_video_that_cannot_be_saved_is_a_line_with_its_task(
    pictures: Path, service: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "videos" / "Cat.mp4.part").mkdir(parents=True)
    result = run("demo", pictures, "--real", "--yes", "--output", tmp_path / "videos", "--jobs", "1")
    (task_id,) = service.ledger.accepted["[Push in] The scene slowly comes to life"]
    assert result.exit_code == 1
    assert result.stdout.startswith("Cat  not saved")
    assert result.stdout.endswith(f"(task {task_id})\n")


def test_bad_pictures_are_lines_and_the_others_become_videos(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    (pictures / "bad.png").write_text("no picture")
    Image.new("RGB", (300, 300)).save(pictures / "small.png")
    result = run("demo", pictures, "--real", "--yes", "--output", tmp_path / "videos", "--jobs", "1")
    assert (result.exit_code, statuses(result)) == (
        1,
        {"bad.png": "unusable", "small.png": "unusable", "Cat": "saved"},
    )
    assert "short side must be over 300 px; got 300 x 300 px" in result.stdout


def test_a_name_that_is_not_text_is_told_all_the_same(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    (pictures / os.fsdecode(b"\xff.png")).write_text("no picture")
    result = run("demo", pictures, "--real", "--yes", "--output", tmp_path / "videos", "--jobs", "1")
    assert (result.exit_code, statuses(result)) == (1, {"\ufffd.png": "unusable", "Cat": "saved"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-folder"], "Directory 'no-such-folder' does not exist."),
        (["{pictures}/Cat.JPG"], "is a file."),
        (["{pictures}/album.jpg"], "there is no JPEG, PNG or WebP picture in"),
        (["{pictures}", "--jobs", "0"], "0 is not in the range x>=1."),
        (["{pictures}", "--max-running", "many"], "'many' is not a valid integer range."),
        (["{pictures}", "--output", "{pictures}/dog/videos"], "Not a directory"),
        (["{pictures}", "--fast"], "No such option"),
    ],
)
def test_what_cannot_be_run_is_told_without_a_traceback(arguments: Sequence[str], words: str, pictures: Path) -> None:
    result = run("demo", *(argument.format(pictures=pictures) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert isinstance(result.exception, SystemExit)


# --- The demo with its own emulator, as a program ---


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "hailuo_async", *map(str, arguments)]


def environment(*first: Path, **more: str) -> dict[str, str]:
    """Ours as it is now, with the package, and what is in ``first`` before it, in reach."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*first, ROOT))), **more}


def test_without_a_key_and_a_network_a_picture_becomes_a_film_that_plays(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "videos"
    arguments = command("demo", pictures, "--output", output, "--jobs", "1")
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["Cat", "saved"])
    assert done.stderr.startswith("An emulator of the service answers: nothing leaves this machine")
    with av.open(str(output / "Cat.mp4")) as film:
        frames = sum(1 for _ in film.decode(video=0))
        assert (film.streams.video[0].codec_context.name, frames) == ("h264", 144)


def test_interrupted_it_says_what_is_unfinished_and_exits_with_130(pictures: Path, tmp_path: Path) -> None:
    arguments = command("demo", pictures, "--output", tmp_path / "videos")
    with subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        while "3 running" not in demo.stderr.readline():
            assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert output.splitlines() == ["Cat         unfinished", "dog         unfinished", "Cat-to-dog  unfinished"]
    assert errors.endswith("hailuo-async: interrupted\n")
    assert "Traceback" not in errors


def test_on_a_terminal_it_shows_a_bar_that_ends_full(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    arguments = command("demo", pictures, "--real", "--yes", "--output", tmp_path / "videos")
    ours, theirs = pty.openpty()
    wide = environment(COLUMNS="100", TERM="xterm")
    with subprocess.Popen(arguments, env=wide, stdout=subprocess.PIPE, stderr=theirs) as demo:
        os.close(theirs)
        shown = read_all(ours)
        demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert "\x1b[" in shown
    assert "3/3" in shown
    assert re.search(r"0 waiting, 0 running \(limit \d\), 3 saved", shown)


def read_all(terminal: int) -> str:
    """What is written to a terminal until its last writer has closed it, which Linux tells as an error."""
    pieces = []
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 4096):
            pieces.append(piece)
    os.close(terminal)
    return b"".join(pieces).decode()


def test_the_bar_shows_what_is_done_and_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(waiting=0, running=1, saving=0, saved=1, failed=1, limit=3, elapsed_s=1.0)
    with open_bar(3) as bar:
        bar.show(tally)
    shown = capsys.readouterr().err
    assert "2/3" in shown
    assert "0 waiting, 1 running (limit 3), 1 saved, 1 failed" in shown


# --- The rest ---


def test_the_module_is_the_same_command_as_the_script() -> None:
    done = subprocess.run(command("--help"), env=environment(), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: hailuo-async [OPTIONS] COMMAND")
    assert {"demo", "emulator"} <= set(done.stdout.split())


def test_without_its_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('click')")
    done = subprocess.run(command("demo"), env=environment(tmp_path), capture_output=True, text=True, timeout=30)
    words = "hailuo-async: the command line needs the extra 'cli': pip install 'hailuo-async[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", words)


def test_without_what_renders_films_the_demo_says_what_to_install(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ModuleNotFoundError('No module named av')")
    arguments = command("demo", pictures, "--output", tmp_path / "videos")
    done = subprocess.run(arguments, env=environment(tmp_path), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.endswith(
        "hailuo-async: No module named av: the emulator needs an extra: pip install 'hailuo-async[emulator]'\n"
    )


def test_the_emulator_takes_its_own_options() -> None:
    result = run("emulator", "--spread", "2")
    assert (result.exit_code, "spread must be from 0 to 1; got 2.0" in result.stderr) == (2, True)
    assert "--generation-s" in run("emulator", "--help").stdout
