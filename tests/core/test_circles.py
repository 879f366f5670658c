"""No two files of the project import each other, directly or through others, at the top or inside functions."""

import ast
import subprocess
from pathlib import Path

import networkx

CHECKOUT = Path(__file__).resolve().parents[2]


def modules() -> dict[str, Path]:
    """Every module of the product but the packages' own files, by its dotted name."""
    found = subprocess.run(["git", "ls-files", "*.py"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    files = [Path(name) for name in found.stdout.split() if not name.startswith("tests/")]
    return {".".join(file.with_suffix("").parts): CHECKOUT / file for file in files if file.name != "__init__.py"}


def imported(file: Path) -> set[str]:
    """Every dotted name that a file imports anywhere: of a module, or of something in one."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_circle_of_imports_exists_between_files() -> None:
    known = modules()
    graph = networkx.DiGraph((name, other) for name, file in known.items() for other in imported(file) & known.keys())
    assert graph.number_of_edges() > len(known)
    assert [sorted(circle) for circle in networkx.strongly_connected_components(graph) if len(circle) > 1] == []
