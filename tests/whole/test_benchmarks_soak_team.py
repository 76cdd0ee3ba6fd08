"""``python -m benchmarks soak --journal``: a team of processes that are killed, and what it came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from benchmarks.__main__ import main
from benchmarks.soak_team import Toll

KEPT = Toll(kills=9, crashes=0, submitted=50, paid=50, in_doubt=2, in_flight=2, twice=(), lost=(), seconds=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["a file", "a server"])
def test_a_team_that_is_killed_pays_once_and_loses_nothing(
    tmp_path: Path, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place = ["--journal", str(tmp_path / "batch.db")] if where == "a file" else ["--server", "--crashes", "1"]
    assert main(["soak", *place, "--kills", "3", "--processes", "2"]) == 0
    out, err = capfd.readouterr()
    assert "3 kills of processes" in out
    assert ": 0 paid twice, 0 lost, " in out
    assert err == ""


@pytest.mark.parametrize(
    ("broken", "holds"), [({}, True), ({"twice": ["a"]}, False), ({"lost": ["a"]}, False), ({"in_doubt": 3}, False)]
)
def test_a_promise_that_is_broken_makes_the_soak_a_failure(broken: dict[str, Any], holds: bool) -> None:
    assert attrs.evolve(KEPT, **broken).holds is holds
