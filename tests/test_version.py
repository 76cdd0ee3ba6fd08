"""The version is told without the package's metadata, which an application that is frozen leaves out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import hailuo_async


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))["project"]
    assert hailuo_async.__version__ == project["version"]
