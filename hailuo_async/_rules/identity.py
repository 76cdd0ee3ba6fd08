"""A job's identity, from one run of a program to the next.

The identity is the job's key. Without a key it is a fingerprint of everything that the job asks, down to the bytes of
its images, with a number: the same picture with the same prompt may be wanted twice.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Mapping
from typing import TypeGuard

import attrs

from hailuo_async._images.frame import Frame
from hailuo_async.jobs import Job, has_surrogates

#: A longer text is no job's name in a journal: that is a key, a digest with a number, or a task's id with a prefix.
_MAX_NAME_CHARACTERS = 1000

_in_order = json.JSONEncoder(sort_keys=True).encode


def is_name(value: object) -> TypeGuard[str]:
    """Whether a journal may know a job by ``value``. PostgreSQL takes no other text, and no null characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME_CHARACTERS:
        return False
    return "\0" not in value and not has_surrogates(value)


def build_facts(job: Job) -> dict[str, object]:
    """The options of a job, defaults included, beside its images and its prompt."""
    return {
        "model": job.model,
        "duration": job.duration,
        "resolution": job.resolution,
        "prompt_optimizer": job.prompt_optimizer,
        "fast_pretreatment": getattr(job, "fast_pretreatment", False),
    }


def build_fingerprint(job: Job, frames: Mapping[str, Frame]) -> str:
    """SHA-256, in hexadecimal, of everything that makes two jobs the same. ``frames`` must have fingerprints."""
    facts = {
        "kind": type(job).__name__,
        **build_facts(job),
        "prompt": job.prompt,
        "frames": {field: frame.fingerprint for field, frame in frames.items()},
    }
    return hashlib.sha256(_in_order(facts).encode()).hexdigest()


#: Hexadecimal digits of a fingerprint that tell jobs apart when they are counted: 64 bits.
_MARK_DIGITS = 16


@attrs.define(eq=False)
class DuplicateNumbers:
    """Numbers jobs without a key that ask for the same. Each job takes some 80 bytes of memory."""

    _asked: Counter[int] = attrs.field(factory=Counter, init=False)
    _free: dict[int, list[int]] = attrs.field(factory=dict, init=False)
    """Numbers that were given back, as heaps."""

    def next_identity(self, fingerprint: str) -> str:
        """The identity of the next such job: the fingerprint with the lowest free number."""
        mark = int(fingerprint[:_MARK_DIGITS], 16)
        if mark in self._free:
            number = heapq.heappop(self._free[mark])
            if not self._free[mark]:
                del self._free[mark]
        else:
            number = self._asked[mark]
            self._asked[mark] += 1
        return f"{fingerprint}#{number}"

    def give_back(self, identity: str) -> None:
        """Frees the number of a job that was not made: the next such job is the same one again, not one more."""
        fingerprint, _, number = identity.rpartition("#")
        heapq.heappush(self._free.setdefault(int(fingerprint[:_MARK_DIGITS], 16), []), int(number))
