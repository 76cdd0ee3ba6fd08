"""The pytest plugin's door: the fixture ``modellix`` and its mark.

Every pytest run loads this module where the library is installed, whether a test needs it or not. So it is a module of
its own beside the package, and imports nothing of it until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hailuo_async.emulator import Emulator


def pytest_configure(config: pytest.Config) -> None:
    description = "settings of the emulator that the fixture modellix gives, such as max_running=1"
    config.addinivalue_line("markers", f"modellix(**settings): {description}")


@pytest.fixture
def modellix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The Modellix API, emulated on a free port. ``AsyncSession()`` and child processes find it by the environment.

    Its settings are those of the marks ``modellix`` on the test, its class and its module; the nearest wins.
    """
    from hailuo_async.testing.plugin import serve

    with serve(list(request.node.iter_markers("modellix"))) as emulator:
        monkeypatch.setenv("MODELLIX_API_KEY", emulator.api_key)
        monkeypatch.setenv("MODELLIX_BASE_URL", emulator.url)
        yield emulator
