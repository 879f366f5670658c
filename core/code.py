"""Digests of what code does, so that a result is made again when the code that makes it changes.

Modules are read as syntax trees, never imported. From the modules of what is named, imports are followed through this
project, those inside functions too, and the packages on the way. Nothing is listed by hand and nothing left out by
hand; three rules say what an import is followed for:

- an import whose names stand in annotations alone brings types, not work, and is not followed;
- an import inside a method of a `Config` is followed where a config of that class is among what is named: a study on
  BIDS does not depend on how another layout is read;
- comments, docstrings, annotations and the texts of exceptions do not count.
"""

import ast
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from core.checkout import CODE_ROOT
from core.config import Config
from core.files import digest_json

CONFIG = (Config.__module__, Config.__qualname__)
_reading = threading.Lock()
"""Python 3.11 miscounts its recursion where two threads parse at once (SystemError: AST constructor)."""


def code_digest(*parts: object) -> str:
    """Return a digest of what the modules of these parts do, and all that they import; see `modules_reached`."""
    reached = sorted(modules_reached(*parts))
    with _reading:
        return digest_json([(name, _read(name).tree) for name in reached])


def modules_reached(*parts: object) -> frozenset[str]:
    """Return the dotted names of this project's modules that may decide what some functions give.

    Functions, classes and modules stand for the modules they are defined in; configs, and lists, tuples and
    dictionaries of configs, stand for what builds them, however deep they lie. None stands for nothing.
    """
    waiting, in_use = _roots(parts)
    reached: set[str] = set()
    with _reading:
        while waiting:
            name = waiting.pop()
            if name in reached or _file_of(name) is None:
                continue
            reached.add(name)
            module = _read(name)
            waiting |= module.imports | {name.rpartition(".")[0]}
            for class_name, built in module.built_by.items():
                waiting |= built if (name, class_name) in in_use else frozenset()
    return frozenset(reached)


@dataclass(frozen=True)
class _Module:
    """What is read of a module; imports are dotted names."""

    tree: str  # its syntax tree as text, without what does not count
    imports: frozenset[str]  # for work
    built_by: Mapping[str, frozenset[str]]  # what the methods of each of its configs import


def _roots(parts: Iterable[object]) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the modules to begin with, and the module and name of every config class in use."""
    modules: set[str] = set()
    classes: set[tuple[str, str]] = set()
    for part in parts:
        if isinstance(part, ModuleType):
            modules.add(part.__name__)
        elif callable(part):
            modules.add(str(part.__module__))
        for config in _configs_in(part):
            found = [(base.__module__, base.__qualname__) for base in type(config).__mro__]
            classes.update(found)
            modules.update(module for module, _ in found)
    return modules, classes


def _configs_in(value: object) -> Iterator[Config]:
    if isinstance(value, Config):
        yield value
        value = [getattr(value, name) for name in type(value).model_fields]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _configs_in(item)


@cache
def _read(name: str) -> _Module:
    tree = _tree(name)
    types = _names_of_types(tree)
    configs = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef) and _is_config(name, node.name)}
    inside = {node for config in configs.values() for node in ast.walk(config) if _imports(node)}
    built_by = {
        class_name: frozenset(dotted for node in ast.walk(config) for dotted in _imports(node))
        for class_name, config in configs.items()
    }
    imports = {dotted for node in ast.walk(tree) if node not in inside for dotted in _imports(node, without=types)}
    return _Module(ast.dump(_WhatCounts().visit(tree)), frozenset(imports), built_by)


def _imports(node: ast.AST, without: frozenset[str] = frozenset()) -> list[str]:
    """Return the dotted names of an import statement: each may be a module, or stand in one."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        wanted = [alias for alias in node.names if (alias.asname or alias.name) not in without]
        return [node.module, *(f"{node.module}.{alias.name}" for alias in wanted)] if wanted else []
    return []


def _names_of_types(tree: ast.Module) -> frozenset[str]:
    """Return the names that a module uses in annotations and nowhere else."""
    found = [getattr(node, kind, None) for node in ast.walk(tree) for kind in ("annotation", "returns")]
    inside = {id(node) for annotation in found if annotation is not None for node in ast.walk(annotation)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    elsewhere = {node.id for node in names if id(node) not in inside}
    return frozenset({node.id for node in names if id(node) in inside} - elsewhere)


@cache
def _is_config(module: str, name: str) -> bool:
    """Say whether a class is a `Config`, by its bases, wherever in this project they are defined."""
    if (module, name) == CONFIG:
        return True
    if _file_of(module) is None:
        return False
    body = _tree(module).body
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            return any(_is_config(module, base) for base in bases)
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module != module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _is_config(node.module, alias.name)
    return False


@cache
def _tree(module: str) -> ast.Module:
    file = _file_of(module)
    assert file is not None
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _file_of(module: str) -> Path | None:
    path = CODE_ROOT.joinpath(*module.split(".")) if module else CODE_ROOT
    package, single = path / "__init__.py", path.with_suffix(".py")
    return package if package.is_file() else single if single.is_file() else None


class _WhatCounts(ast.NodeTransformer):
    """Takes docstrings, annotations and the texts of exceptions out of a syntax tree."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop strings that stand alone: docstrings of modules, classes, functions and constants."""
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Drop a parameter's annotation."""
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drop what a function is annotated to return."""
        node.returns = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Drop the text of what is raised; which error it is does count."""
        return _WithoutTexts().visit(node)  # type: ignore[no-any-return]


class _WithoutTexts(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        del node
        return ast.Constant("")
