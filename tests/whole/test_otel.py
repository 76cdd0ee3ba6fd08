"""OpenTelemetry: a span for each job and the session in figures, as the SDK's exporters get them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hailuo_async import AsyncSession
from hailuo_async._rules.wire import Answer, Request, unsent
from hailuo_async.emulator import DEFAULT_API_KEY, Service
from hailuo_async.otel import instrument
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.listening import JOB, line_that
from ..support.service import CONCURRENT, Line, emulated, failed, finished, job, jobs, running, told, until

pytestmark = pytest.mark.anyio

Point = tuple[float, dict[str, Any]]
MODEL = {"gen_ai.request.model": "hailuo-2.3-i2v"}


class Rig:
    """An SDK that keeps what it is given."""

    def __init__(self, *more: SpanProcessor) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        for processor in (SimpleSpanProcessor(self.exporter), *more):
            self.tracers.add_span_processor(processor)
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def watch(self, session: AsyncSession) -> None:
        instrument(session, tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended."""
        return self.exporter.get_finished_spans()

    def points(self) -> dict[str, list[Point]]:
        """Every measure: sums and gauges by their values, histograms by the sums of theirs."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[Point]] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
            points = found.setdefault(f"{metric.name} {metric.unit}", [])
            for point in metric.data.data_points:
                assert isinstance(point, NumberDataPoint | HistogramDataPoint)
                value = point.value if isinstance(point, NumberDataPoint) else point.sum
                points.append((round(value, 6), dict(point.attributes or {})))
        return found


def watched(line: Line, work: Callable[[AsyncSession], Awaitable[object]] | None = None, **settings: Any) -> Rig:
    """What comes of ``work`` over ``line``, or of ``JOB`` however it ends, on the virtual clock."""
    rig = Rig()

    async def main() -> None:
        async with line.session(rng=Random(1), **settings) as session:
            rig.watch(session)
            await (work(session) if work else asyncio.gather(session.generate(JOB), return_exceptions=True))

    run_virtual(main)
    return rig


def told_in(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


async def work_for_90_s(request: Request) -> Answer:
    if anyio.current_time() < 100:
        return told(200, running())
    return told(200, {"data": {**finished()["data"], "duration": 90_000, "model_id": "minimax-hailuo"}})


# --- Spans ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_is_a_span_with_its_waits_as_events() -> None:
    rig = watched(line_that((429, CONCURRENT), on_query=work_for_90_s))
    (span,) = rig.spans
    assert (span.name, span.kind) == ("generate_content hailuo-2.3-i2v", SpanKind.CLIENT)
    assert (span.status.status_code, span.parent) == (StatusCode.UNSET, None)
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "modellix",
        "gen_ai.output.type": "video",
        "gen_ai.request.model": "hailuo-2.3-i2v",
        "gen_ai.response.id": "task-1",
        "gen_ai.response.model": "minimax-hailuo",
        "hailuo.job.number": 0,
        "hailuo.job.key": "cat",
        "hailuo.status": "success",
    }
    why = {"hailuo.reason": "running_limit", "hailuo.message": CONCURRENT["message"]}
    assert told_in(span) == [
        ("queued", {}),
        ("sent", {"hailuo.attempt": 1}),
        ("refused", {"hailuo.attempt": 1, **why}),
        ("sent", {"hailuo.attempt": 2}),
        ("accepted", {"hailuo.attempt": 2}),
        ("status_seen", {"hailuo.status": "processing"}),
    ]


def test_a_job_that_fails_is_an_error() -> None:
    async def give_up(request: Request) -> Answer:
        return told(200, failed("task-1", "too dark"))

    (span,) = watched(line_that(on_query=give_up)).spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the service gave the task up: too dark (task task-1)"
    assert span.attributes is not None
    assert (span.attributes["hailuo.status"], span.attributes["error.type"]) == ("failed", "TaskFailedError")


def test_a_task_of_elsewhere_is_a_span_without_a_model() -> None:
    async def attach(session: AsyncSession) -> None:
        await (await session.attach("task-1"))

    (span,) = watched(Line(), attach).spans
    assert span.name == "generate_content"
    assert span.attributes is not None
    assert span.attributes.keys().isdisjoint({"gen_ai.request.model", "hailuo.job.key"})
    assert told_in(span) == [("accepted", {"hailuo.attempt": 0})]


def test_a_span_is_a_child_of_what_was_current_where_the_job_was_given() -> None:
    rig = Rig()
    tracer = rig.tracers.get_tracer("program")

    async def give(session: AsyncSession, number: int) -> None:
        with tracer.start_as_current_span(f"request {number}"):
            await session.generate(job(key=f"{number}"))

    async def read(session: AsyncSession) -> None:
        with tracer.start_as_current_span("batch"):
            assert len([outcome async for outcome in session.stream(jobs(2))]) == 2

    async def main() -> None:
        async with Line().session() as session:
            rig.watch(session)
            await asyncio.gather(give(session, 1), give(session, 2), read(session))

    run_virtual(main)
    names = {span.context.span_id: span.name for span in rig.spans if span.context}
    parents = [
        (dict(span.attributes or {}).get("hailuo.job.key"), names[span.parent.span_id])
        for span in rig.spans
        if span.parent
    ]
    assert sorted(parents, key=str) == [("1", "request 1"), ("2", "request 2"), (None, "batch"), (None, "batch")]


def test_every_span_ends_with_its_session() -> None:
    async def leave(session: AsyncSession) -> None:
        for each in jobs(5):
            await session.submit(each)

    spans = watched(Line(), leave, max_running=1).spans
    assert len(spans) == 5
    assert {span.status.status_code for span in spans} == {StatusCode.ERROR}


class Kept(SpanProcessor):
    """Knows the spans that somebody still holds."""

    def __init__(self) -> None:
        self.spans = weakref.WeakSet[Span]()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.spans.add(span)


@pytest.mark.slow
def test_no_span_is_kept_longer_than_its_job_lasts() -> None:
    kept = Kept()
    rig = Rig(kept)
    transport = InMemory(Service(generation_s=60, max_running=20, fail_rate=0.1))
    session = AsyncSession(api_key=DEFAULT_API_KEY, base_url="http://localhost", transport=transport)
    rig.watch(session)

    async def main() -> int:
        async with session:
            return max([len(kept.spans) async for _ in session.stream(jobs(500))])

    assert run_virtual(main) < 60
    assert (len(kept.spans), len(rig.spans), len(session.hooks)) == (0, 500, 1)


# --- Figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_delays_refusals_and_closings_are_measured() -> None:
    rig = watched(line_that((429, CONCURRENT), unsent("cannot connect"), on_query=work_for_90_s))
    points = rig.points()
    assert sorted(points["hailuo.refusals {post}"], key=str) == [
        (1, {"hailuo.reason": "not_sent"}),
        (1, {"hailuo.reason": "running_limit"}),
    ]
    ((seconds, why),) = points["hailuo.gate.closed s"]
    assert 0.25 <= seconds <= 0.5
    assert why == {"hailuo.reason": "unreachable"}
    assert points["hailuo.queue.wait s"] == [(0.0, MODEL)]
    assert points["hailuo.generation.duration s"] == [(90.0, MODEL)]
    (((whole_s, how),), ((late_s, model),)) = points["hailuo.job.duration s"], points["hailuo.noticing.delay s"]
    assert how == {**MODEL, "hailuo.status": "success"}
    assert model == MODEL
    assert 0 < late_s < whole_s - 90


def test_a_job_that_fails_is_measured_by_its_error() -> None:
    async def give_up(request: Request) -> Answer:
        await anyio.sleep(5)
        return told(200, failed())

    points = watched(line_that(on_query=give_up), poll_interval=(2.0, 2.0)).points()
    ((_, how),) = points["hailuo.job.duration s"]
    assert how == {**MODEL, "hailuo.status": "failed", "error.type": "TaskFailedError"}
    assert points.keys().isdisjoint({"hailuo.noticing.delay s", "hailuo.generation.duration s"})


def test_a_video_that_does_not_say_how_long_it_took_has_no_generation_time() -> None:
    points = watched(Line()).points()
    assert "hailuo.noticing.delay s" in points
    assert "hailuo.generation.duration s" not in points


@pytest.mark.slow
async def test_slots_and_queue_are_told_as_they_stand() -> None:
    rig, may_end = Rig(), anyio.Event()

    async def finish(request: Request) -> Answer:
        await may_end.wait()
        return told(200, finished(request.path.rpartition("/")[2]), {"X-RateLimit-Limit": "100"})

    async with Line(on_query=finish).session(max_running=2) as session:
        rig.watch(session)
        generations = [await session.submit(each) for each in jobs(5)]
        await until(lambda: session.stats().running == 2)
        points = rig.points()
        names = ("hailuo.slots.running {task}", "hailuo.slots.limit {task}", "hailuo.queue.length {job}")
        assert [points[name] for name in names] == [[(2, {})], [(2, {})], [(3, {})]]
        assert "hailuo.requests.left {request}" not in points
        may_end.set()
        await asyncio.gather(*generations)
        points = rig.points()
    assert [points[name] for name in names] == [[(0, {})], [(2, {})], [(0, {})]]
    assert points["hailuo.requests.left {request}"] == [(90, {})]


async def test_the_bytes_of_downloads_are_counted(tmp_path: Path) -> None:
    rig = Rig()
    async with emulated() as (_, session):
        rig.watch(session)
        for number in range(2):
            await session.download(await session.generate(job()), tmp_path / f"{number}.mp4")
    assert rig.points()["hailuo.download.size By"] == [(8192, {})]


# --- Without it -------------------------------------------------------------------------------------------------------


def test_without_providers_the_global_ones_are_used() -> None:
    async def main() -> str:
        async with Line().session() as session:
            instrument(session)
            return (await session.generate(JOB)).task_id

    assert run_virtual(main) == "task-1"


def said_by(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_without_the_extra_its_import_names_the_extra() -> None:
    said = said_by("import sys; sys.modules['opentelemetry'] = None; import hailuo_async.otel")
    assert said.splitlines()[-1] == (
        "ImportError: hailuo_async.otel needs the extra 'otel': pip install 'hailuo-async[otel]'"
    )


@pytest.mark.slow
def test_nobody_else_imports_it() -> None:
    program = "import sys, hailuo_async, hailuo_async.session; print([n for n in sys.modules if 'opentelemetry' in n])"
    assert said_by(program) == "[]\n"
