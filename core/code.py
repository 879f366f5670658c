"""Digests of what code does, so that results are made again when the code that makes them changes."""

import ast
from functools import cache
from pathlib import Path

from core.files import digest_json

ROOT = Path(__file__).resolve().parents[1]


def code_digest(*modules: str, stop: tuple[str, ...] = ()) -> str:
    """Return a digest of what the named modules do, and all modules of this project that they import.

    Syntax trees are digested, so comments and docstrings do not count; modules are read, not imported.

    Parameters
    ----------
    *modules : str
        Dotted names, such as ``"feature_store.writer"``.
    stop : tuple of str
        Packages and modules that are not followed, such as those that only hand settings on.

    Raises
    ------
    ModuleNotFoundError
        This project has no such module.
    """
    reached: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        file = _file_of(name)
        if file is None:
            raise ModuleNotFoundError(f"this project has no module '{name}'")
        reached[name], imported = _read(file)
        waiting += [one for one in imported if not any(f"{one}.".startswith(f"{name}.") for name in stop)]
    return digest_json(sorted(reached.items()))


@cache
def _read(file: Path) -> tuple[str, tuple[str, ...]]:
    """Return a module's syntax tree as text, and the modules of this project that it imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            named += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    ours = tuple(sorted({name for name in named if _file_of(name) is not None}))
    return ast.dump(_without_docstrings(tree)), ours


@cache
def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    package, single = path / "__init__.py", path.with_suffix(".py")
    return package if package.is_file() else single if single.is_file() else None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
