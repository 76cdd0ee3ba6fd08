"""What can go wrong on purpose, how often, and for which request.

A fault is drawn twice for each request: before it is worked on (one of those that keep it from having any effect) and
after it has succeeded (one of those that spoil its answer). So a spoiled answer always hides a success: ``cut_after=1``
cuts every accepted submit, and lets a refusal through. For a task with a webhook, a third is drawn when the task is
accepted: what happens to its delivery. Planned faults (``plan``) come before any is drawn.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Collection, Mapping

import attrs


class Kind(enum.StrEnum):
    """What a request is for. ``OTHER`` requests meet no faults."""

    SUBMIT = "submit"
    QUERY = "query"
    DOWNLOAD = "download"
    WEBHOOK = "webhook"
    """A POST of the service's own, to the URL that a submit named."""
    OTHER = "other"


class Fault(enum.StrEnum):
    """The ways to go wrong: without any effect on the task, hiding a success, or with the delivery to a webhook."""

    REFUSE = "refuse"
    """400, although nothing is wrong with the request."""
    REFUSE_405 = "refuse_405"
    REFUSE_415 = "refuse_415"
    RATE_429 = "rate_429"
    """429 as for too many requests."""
    RUNNING_429 = "running_429"
    """429 as for too many running tasks, in one of the wordings that were seen."""
    ERROR_500 = "error_500"
    CUT_BEFORE = "cut_before"
    """The connection is closed without an answer."""
    HANG_BEFORE = "hang_before"
    """No answer, and the connection stays open."""
    CUT = "cut"
    """What ``CUT_BEFORE`` is, for downloads."""

    ERROR_500_AFTER = "error_500_after"
    CUT_AFTER = "cut_after"
    HANG = "hang"
    GARBAGE = "garbage"
    """200 with a body that is not JSON."""
    TRUNCATED = "truncated"
    """Content-Length says more than is sent."""
    UNKNOWN_STATUS = "unknown_status"
    """A status that is in no list."""
    MISSING_FIELDS = "missing_fields"
    EXTRA_FIELDS = "extra_fields"
    """Undocumented fields beside the good ones: the answer is whole."""
    WRONG_TASK_ID = "wrong_task_id"
    """The answer is about another task."""
    STRANGE_BILL = "strange_bill"
    """``billing.amount`` is no amount: words, negative, endless, an object."""
    STRANGE_EXPIRY = "strange_expiry"
    """``result_expires_at`` is in seconds, in the past, absurd, or text."""

    LOST = "lost"
    """The webhook is never called for this task."""
    DOUBLED = "doubled"
    """The same delivery comes twice."""
    EARLY = "early"
    """The task ends at once, and the delivery comes before the answer to its submit."""
    LATE = "late"
    """The delivery comes ``webhook_late_s`` after the end."""
    OUT_OF_ORDER = "out_of_order"
    """The delivery comes after that of a task which ended later."""


_EFFECTLESS = (
    Fault.REFUSE,
    Fault.REFUSE_405,
    Fault.REFUSE_415,
    Fault.RATE_429,
    Fault.ERROR_500,
    Fault.CUT_BEFORE,
    Fault.HANG_BEFORE,
)
_SPOILING = (
    Fault.ERROR_500_AFTER,
    Fault.CUT_AFTER,
    Fault.HANG,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.UNKNOWN_STATUS,
    Fault.MISSING_FIELDS,
    Fault.EXTRA_FIELDS,
)
_ABOUT_A_TASK = (Fault.WRONG_TASK_ID, Fault.STRANGE_BILL, Fault.STRANGE_EXPIRY)
BEFORE: frozenset[Fault] = frozenset({*_EFFECTLESS, Fault.RUNNING_429, Fault.CUT})
AFTER: frozenset[Fault] = frozenset({*_SPOILING, *_ABOUT_A_TASK})
DELIVERY: frozenset[Fault] = frozenset({Fault.LOST, Fault.DOUBLED, Fault.EARLY, Fault.LATE, Fault.OUT_OF_ORDER})

#: The faults that each kind of request can meet.
FAULTS_OF: dict[Kind, frozenset[Fault]] = {
    Kind.SUBMIT: frozenset({*_EFFECTLESS, *_SPOILING, Fault.RUNNING_429}),
    Kind.QUERY: frozenset({*_EFFECTLESS, *_SPOILING, *_ABOUT_A_TASK}),
    Kind.DOWNLOAD: frozenset({Fault.ERROR_500, Fault.CUT, Fault.TRUNCATED}),
    Kind.WEBHOOK: DELIVERY,
    Kind.OTHER: frozenset(),
}


@attrs.frozen(init=False)
class FaultRates:
    """How likely each fault is, by its name: ``FaultRates(cut_after=0.1)``. Together at most 1: a request meets one.

    Raises ``ValueError`` for a name that is no fault, and for a rate that is no probability.
    """

    _rates: Mapping[Fault, float]

    def __init__(self, **rates: float) -> None:
        self.__attrs_init__({Fault(name): rate for name, rate in rates.items()})

    def __attrs_post_init__(self) -> None:
        for fault, rate in self._rates.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"{fault} is a probability, from 0 to 1; got {rate!r}")
        total = sum(self._rates.values())
        if total > 1 + 1e-9:
            raise ValueError(f"the probabilities of one kind of request must not sum to more than 1; got {total:g}")

    def rate(self, fault: Fault) -> float:
        """The probability of ``fault``."""
        return self._rates.get(fault, 0.0)


_NEVER = FaultRates()


def _check_kind(_: object, attribute: attrs.Attribute[FaultRates], rates: FaultRates) -> None:
    for fault in Fault:
        if rates.rate(fault) and fault not in FAULTS_OF[Kind(attribute.name)]:
            raise ValueError(f"a {attribute.name} cannot meet the fault {fault.value!r}")


@attrs.frozen(kw_only=True)
class Faults:
    """How likely each kind of request is to meet each fault. Raises ``ValueError`` for one that it cannot meet."""

    submit: FaultRates = attrs.field(default=_NEVER, validator=_check_kind)
    query: FaultRates = attrs.field(default=_NEVER, validator=_check_kind)
    download: FaultRates = attrs.field(default=_NEVER, validator=_check_kind)
    webhook: FaultRates = attrs.field(default=_NEVER, validator=_check_kind)

    def of(self, kind: Kind) -> FaultRates:
        """The rates for requests of that kind."""
        rates: FaultRates = getattr(self, kind.value, _NEVER)
        return rates


@attrs.define
class FaultDealer:
    """Decides which request meets which fault."""

    _dice: random.Random
    _script: dict[Kind, deque[Fault]] = attrs.field(factory=lambda: {kind: deque() for kind in Kind}, init=False)

    def plan(self, kind: Kind, fault: Fault) -> None:
        """Puts ``fault`` last in the queue for the requests of this kind. Raises ``ValueError`` if it cannot be met."""
        if fault not in FAULTS_OF[kind]:
            raise ValueError(f"a request of kind {kind.value!r} cannot meet the fault {fault.value!r}")
        self._script[kind].append(fault)

    def draw(self, kind: Kind, group: Collection[Fault], rates: FaultRates) -> Fault | None:
        """The fault of ``group`` that a request of this kind meets now, or ``None``.

        A planned one waits for its group, and no other is drawn meanwhile.
        """
        script = self._script[kind]
        if script:
            return script.popleft() if script[0] in group else None
        throw = self._dice.random()
        for fault in Fault:
            if fault in group:
                throw -= rates.rate(fault)
                if throw < 0:
                    return fault
        return None
