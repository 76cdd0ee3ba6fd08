"""Answers of the service, recorded in ``tests/answers``: from the API reference, and in other documented forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "answers"

SUBMITS = ("submit-hailuo-2.3-i2v", "submit-hailuo-02-fl2v")


def body(name: str) -> bytes:
    """The body of a recorded answer, as it came."""
    return (_FOLDER / f"{name}.json").read_bytes()


def content(name: str) -> Any:
    """What is in it."""
    return json.loads(body(name))
