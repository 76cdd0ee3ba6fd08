"""``InMemory``: a session over the emulator's core, with the loop's own time."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from PIL import Image

from hailuo_async import ImageToVideo
from hailuo_async._rules.wire import Request, Verdict, build_query
from hailuo_async.emulator import Fault, Kind, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import DEFAULT_EPOCH, InMemory

from ..support.service import request_for

T = TypeVar("T")

URL = "https://example.com/start-frame.jpg"
TIMEOUT_S = 30.0


def submit(image: str | Path | bytes = URL) -> Request:
    return request_for(ImageToVideo(image))


def timed(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, float]:
    """What ``work`` gives, and the seconds that it took."""

    async def main() -> tuple[T, float]:
        return await work(), anyio.current_time()

    return run_virtual(main)


def test_a_job_goes_from_submit_to_success_by_the_loops_time() -> None:
    service = Service(generation_s=90, spread=0)

    async def main() -> list[object]:
        line = InMemory(service)
        task_id = (await line.send(submit(), TIMEOUT_S)).data["task_id"]
        found = []
        for _ in range(2):
            await anyio.sleep(60)
            found.append((await line.send(build_query(task_id), TIMEOUT_S)).data["status"])
        await line.aclose()
        return found

    assert run_virtual(main) == ["processing", "success"]


def test_the_servers_clock_runs_with_the_loops() -> None:
    async def main() -> list[float | None]:
        line = InMemory(Service(), epoch=1_000_000_000.0)
        dates = [(await line.send(submit(), TIMEOUT_S)).rate_headers.date]
        await anyio.sleep(100)
        return [*dates, (await line.send(submit(), TIMEOUT_S)).rate_headers.date]

    assert run_virtual(main) == [1_000_000_000.0, 1_000_000_100.0]


def test_the_key_and_the_body_arrive() -> None:
    service = Service(api_key="another key")
    refused, _ = timed(lambda: InMemory(service).send(submit(), TIMEOUT_S))
    accepted, _ = timed(lambda: InMemory(service, api_key="another key").send(submit(), TIMEOUT_S))
    assert (refused.verdict, refused.status) == (Verdict.REFUSED, 401)
    assert accepted.verdict is Verdict.ACCEPTED
    assert service.ledger.entries[-1].body_bytes == submit().length


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.TRUNCATED])
def test_a_connection_that_is_cut_leaves_a_doubt_at_once(fault: Fault) -> None:
    service = Service()
    service.next_fault(Kind.SUBMIT, fault)
    answer, took_s = timed(lambda: InMemory(service).send(submit(), TIMEOUT_S))
    assert (answer.verdict, took_s) == (Verdict.UNKNOWN, 0)
    assert "cut" in answer.message


@pytest.mark.parametrize("fault", [Fault.HANG_BEFORE, Fault.HANG])
def test_an_answer_that_never_comes_leaves_a_doubt_when_the_time_is_up(fault: Fault) -> None:
    service = Service()
    service.next_fault(Kind.SUBMIT, fault)
    answer, took_s = timed(lambda: InMemory(service).send(submit(), TIMEOUT_S))
    assert (answer.verdict, answer.message, took_s) == (Verdict.UNKNOWN, "no answer in time", TIMEOUT_S)


def test_an_answer_takes_its_latency_half_of_it_on_the_way_there() -> None:
    line = InMemory(Service(), latency_s=3.0)
    answer, took_s = timed(lambda: line.send(submit(), TIMEOUT_S))
    assert (answer.rate_headers.date, took_s) == (DEFAULT_EPOCH + 1, 3.0)  # at 1.5 s; a Date is in whole seconds


@pytest.mark.parametrize(("given_up_after_s", "arrived"), [(1.0, 0), (2.0, 1)])
def test_a_request_that_is_given_up_has_arrived_or_has_not(given_up_after_s: float, arrived: int) -> None:
    service = Service()

    async def main() -> None:
        with anyio.move_on_after(given_up_after_s):
            await InMemory(service, latency_s=3.0).send(submit(), TIMEOUT_S)

    run_virtual(main)
    assert len(service.ledger.entries) == arrived


def picture() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (320, 320)).save(made, "PNG")
    return made.getvalue()


async def test_a_body_that_is_read_from_an_image_arrives_whole() -> None:
    service, request = Service(), submit(picture())
    answer = await InMemory(service).send(request, TIMEOUT_S)
    assert answer.verdict is Verdict.ACCEPTED
    sent = json.dumps({"first_frame_image": f"data:image/png;base64,{base64.b64encode(picture()).decode()}"})
    assert service.ledger.entries[-1].body_bytes == len(sent.replace(" ", ""))


async def test_an_image_that_has_gone_meanwhile_is_not_sent(tmp_path: Path) -> None:
    path, service = tmp_path / "picture.png", Service()
    path.write_bytes(picture())
    request = await anyio.to_thread.run_sync(submit, path)
    path.unlink()
    answer = await InMemory(service).send(request, TIMEOUT_S)
    assert (answer.verdict, len(service.ledger.entries)) == (Verdict.UNSENT, 0)
    assert str(answer.problem) == answer.message
