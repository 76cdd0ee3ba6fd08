"""``hailuo-async generate``: one video, whose task is named as soon as it is known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image

from hailuo_async import FirstLastFrameToVideo, ImageToVideo
from hailuo_async._cli.generate import build_job, line_message, name_for, usual
from hailuo_async.emulator import Emulator
from hailuo_async.errors import JobError
from hailuo_async.outcomes import Stats

from ..support.commands import INTERRUPT, environment, facts, names_in, paid, run, terminal


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands, with a picture."""
    Image.new("RGB", (320, 320), "teal").save(tmp_path / "Cat.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- What is asked for ---


def test_the_options_become_a_job_and_what_was_not_given_is_left_to_the_service() -> None:
    given = {"prompt": "a", "duration": 10, "model": None, "prompt_optimizer": None}
    job = build_job("cat.jpg", None, given)
    assert job == ImageToVideo(Path("cat.jpg"), prompt="a", duration=10)
    assert job.options == {"prompt": "a", "duration": 10}
    url = "HTTPS://example.com/cat.jpg"
    assert build_job(url, "b.png", {"prompt": None}) == FirstLastFrameToVideo(Path("b.png"), first_frame_image=url)


def test_what_a_video_with_a_last_frame_does_not_take_is_told() -> None:
    with pytest.raises(JobError, match="fast_pretreatment True: must be left out for a video with a last frame"):
        build_job("a.jpg", "b.jpg", {"fast_pretreatment": True})


def test_a_video_is_called_like_its_picture() -> None:
    images = ("a/Cat.of.mine.jpg", "http://x.y/z/dog.png?a=b.c", "https://x.y", "data:image/png;base64,AA==")
    assert [name_for(image) for image in images] == ["Cat.of.mine", "dog", "video", "video"]


# --- A run ---


@pytest.mark.slow
def test_it_tells_the_task_and_each_step_and_prints_where_the_video_is(service: Emulator, here: Path) -> None:
    result = run("generate", "Cat.jpg", "--prompt", "a cat")
    (task_id,) = service.ledger.accepted["a cat"]
    assert (result.exit_code, result.stdout) == (0, "Cat.mp4\n")
    assert (here / "Cat.mp4").stat().st_size == 4096
    steps = [re.sub(r"^ *\d+\.\d s  ", "", line) for line in result.stderr.splitlines()]
    assert steps[:3] == ["queued", "sending", f"pending, task {task_id}"]
    assert steps[-2:] == [f"success, task {task_id}", "Cost: $0.32"]


@pytest.mark.slow
def test_done_again_it_is_another_video_in_another_file(service: Emulator, here: Path) -> None:
    for _ in range(2):
        assert run("generate", "Cat.jpg", "--prompt", "a cat", "-o", "new/videos/").exit_code == 0
    assert (names_in(here / "new" / "videos"), paid(service)) == (["Cat-2.mp4", "Cat.mp4"], {"a cat": 2})


@pytest.mark.slow
def test_with_a_journal_it_is_paid_for_once_however_often_it_is_run(service: Emulator, here: Path) -> None:
    again = ["generate", "Cat.jpg", "--last", "Cat.jpg", "--journal", "j.db", "-o", "new/day.mp4", "--json"]
    for _ in range(2):
        result = run(*again)
        (told,) = facts(result.stdout).values()
        assert (result.exit_code, told["status"], told["path"]) == (0, "saved", str(here / "new" / "day.mp4"))
    assert service.ledger.posts == 1


@pytest.mark.slow
def test_a_task_that_was_sent_before_is_fetched_and_not_paid_for(service: Emulator, here: Path) -> None:
    run("generate", "Cat.jpg", "--prompt", "a cat")
    (task_id,) = service.ledger.accepted["a cat"]
    result = run("generate", "--task-id", task_id)
    assert (result.exit_code, result.stdout, service.ledger.posts) == (0, f"{task_id}.mp4\n", 1)


def test_a_dry_run_tells_the_cost_and_sends_nothing_and_needs_no_key(
    service: Emulator, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELLIX_API_KEY")
    result = run("generate", "Cat.jpg", "--dry-run", "--duration", "10s", "--resolution", "768p")
    assert (result.exit_code, service.ledger.posts, names_in(here)) == (0, 0, [])
    assert result.stderr == "To pay for: 10 s of video, $0.54 to $1.20 by the prices of 2026-08-10.\n"


@pytest.mark.slow
def test_what_was_paid_is_told_unless_it_is_to_be_quiet(service: Emulator, here: Path) -> None:
    assert run("generate", "Cat.jpg").stderr.endswith("\nCost: $0.32\n")
    assert run("generate", "Cat.jpg", "--quiet").stderr == ""


@pytest.mark.slow
def test_asked_for_under_another_name_it_says_that_it_was_made_before(service: Emulator, here: Path) -> None:
    assert run("generate", "Cat.jpg", "--journal", "j.db", "-o", "z4.mp4").exit_code == 0
    again = run("generate", "Cat.jpg", "--journal", "j.db", "-o", "z5.mp4")
    assert (again.exit_code, again.stdout, names_in(here)) == (1, f"{here / 'z4.mp4'}\n", ["z4.mp4"])
    assert f"was made before and is {here / 'z4.mp4'}; z5.mp4 was not made" in again.stderr
    assert service.ledger.posts == 1


@pytest.mark.slow
def test_with_a_journal_the_video_of_another_job_is_in_the_way_before_anything_is_paid_for(
    service: Emulator, here: Path
) -> None:
    made = ["generate", "Cat.jpg", "--journal", "j.db", "-o", "z4.mp4"]
    assert run(*made, "--prompt", "a cat").exit_code == 0
    (task_id,) = service.ledger.accepted["a cat"]
    for asked in (["generate", "Cat.jpg", "--prompt", "a dog", *made[2:]], ["generate", "--task-id", "t", *made[2:]]):
        other = run(*asked)
        assert (other.exit_code, service.ledger.posts) == (2, 1)
        assert other.stderr.startswith("hailuo-async: z4.mp4 exists already, and is left alone: give another --output")
    for asked in ([*made, "--prompt", "a cat"], ["generate", "--task-id", task_id, *made[2:]]):
        again = run(*asked)
        assert (again.exit_code, again.stdout, service.ledger.posts) == (0, f"{here / 'z4.mp4'}\n", 1)


# --- What goes wrong ---


def test_a_job_that_is_refused_is_told_and_leaves_nothing(service: Emulator, here: Path) -> None:
    service.next_fault("submit", "refuse")
    result = run("generate", "Cat.jpg", "--json")
    (told,) = facts(result.stdout).values()
    assert (result.exit_code, told["status"], told["error"]["type"]) == (1, "failed", "RequestRejectedError")
    assert "\nhailuo-async: 400 Invalid parameters: refused on purpose (request req-" in result.stderr
    assert names_in(here) == []


@pytest.mark.slow
def test_a_task_that_failed_is_not_to_be_fetched(service: Emulator, here: Path) -> None:
    service.service.fail_rate = 1.0
    result = run("generate", "Cat.jpg")
    assert (result.exit_code, "To have the video" in result.stderr) == (1, False)


@pytest.mark.slow
def test_with_a_journal_a_task_that_failed_is_made_again_by_what_the_journal_says(
    service: Emulator, here: Path
) -> None:
    again = ["generate", "Cat.jpg", "--journal", "j.db"]
    service.service.fail_rate = 1.0
    result = run(*again)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "To make it again, and pay for it again: hailuo-async status j.db says how",
    )
    service.service.fail_rate = 0.0
    *_, failure, advice = run("status", "j.db").stdout.splitlines()
    key = failure.partition(" failed: ")[0]
    assert advice == (
        "To make again what failed, and pay for it again: hailuo-async resolve j.db KEY... --resubmit, "
        "and the command that sent it; for a batch, its own command with --retry-failed"
    )
    assert run("resolve", "j.db", key, "--resubmit", "--yes").exit_code == 0
    assert (run(*again).exit_code, service.ledger.posts) == (0, 2)


@pytest.mark.slow
def test_an_unknown_outcome_says_how_to_fetch_what_the_dashboard_has(service: Emulator, here: Path) -> None:
    service.next_fault("submit", "cut_after")
    result = run("generate", "Cat.jpg", "--prompt", "a cat", "-o", "my cat.mp4")
    assert (result.exit_code, result.stdout) == (3, "")
    doubt, advice = result.stderr.splitlines()[-2:]
    assert doubt.startswith("hailuo-async: a job may have been accepted and paid for: ")
    assert advice.endswith(" this fetches the video: hailuo-async generate --task-id ID -o 'my cat.mp4'")
    (task_id,) = service.ledger.accepted["a cat"]
    assert run("generate", "--task-id", task_id, "-o", "my cat.mp4").exit_code == 0
    assert service.ledger.posts == 1


def test_with_a_journal_an_unknown_outcome_is_to_be_decided_there(service: Emulator, here: Path) -> None:
    service.next_fault("submit", "cut_after")
    result = run("generate", "Cat.jpg", "--journal", "my jobs.db")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (3, "To decide: hailuo-async status 'my jobs.db'")


@pytest.mark.slow
def test_a_video_that_cannot_be_saved_is_fetched_later(service: Emulator, here: Path) -> None:
    (here / "Cat.mp4.part").mkdir()
    result = run("generate", "Cat.jpg", "--prompt", "a cat")
    (task_id,) = service.ledger.accepted["a cat"]
    assert result.exit_code == 1
    assert result.stderr.endswith(f"\nTo have the video: hailuo-async generate --task-id {task_id} -o Cat.mp4\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give an IMAGE, or the --task-id of what was sent before"),
        (["Cat.jpg", "--task-id", "1"], "give an IMAGE or a --task-id, not both"),
        (["--task-id", "a b"], "task_id 'a b': must be a short printable str without spaces, and not . or .."),
        (["none.jpg"], "first_frame_image (none.jpg): "),
        (
            ["ftp://x.y/cat.jpg"],
            "image 'ftp://x.y/cat.jpg': must be an http(s) URL, a data URL, or the path of a picture",
        ),
        (["."], ". is a folder: 'hailuo-async batch .' makes a video of each picture in it (see "),
        (["Cat.jpg", "--prompt", ""], "prompt '0 characters': must be a str of 1 to 2000 characters"),
        (["Cat.jpg", "--duration", "7"], "duration 7: must be 6 or 10 seconds for hailuo-2.3-i2v"),
        (
            ["Cat.jpg", "--duration", "six"],
            "Invalid value for '--duration': 'six' is no time such as 90, 30s, 5m or 2h (see 'hailuo-async generate ",
        ),
        (["Cat.jpg", "--timeout", "0", "--dry-run"], "Invalid value for '--timeout': '0' is no time such as 90, 30s"),
        (["Cat.jpg", "--model", "sora"], "model 'sora': must be one of hailuo-2.3-i2v, "),
        (["Cat.jpg", "-o", "Cat.jpg"], "Cat.jpg exists already, and is left alone: give another --output"),
        (["Cat.jpg", "-o", "Cat.jpg/a.mp4"], "Cat.jpg: File exists"),
        (["Cat.jpg", "-o", "/proc/a.mp4"], "/proc cannot be written to: No such file or directory (see "),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments: list[str], words: str, service: Emulator, here: Path) -> None:
    result = run("generate", *arguments)
    (line,) = result.stderr.splitlines()
    assert (result.exit_code, result.stdout, service.ledger.posts) == (2, "", 0)
    assert line.startswith(f"hailuo-async: {words}")


def test_a_dry_run_looks_at_the_picture_too(service: Emulator, here: Path) -> None:
    Image.new("RGB", (200, 200)).save("small.png")
    results = [run("generate", name, "--dry-run") for name in ("Cat.jpg", "none.jpg", "small.png")]
    assert [result.exit_code for result in results] == [0, 2, 2]
    assert results[-1].stderr.endswith("; --fit makes it obey, with Pillow\n")
    assert run("generate", "small.png", "--fit", "--dry-run").exit_code == 0


# --- While it waits ---


def test_a_job_that_waits_says_what_for_and_its_place_in_the_line() -> None:
    ended: dict[str, Any] = {"succeeded": 0, "failed": 0, "refused": 0, "unknown": 0, "abandoned": 0}
    alone = Stats(queued=1, running=0, limit=1, requests_left=None, refusals=0, **ended)
    assert line_message(alone, has_line=False) == "waits for the team's only slot"
    third = attrs.evolve(alone, limit=3, ahead=2, refusals=4)
    words = "number 3 in line for one of the team's 3 slots; refused 4 times so far, which costs nothing"
    assert line_message(third, has_line=True) == words


def test_what_is_usual_depends_on_the_video_that_was_asked_for() -> None:
    url = "https://example.com/cat.jpg"
    plain = [ImageToVideo(url), ImageToVideo(url, resolution="768P"), None]
    assert {usual(job) for job in plain} == {"30 s to 2 min are usual"}
    long = [ImageToVideo(url, duration=10), ImageToVideo(url, resolution="1080P")]
    assert {usual(job) for job in long} == {"2 min and more are usual for 10 s or 1080P"}


@pytest.mark.slow
def test_at_a_terminal_it_shows_how_long_it_has_taken_and_what_it_waits_for(service: Emulator, here: Path) -> None:
    service.service.generation_s = 60.0
    service.service.max_running = 0
    with terminal("generate", "Cat.jpg", "--journal", "j.db", env=environment()) as screen:
        screen.wait_for("1 s  number 1 in line for ")
        service.service.max_running = 1
        screen.wait_for("usual")
        screen.type(INTERRUPT)
        assert screen.end() == 130


# --- Interrupted ---


def test_interrupted_it_tells_how_to_go_on(service: Emulator, here: Path) -> None:
    service.service.generation_s = 60.0
    with terminal("generate", "Cat.jpg", "--prompt", "a cat", env=environment()) as screen:
        screen.wait_for("pending, task ")
        screen.type(INTERRUPT)
        assert screen.end() == 130
    (task_id,) = service.ledger.accepted["a cat"]
    assert screen.shown.endswith(
        "\r\nhailuo-async: interrupted; it goes on at the service, and is paid for\r\n"
        f"To have the video: hailuo-async generate --task-id {task_id} -o Cat.mp4\r\n"
    )
