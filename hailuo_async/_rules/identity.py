"""By what a job is known, from one run of a program to the next.

That is its key or, without one, what it asks, down to the bytes of its images, and how many such were asked for before
it: the same picture with the same prompt may be wanted twice.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Mapping

import attrs

from hailuo_async._images.frame import Frame
from hailuo_async.jobs import Job


def build_facts(job: Job) -> dict[str, object]:
    """What a job asks beside its images and its prompt: its options as they are in force."""
    return {
        "model": job.model,
        "duration": job.duration,
        "resolution": job.resolution,
        "prompt_optimizer": job.prompt_optimizer,
        "fast_pretreatment": getattr(job, "fast_pretreatment", False),
    }


def build_fingerprint(job: Job, frames: Mapping[str, Frame]) -> str:
    """SHA-256, in hexadecimal, of everything that makes two jobs the same. ``frames`` were looked at for it."""
    facts = {
        "kind": type(job).__name__,
        **build_facts(job),
        "prompt": job.prompt,
        "frames": {field: frame.fingerprint for field, frame in frames.items()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


#: Hexadecimal digits of a fingerprint that tell jobs apart when they are counted: 64 bits.
_MARK_DIGITS = 16


@attrs.define(eq=False)
class DuplicateNumbers:
    """Names jobs that have no key, by how many such were asked for before. A job takes some 80 bytes here."""

    _asked: Counter[int] = attrs.field(factory=Counter, init=False)
    _free: dict[int, list[int]] = attrs.field(factory=dict, init=False)
    """Numbers given back, as heaps."""

    def next_identity(self, fingerprint: str) -> str:
        """The name of the next such job: the lowest number that is free."""
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
        """The job of that name came to nothing: the next such is the same one again, and not one more."""
        fingerprint, _, number = identity.rpartition("#")
        heapq.heappush(self._free.setdefault(int(fingerprint[:_MARK_DIGITS], 16), []), int(number))
