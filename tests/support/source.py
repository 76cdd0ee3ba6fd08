"""The package as source: its modules, what each of them imports, and its functions."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import attrs

import hailuo_async

ROOT = Path(hailuo_async.__file__).parent


@attrs.frozen
class Module:
    """One module of the package, by its full name."""

    name: str
    path: Path

    @functools.cached_property
    def source(self) -> str:
        return self.path.read_text("utf-8")

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @functools.cached_property
    def imports(self) -> set[str]:
        """The full names of the modules that it imports anywhere, for types and inside functions too."""
        return {name for node in ast.walk(self.tree) for name in self._imported(node)}

    def _imported(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = self._absolute(node)
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        is_package = self.path.name == "__init__.py"
        parents = self.name.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
        return ".".join([*parents, *([node.module] if node.module else [])])

    def nodes(self, *kinds: type[ast.AST]) -> list[str]:
        """Where nodes of these kinds stand, as ``module:line``."""
        return [self.place(node) for node in ast.walk(self.tree) if isinstance(node, kinds)]

    def place(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 0)}"


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): Module(_name(path), path) for path in sorted(ROOT.rglob("*.py"))}
"""Every module of the package, by its full name."""
