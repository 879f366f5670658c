"""The code digest: sees what code does, through imports, and nothing else."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from core import code
from core.config import Config


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of modules: `top` works with `middle` and `deep`, takes a type from `types`, and is handed a config."""
    monkeypatch.setattr(code, "CODE_ROOT", tmp_path)
    _forget()
    folder = tmp_path / "digested"
    folder.mkdir()
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "config.py").write_text("class Config: ...\n")
    (folder / "__init__.py").write_text("")
    (folder / "top.py").write_text(
        "from digested import middle\nfrom digested.types import T\n\ndef f(x: T) -> T:\n    return middle.g(x) + 1\n"
    )
    (folder / "middle.py").write_text("def g(x):\n    from digested.deep import h\n    return h(x)\n")
    (folder / "deep.py").write_text("def h(x):\n    if x is None:\n        raise ValueError(f'no {x}')\n    return x\n")
    (folder / "types.py").write_text("from digested.everything import *\nclass T: ...\n")
    (folder / "settings.py").write_text(
        "from core.config import Config\n\nclass Base(Config):\n    x: int = 1\n\n"
        "class A(Base):\n    def build(self):\n        from digested.a import A\n        return A()\n\n"
        "class B(Base):\n    def build(self):\n        from digested.b import B\n        return B()\n"
    )
    (folder / "a.py").write_text("class A: ...\n")
    (folder / "b.py").write_text("class B: ...\n")
    return folder


def _forget() -> None:
    for cached in (code._read, code._tree, code._is_config, code._file_of):
        cached.cache_clear()


TOP = ModuleType("digested.top")


def digest(*parts: object) -> str:
    _forget()
    return code.code_digest(*(parts or (TOP,)))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_comments_docstrings_and_annotations_do_not_count(package: Path) -> None:
    before = digest()
    (package / "top.py").write_text(
        '"""Says."""\n# why\nfrom digested import middle\nfrom digested.types import T\n\n'
        'def f(x: list[T]):\n    """Add."""\n    return middle.g(x) + 1\n'
    )
    assert digest() == before
    assert "digested.top" not in sys.modules, "it is read, not imported"


def test_the_text_of_an_exception_does_not_count_but_its_kind_does(package: Path) -> None:
    before = digest()
    edit(package / "deep.py", "f'no {x}'", "'nothing was found; name something'")
    assert digest() == before
    edit(package / "deep.py", "ValueError", "TypeError")
    assert digest() != before


@pytest.mark.parametrize("name", ["top", "middle", "deep", "__init__"])
def test_a_change_anywhere_below_counts(package: Path, name: str) -> None:
    before = digest()
    (package / f"{name}.py").write_text((package / f"{name}.py").read_text() + "\nmore = 1\n")
    assert digest() != before


def test_what_is_not_imported_or_only_a_type_does_not_count(package: Path) -> None:
    before = digest()
    (package / "aside.py").write_text("x = 1\n")
    edit(package / "types.py", "class T: ...", "class T:\n    x = 1")
    assert digest() == before


def test_a_config_stands_for_what_builds_it_and_for_nothing_else(package: Path) -> None:
    made = {}
    for name in ("A", "B"):
        base = type("Base", (Config,), {"__module__": "digested.settings", "__qualname__": "Base"})
        made[name] = type(name, (base,), {"__module__": "digested.settings", "__qualname__": name})()

    class Study(Config):
        part: Config

    _forget()
    reached = code.modules_reached(TOP, [Study(part=made["A"])])
    assert {"digested.settings", "digested.a", "digested.deep"} <= reached
    assert "digested.b" not in reached, "what another config would build"


def test_functions_and_classes_stand_for_their_modules() -> None:
    _forget()
    assert "core.code" in code.modules_reached(code.code_digest, None)
    assert {"core.files", "core.config"} <= code.modules_reached(code._WhatCounts)
