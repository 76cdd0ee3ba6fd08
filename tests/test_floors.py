"""The house stands as it is drawn: every import goes down, no file is too long, and the rules stay rules.

One test a rule; each names every module that breaks it.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator

from .support.source import MODULES, Module

#: The floors, from the ground up. A name stands for a module, or a package with everything in it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("emulator",),
    ("contract", "money"),
    ("errors",),
    ("_images", "settings", "images"),
    ("jobs", "models", "prices"),
    ("outcomes",),
    ("hooks",),
    ("_rules",),
    ("_io",),
    ("_engine",),
    ("testing",),
    ("", "session", "_service_calls"),
    ("web", "otel"),
    ("cli", "_cli", "__main__"),
)

#: What rules are made of. Nothing here waits, looks at a clock, or touches a file, a socket or another process.
WHAT_RULES_MAY_IMPORT = {
    "__future__",
    "attrs",
    "bisect",
    "cattrs",
    "cattrs.preconf.json",
    "collections",
    "collections.abc",
    "datetime",
    "decimal",
    "email.utils",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "random",
    "re",
    "typing",
    "urllib.parse",
}

PACKAGE = "hailuo_async"
MAX_LINES = 400
MAX_FUNCTION_LINES = 40
CLOCKS = {"time", "monotonic", "perf_counter", "sleep", "time_ns", "monotonic_ns", "perf_counter_ns"}


def floor(name: str) -> int:
    """The number of the floor that a module of the package is on."""
    room = name.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{name} is on no floor: FLOORS does not know it"
    return found[0]


def neighbours(module: Module) -> set[str]:
    """The modules of the package that ``module`` imports."""
    return {name for name in module.imports if name.partition(".")[0] == PACKAGE}


def modules_of(room: str) -> Iterator[Module]:
    return (module for name, module in MODULES.items() if name.startswith(f"{PACKAGE}.{room}"))


def test_a_module_imports_only_from_its_own_floor_and_from_those_below() -> None:
    arrows = [(module.name, name) for module in MODULES.values() for name in neighbours(module)]
    assert len(arrows) > len(MODULES)
    assert [f"{name} imports {other}" for name, other in arrows if floor(other) > floor(name)] == []


def test_no_imports_go_in_a_circle() -> None:
    graphlib.TopologicalSorter({name: neighbours(module) for name, module in MODULES.items()}).prepare()


def test_the_reader_of_imports_sees_every_kind_of_them() -> None:
    assert f"{PACKAGE}.emulator.wire" in MODULES[f"{PACKAGE}.emulator.service"].imports  # relative
    assert f"{PACKAGE}.emulator.rendering" in MODULES[f"{PACKAGE}.emulator.film_cache"].imports  # inside a function
    assert f"{PACKAGE}.emulator.server" in MODULES[f"{PACKAGE}.emulator"].imports  # relative, in a package
    assert "PIL.Image" in MODULES[f"{PACKAGE}._images.frame"].imports  # for types alone
    assert "attrs" in MODULES[f"{PACKAGE}.jobs"].imports


def test_the_emulator_shares_nothing_with_the_client() -> None:
    shared = {name for module in modules_of("emulator") for name in neighbours(module)}
    assert {name for name in shared if not name.startswith(f"{PACKAGE}.emulator")} == set()


def test_a_rule_is_made_of_nothing_that_waits_or_touches_the_world() -> None:
    rules = list(modules_of("_rules"))
    foreign = {(rule.name, name) for rule in rules for name in rule.imports - neighbours(rule) - WHAT_RULES_MAY_IMPORT}
    assert foreign == set()
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [place for rule in rules for place in rule.nodes(*waits)] == []


def uses_of_a_clock(module: Module) -> Iterator[str]:
    """Every use of the process's own clock, or of a sleep that holds its thread."""
    attributes = (node for node in ast.walk(module.tree) if isinstance(node, ast.Attribute))
    for use in attributes:
        if isinstance(use.value, ast.Name) and use.value.id == "time" and use.attr in CLOCKS:
            yield f"time.{use.attr}"


def test_time_is_the_loops_time() -> None:
    uses = {name: list(uses_of_a_clock(module)) for name, module in MODULES.items() if "time" in module.imports}
    assert uses == {
        f"{PACKAGE}._engine.clock": ["time.monotonic", "time.time"],  # of a machine that was suspended; for records
        f"{PACKAGE}.emulator.server": ["time.time"],  # its default clock, which a caller may replace
    }


def test_nothing_is_asserted_of_what_comes_from_outside() -> None:
    assert [place for module in MODULES.values() for place in module.nodes(ast.Assert)] == []


def test_a_file_can_be_read_at_a_sitting() -> None:
    lines = {name: len(module.source.splitlines()) for name, module in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function from its name to its end, its docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    is_documented = ast.get_docstring(function) is not None
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1 if is_documented else 0)


def test_no_function_is_longer_than_a_screen() -> None:
    lines = {
        f"{module.name}.{node.name}": code_lines(node)
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES} == {}
