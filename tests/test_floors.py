"""The house stands as DESIGN.md draws it: every import goes down, and the rules stay rules."""

from __future__ import annotations

import ast
import graphlib

import pytest

from .support.source import MODULES, Module

#: The floors, from the ground up. A name stands for a module, or a package with everything in it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("emulator", "_pytest_plugin"),
    ("errors",),
    ("_images", "settings"),
    ("jobs", "models"),
    ("outcomes",),
    ("hooks",),
    ("_rules",),
    ("_io",),
    ("_engine",),
    ("testing",),
    ("", "session"),
    ("cli", "_cli", "__main__", "otel"),
)

#: What rules are made of. Nothing here waits, looks at a clock, or touches a file, a socket or another process.
WHAT_RULES_MAY_IMPORT = {
    "__future__",
    "attrs",
    "cattrs",
    "cattrs.preconf.json",
    "collections",
    "collections.abc",
    "datetime",
    "email.utils",
    "enum",
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

every_module = pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))
every_rule = pytest.mark.parametrize(
    "module", [module for name, module in MODULES.items() if name.startswith(f"{PACKAGE}._rules")], ids=str
)


def floor(name: str) -> int:
    """The number of the floor that a module of the package is on."""
    room = name.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{name} is on no floor: FLOORS does not know it"
    return found[0]


def neighbours(module: Module) -> set[str]:
    """The modules of the package that ``module`` imports."""
    return {name for name in module.imports if name.partition(".")[0] == PACKAGE}


@pytest.mark.slow
@every_module
def test_a_module_imports_only_from_its_own_floor_and_from_those_below(module: Module) -> None:
    assert {name for name in neighbours(module) if floor(name) > floor(module.name)} == set()


def test_no_imports_go_in_a_circle() -> None:
    graphlib.TopologicalSorter({name: neighbours(module) for name, module in MODULES.items()}).prepare()


def test_the_reader_of_imports_sees_every_kind_of_them() -> None:
    assert f"{PACKAGE}.emulator.wire" in MODULES[f"{PACKAGE}.emulator.service"].imports  # relative
    assert f"{PACKAGE}.emulator.film" in MODULES[f"{PACKAGE}.emulator.studio"].imports  # inside a function
    assert f"{PACKAGE}.emulator.server" in MODULES[f"{PACKAGE}.emulator"].imports  # relative, in a package
    assert "PIL.Image" in MODULES[f"{PACKAGE}._images.frame"].imports  # for types alone
    assert "attrs" in MODULES[f"{PACKAGE}.jobs"].imports


@every_module
def test_the_emulator_shares_nothing_with_the_client(module: Module) -> None:
    if module.name.startswith(f"{PACKAGE}.emulator"):
        assert {name for name in neighbours(module) if not name.startswith(f"{PACKAGE}.emulator")} == set()


@every_rule
def test_a_rule_is_made_of_nothing_that_waits_or_touches_the_world(module: Module) -> None:
    assert module.imports - neighbours(module) - WHAT_RULES_MAY_IMPORT == set()
    assert module.nodes(ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith) == []


def calls_of_the_clock(module: Module) -> list[str]:
    """Every use of the process's own clock, or of a sleep that holds its thread."""
    clocks = {"time", "monotonic", "perf_counter", "sleep", "time_ns", "monotonic_ns", "perf_counter_ns"}
    return [
        f"{module.place(node)} time.{node.attr}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
        and node.attr in clocks
    ]


@every_module
def test_time_is_the_loops_time(module: Module) -> None:
    if module.name == f"{PACKAGE}.emulator.server":  # the default clock of the server, which a caller may replace
        assert [use.partition(" ")[2] for use in calls_of_the_clock(module)] == ["time.time"]
    else:
        assert "time" not in module.imports


@every_module
def test_nothing_is_asserted_of_what_comes_from_outside(module: Module) -> None:
    assert module.nodes(ast.Assert) == []


@every_module
def test_a_file_can_be_read_at_a_sitting(module: Module) -> None:
    assert len(module.source.splitlines()) <= MAX_LINES


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function from its name to its end, its docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    is_documented = ast.get_docstring(function) is not None
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1 if is_documented else 0)


@every_module
def test_no_function_is_longer_than_a_screen(module: Module) -> None:
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f"{module.name}.{function.name}": code_lines(function) for function in functions}
    assert {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES} == {}
