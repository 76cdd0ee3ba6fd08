"""The server that all clients are measured against, its ledger, and the runner with what needs no other package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from PIL import Image

from benchmarks.faults import FAULTS, count, measure_faults
from benchmarks.figures import Figure
from benchmarks.peers.clients import Setup
from benchmarks.peers.processes import BrokenClientError, Report, Told, run
from benchmarks.peers.runner import LONG_S, PICTURE_BYTES, Case, Record, draw_picture, measure_peers
from benchmarks.peers.server import Connection, Ledger, Options, Works
from benchmarks.peers.subjects import BARE, BARE_ALONE, BARE_IN_PIECES, MISUSED, OURS, STREAMED, Subject

MODELLIX = "/api/v1/minimax/hailuo-2.3-i2v/async"
REPLICATE = "/replicate/v1/models/minimax/hailuo-2.3/predictions"
FOREVER_S = 1000.0

# --- The server -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def peer_server(options: Options) -> AsyncIterator[tuple[Works, aiohttp.ClientSession]]:
    works = Works(options)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(works), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    works.origin = f"http://{host}:{port}"
    async with server, aiohttp.ClientSession(works.origin) as http:
        yield works, http


async def post(http: aiohttp.ClientSession, path: str, prompt: str, **headers: str) -> Any:
    async with http.post(path, json={"prompt": prompt}, headers=headers) as response:
        return await response.json()


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        return await response.json()


@pytest.mark.parametrize(
    ("submit", "query", "running", "done"),
    [
        (MODELLIX, "/api/v1/tasks/task-1", ["data", "status", "processing"], ["data", "status", "success"]),
        ("/fal/a/model", "/fal/requests/task-1/status?logs=false", ["status", "IN_PROGRESS"], ["status", "COMPLETED"]),
        (REPLICATE, "/replicate/v1/predictions/task-1", ["status", "processing"], ["status", "succeeded"]),
        ("/runway/v1/image_to_video", "/runway/v1/tasks/task-1", ["status", "PENDING"], ["status", "SUCCEEDED"]),
        ("/openai/videos", "/openai/videos/task-1", ["status", "in_progress"], ["status", "completed"]),
    ],
)
async def test_a_task_runs_until_its_time_is_over(submit: str, query: str, running: list[str], done: list[str]) -> None:
    for pending_s, (*keys, word) in ((FOREVER_S, running), (0.0, done)):
        async with peer_server(Options(pending_s=pending_s)) as (_, http):
            assert "task-1" in json.dumps(await post(http, submit, "job 0"))
            found = await get(http, query)
        for key in keys:
            found = found[key]
        assert found == word


async def test_the_ledger_counts_what_was_asked_for_and_knows_the_tasks_of_each_job() -> None:
    async with peer_server(Options()) as (works, http):
        await post(http, MODELLIX, "job 7")
        await post(http, "/openai/videos", "job 8, a cat")
        await post(http, "/fal/a/model", "job 7")
        await get(http, "/api/v1/tasks/task-1")
        async with http.post("/replicate/v1/files", data=b"a picture") as response:
            await response.read()
        sent = sum(len(json.dumps({"prompt": prompt})) for prompt in ("job 7", "job 8, a cat", "job 7"))
        accepted = {"job 7": ["task-1", "task-3"], "job 8": ["task-2"]}
        assert works.ledger == Ledger(posts=3, queries=1, uploads=1, body_bytes=sent + 9, accepted=accepted)
        assert works.ledger.requests == 5
        await get(http, "/fresh-ledger")
        assert works.ledger == Ledger()
        await get(http, "/api/v1/tasks/task-1")  # the tasks are still there
        assert works.ledger == Ledger(queries=1)


async def test_a_lost_answer_is_that_of_a_job_that_was_accepted() -> None:
    async with peer_server(Options(lost_answers=1)) as (works, http):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await post(http, MODELLIX, "job 0")
        assert (await post(http, MODELLIX, "job 0"))["data"]["task_id"] == "task-2"
        assert works.ledger.accepted == {"job 0": ["task-1", "task-2"]}


async def test_a_query_of_each_task_fails_as_often_as_it_was_told_to() -> None:
    async with peer_server(Options(pending_s=0.0, failed_queries=1)) as (_, http):
        for task in ("task-1", "task-2"):
            await post(http, MODELLIX, "job 0")
            statuses = []
            for _ in range(2):
                async with http.get(f"/api/v1/tasks/{task}") as response:
                    statuses.append(response.status)
            assert statuses == [500, 200]


async def test_a_post_that_prefers_to_wait_is_held_until_the_video_is_there() -> None:
    async with peer_server(Options(pending_s=0.05)) as (_, http):
        held = await post(http, REPLICATE, "job 0", Prefer="wait")
        assert (held["status"], held["output"]) == ("succeeded", "https://videos.invalid/task-1.mp4")


@pytest.mark.parametrize(("path", "word"), [(REPLICATE, "starting"), ("/openai/videos", "queued")])
async def test_a_post_is_not_held_for_longer_than_the_service_does_nor_where_it_does_not(path: str, word: str) -> None:
    async with peer_server(Options(pending_s=FOREVER_S)) as (_, http):
        assert (await post(http, path, "job 0", Prefer="wait"))["status"] == word


class Line(asyncio.Transport):
    """What a connection said, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += data

    def close(self) -> None:
        self.is_closed = True


def connected(works: Works) -> tuple[Connection, Line]:
    connection, line = Connection(works), Line()
    connection.connection_made(line)
    return connection, line


def test_requests_may_come_one_after_the_other_and_in_any_pieces() -> None:
    body = json.dumps({"prompt": "job 3", "image": "x" * 10_000}).encode()
    submit = b"POST %s HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (MODELLIX.encode(), len(body), body)
    requests = submit + b"GET /api/v1/tasks/task-1 HTTP/1.1\r\nhost: here\r\n\r\n"
    works = Works(Options())
    connection, line = connected(works)
    for at in range(len(requests)):
        connection.data_received(requests[at : at + 1])
    assert line.said.count(b"HTTP/1.1 200 OK") == 2
    assert works.ledger == Ledger(posts=1, queries=1, body_bytes=len(body), accepted={"job 3": ["task-1"]})


def test_a_body_of_unknown_length_is_refused_rather_than_misread() -> None:
    connection, line = connected(Works(Options()))
    connection.data_received(b"POST /openai/videos HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert line.said.startswith(b"HTTP/1.1 411 ")
    assert line.is_closed


# --- What is made of a run --------------------------------------------------------------------------------------------

CASE = Case("2 jobs", 2)
VIDEO = Told("video", "task-1")


def report(*told: Told, accepted: dict[str, list[str]] | None = None, posts: int = 0, wall_s: float = 1.0) -> Report:
    return Report({"wall_s": wall_s}, told, Ledger(posts=posts, queries=2, body_bytes=2**22, accepted=accepted or {}))


def test_a_figure_is_the_median_of_its_runs() -> None:
    record = Record()
    for wall_s in (1.0, 5.0, 2.0):
        record.add(report(VIDEO, VIDEO, posts=2, wall_s=wall_s), CASE)
    values = {"wall_s": 2.0, "requests_per_job": 2.0}
    assert record.figure(OURS, CASE) == Figure(subject="hailuo-async", case="2 jobs", values=values, note="generate")
    assert not record.is_over


def test_with_pictures_it_is_told_what_went_over_the_line() -> None:
    record = Record()
    record.add(report(VIDEO, VIDEO), attrs.evolve(CASE, picture="picture.jpg"))
    assert record.runs == [{"wall_s": 1.0, "requests_per_job": 1.0, "sent_mb_per_job": 2.0}]


def test_what_takes_long_is_measured_once_and_says_so() -> None:
    record = Record()
    record.add(report(VIDEO, VIDEO, wall_s=LONG_S + 1), CASE)
    assert record.is_over
    assert record.figure(OURS, CASE).note == "generate; measured once"


def test_jobs_that_failed_stand_in_the_note() -> None:
    record = Record()
    record.add(report(VIDEO, Told("error", "", "PoolTimeout: none free")), CASE)
    assert record.is_over
    assert record.figure(OURS, CASE).note == "failed: of 2 jobs 1 PoolTimeout; generate; measured once"


NONE = {"jobs_in_doubt": 0, "jobs_not_sent": 0, "jobs_lost": 0, "jobs_paid_twice": 0, "tasks_leaked": 0}


@pytest.mark.parametrize(
    ("told", "tasks", "counted"),
    [
        (VIDEO, ["task-1"], {**NONE, "videos": 1}),
        (Told("video", "task-2"), ["task-1", "task-2"], {**NONE, "videos": 1, "jobs_paid_twice": 1, "tasks_leaked": 1}),
        (Told("doubt"), ["task-1"], {**NONE, "videos": 0, "jobs_in_doubt": 1}),
        (Told("error", "", "E: e"), [], {**NONE, "videos": 0, "jobs_not_sent": 1}),
        (Told("error", "", "E: e"), ["task-1"], {**NONE, "videos": 0, "jobs_lost": 1, "tasks_leaked": 1}),
        (Told("error", "task-1", "E: e"), ["task-1"], {**NONE, "videos": 0}),
    ],
)
def test_each_job_is_held_against_the_ledger(told: Told, tasks: list[str], counted: dict[str, float]) -> None:
    accepted = {"job 0": tasks} if tasks else {}
    assert count(report(told, accepted=accepted, posts=3)) == {"posts_per_job": 3.0, **counted}


# --- The runner -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_library_and_the_floor_do_the_same_work_with_as_many_requests() -> None:
    subjects = [OURS, BARE, STREAMED, BARE_ALONE]
    figures = measure_peers(counts=[4], repeats=1, images=False, subjects=subjects)
    ours, bare, streamed, alone = figures
    assert [figure.subject for figure in figures] == [str(subject) for subject in subjects]
    assert {figure.case for figure in figures} == {"4 jobs at 0.5 s"}
    assert ours.values["requests_per_job"] == bare.values["requests_per_job"] >= 2
    assert streamed.values["requests_per_job"] == alone.values["requests_per_job"] >= 2
    for figure in figures:
        assert set(figure.values) == {"wall_s", "cpu_s", "stall_ms", "peak_rss_mb", "requests_per_job"}
        assert figure.values["wall_s"] >= 0.5
        assert figure.values["cpu_s"] > 0
        assert figure.values["peak_rss_mb"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("subject", [BARE, BARE_IN_PIECES])
def test_the_floor_sends_the_queries_that_it_is_given_and_the_picture(subject: Subject, tmp_path: Path) -> None:
    Image.new("RGB", (320, 320)).save(tmp_path / "picture.jpg")
    size = (tmp_path / "picture.jpg").stat().st_size
    setup = Setup(base_url="", jobs=4, pending_s=0.05, picture=str(tmp_path / "picture.jpg"), queries=7)
    seen = run("work", subject.where, subject.client, Options(pending_s=0.05), setup)
    assert [told.word for told in seen.told] == ["video"] * 4
    assert (seen.ledger.posts, len(seen.ledger.accepted)) == (4, 4)
    assert seen.ledger.queries >= 7  # more, if this machine stood still when an answer was due
    assert 4 * size * 4 / 3 < seen.ledger.body_bytes < 4 * (size * 4 / 3 + 200)


@pytest.mark.slow
def test_the_library_pays_once_and_leaves_nobody_in_the_dark_whatever_goes_wrong() -> None:
    faults = [attrs.evolve(fault, subjects=tuple({OURS, MISUSED} & set(fault.subjects))) for fault in FAULTS]
    figures = {(figure.case, figure.subject): figure.values for figure in measure_faults(faults)}
    told, three = {**NONE, "posts_per_job": 1.0, "videos": 3}, 3
    in_doubt = {**told, "videos": 0, "jobs_in_doubt": three}
    first, every, query, loops = (fault.name for fault in FAULTS)
    assert figures == {
        (first, str(OURS)): in_doubt,
        (every, str(OURS)): in_doubt,
        (query, str(OURS)): told,
        (loops, str(OURS)): told,
        (loops, str(MISUSED)): {**NONE, "posts_per_job": 1 / 3, "videos": 1, "jobs_not_sent": 2},
    }


def test_a_client_that_is_not_installed_is_named_as_such() -> None:
    subject = Subject(name="nobody", where="nobody", client="Nobody", transport="httpx", needs=("no-such-package",))
    note = "absent: no-such-package is not installed"
    expected = Figure(subject="nobody (httpx)", case="1 jobs at 0.5 s", values={}, note=note)
    assert measure_peers([1], repeats=2, images=False, subjects=[subject]) == [expected]
    fault = attrs.evolve(FAULTS[0], subjects=(subject,))
    assert measure_faults([fault]) == [attrs.evolve(expected, case=fault.name)]


@pytest.mark.slow
def test_a_client_that_breaks_down_is_named_with_its_error() -> None:
    subject = attrs.evolve(OURS, client="NoSuchClient")
    with pytest.raises(BrokenClientError, match=r"^AttributeError: .*NoSuchClient"):
        run("work", subject.where, subject.client, Options(), Setup(base_url="", jobs=1, pending_s=0.0))
    [figure] = measure_peers([1], repeats=2, images=False, subjects=[subject])
    assert figure.note.startswith("failed: AttributeError: ")
    assert figure.values == {}


def test_the_picture_is_a_jpeg_of_one_mebibyte(tmp_path: Path) -> None:
    path = draw_picture(tmp_path)
    assert path.stat().st_size == PICTURE_BYTES
    with Image.open(path) as image:
        image.load()
        assert image.format == "JPEG"
