"""OpenTelemetry for a session: a span for each job, with its waits as events, and metrics. Needs the extra ``otel``.

::

    from hailuo_async.otel import instrument

    async with AsyncSession() as session:
        instrument(session)

It uses only the API: the SDK that the program sets up decides where spans and metrics go; without one they are dropped.
Names follow OpenTelemetry's semantic conventions for generative AI; names that it lacks begin with ``hailuo``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import attrs

from hailuo_async import hooks
from hailuo_async.session import AsyncSession

try:
    from opentelemetry.metrics import Counter, Histogram, MeterProvider, get_meter
    from opentelemetry.metrics import _Gauge as Gauge  # public in all but its name
    from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider, get_tracer
except ImportError as _missing:
    raise ImportError("hailuo_async.otel needs the extra 'otel': pip install 'hailuo-async[otel]'") from _missing

_Attributes: TypeAlias = dict[str, str | int]

_OPERATION = "generate_content"

#: Fields of ``session.stats()`` as gauges: their names, units and descriptions.
_GAUGES = {
    "running": ("hailuo.slots.running", "{task}", "Tasks that take a slot at the service"),
    "limit": ("hailuo.slots.limit", "{task}", "Tasks that may run at once, as far as is known"),
    "queued": ("hailuo.queue.length", "{job}", "Jobs that wait for a slot"),
    "requests_left": ("hailuo.requests.left", "{request}", "Requests that this minute still allows"),
}
_HISTOGRAMS = {
    "hailuo.queue.wait": "From the job's submit to its first POST",
    "hailuo.generation.duration": "How long the service worked on the video, as it reports",
    "hailuo.noticing.delay": "From the task's end to the query that noticed it",
    "hailuo.job.duration": "From the job's submit to its end, of any kind",
}
_COUNTERS = {
    "hailuo.refusals": ("{post}", "POSTs that were not accepted, and are not paid for"),
    "hailuo.gate.closed": ("s", "Time in which the session sent no requests"),
    "hailuo.download.size": ("By", "Videos saved"),
}


def instrument(
    session: AsyncSession, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Traces and measures ``session`` from now on, as a hook of it. Without a provider the global one is used.

    A job's span lasts from its first event to its end. It is a child of the span that was current where the job was
    given, or, for a stream, where its reading began. Its events are ``queued``, ``sent``, ``refused``, ``accepted`` and
    ``status_seen``; a job that ends in an error has that status, and ``error.type``. The prompt is not in the span,
    unless the service's message for a refusal or an error quotes it.

    Gauges show the values of the last event. Counters have the attribute ``hailuo.reason``, histograms
    ``gen_ai.request.model``, and the duration of jobs also ``hailuo.status`` and ``error.type``.
    """
    tracer = get_tracer("hailuo_async", tracer_provider=tracer_provider)
    meter = get_meter("hailuo_async", meter_provider=meter_provider)
    gauges = {figure: meter.create_gauge(*described) for figure, described in _GAUGES.items()}
    histograms = {name: meter.create_histogram(name, "s", description) for name, description in _HISTOGRAMS.items()}
    counters = {name: meter.create_counter(name, *described) for name, described in _COUNTERS.items()}
    session.hooks.append(_Telemetry(session, tracer, gauges, histograms, counters))


@attrs.define(eq=False)
class _Telemetry:
    """The hook. It holds a span for each job that has not ended, and a session ends all of its jobs."""

    _session: AsyncSession
    _tracer: Tracer
    _gauges: Mapping[str, Gauge]
    _histograms: Mapping[str, Histogram]
    _counters: Mapping[str, Counter]
    _spans: dict[int, Span] = attrs.field(factory=dict, init=False)

    def __call__(self, event: hooks.SessionEvent) -> None:
        if isinstance(event, hooks.JobEvent):
            self._trace(event)
        self._count(event)
        self._look_at_the_session()

    # --- A span a job ---

    def _trace(self, event: hooks.JobEvent) -> None:
        span = self._spans.get(event.number)
        if span is None:
            span = self._spans[event.number] = self._begin(event)
        if event.task_id is not None:
            span.set_attribute("gen_ai.response.id", event.task_id)
        if isinstance(event, hooks.Ended):
            del self._spans[event.number]
            _end(span, event)
        else:
            span.add_event(*_described(event))

    def _begin(self, event: hooks.JobEvent) -> Span:
        attributes: _Attributes = {
            "gen_ai.operation.name": _OPERATION,
            "gen_ai.provider.name": "modellix",
            "gen_ai.output.type": "video",
            "hailuo.job.number": event.number,
            **_model(event),
        }
        if event.key is not None:
            attributes["hailuo.job.key"] = event.key
        name = _OPERATION if event.job is None else f"{_OPERATION} {event.job.model}"
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

    # --- Metrics ---

    def _count(self, event: hooks.SessionEvent) -> None:
        match event:
            case hooks.Sent(attempt=1):
                self._histograms["hailuo.queue.wait"].record(event.waited_s, _model(event))
            case hooks.Refused(reason=reason):
                self._counters["hailuo.refusals"].add(1, {"hailuo.reason": reason})
            case hooks.Ended():
                self._count_end(event)
            case hooks.Downloaded(bytes=size):
                self._counters["hailuo.download.size"].add(size)
            case hooks.GateClosed(reason=reason, seconds=seconds):
                self._counters["hailuo.gate.closed"].add(seconds, {"hailuo.reason": reason})

    def _count_end(self, event: hooks.Ended) -> None:
        histograms, model = self._histograms, _model(event)
        histograms["hailuo.job.duration"].record(event.waited_s, model | _how_it_ended(event))
        if event.video is None or event.late_s is None:
            return  # no video, or a video from the journal
        histograms["hailuo.noticing.delay"].record(event.late_s, model)
        if event.video.seconds_taken is not None:
            histograms["hailuo.generation.duration"].record(event.video.seconds_taken, model)

    def _look_at_the_session(self) -> None:
        stats = self._session.stats()
        for figure, gauge in self._gauges.items():
            value: int | None = getattr(stats, figure)
            if value is not None:
                gauge.set(value)


def _described(event: hooks.JobEvent) -> tuple[str, _Attributes]:
    """An event's name and attributes in a span."""
    match event:
        case hooks.Sent(attempt=attempt):
            return "sent", {"hailuo.attempt": attempt}
        case hooks.Refused(attempt=attempt, reason=reason, message=message):
            return "refused", {"hailuo.attempt": attempt, "hailuo.reason": reason, "hailuo.message": message}
        case hooks.Accepted(attempt=attempt):
            return "accepted", {"hailuo.attempt": attempt}
        case hooks.StatusSeen(status=status):
            return "status_seen", {"hailuo.status": status.value}
        case _:
            return "queued", {}


def _end(span: Span, event: hooks.Ended) -> None:
    span.set_attributes(_how_it_ended(event))
    if event.video is not None and event.video.model is not None:
        span.set_attribute("gen_ai.response.model", event.video.model)
    if event.error is not None:
        span.set_status(StatusCode.ERROR, str(event.error))
    span.end()


def _how_it_ended(event: hooks.Ended) -> _Attributes:
    attributes: _Attributes = {"hailuo.status": event.status.value}
    if event.error is not None:
        attributes["error.type"] = type(event.error).__name__
    return attributes


def _model(event: hooks.JobEvent) -> _Attributes:
    return {} if event.job is None else {"gen_ai.request.model": event.job.model}
