"""The code digest: sees what code does, through imports, and nothing else."""

import sys
from pathlib import Path

import pytest

from core import code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three modules: one imports the other, the third is imported inside a function."""
    monkeypatch.setattr(code, "ROOT", tmp_path)
    for cached in (code._read, code._file_of):
        cached.cache_clear()
    folder = tmp_path / "digested"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "top.py").write_text("from digested import middle\n\ndef f(x):\n    return middle.g(x) + 1\n")
    (folder / "middle.py").write_text("def g(x):\n    from digested.deep import h\n    return h(x)\n")
    (folder / "deep.py").write_text("def h(x):\n    return x\n")
    return folder


def digest() -> str:
    for cached in (code._read, code._file_of):
        cached.cache_clear()
    return code.code_digest("digested.top")


def test_comments_and_docstrings_do_not_count(package: Path) -> None:
    before = digest()
    (package / "top.py").write_text(
        '"""Says."""\n# why\nfrom digested import middle\n\ndef f(x):\n    """Add."""\n    return middle.g(x) + 1\n'
    )
    assert digest() == before
    assert "digested.top" not in sys.modules, "it is read, not imported"


@pytest.mark.parametrize("name", ["top", "middle", "deep"])
def test_a_change_anywhere_below_counts(package: Path, name: str) -> None:
    before = digest()
    (package / f"{name}.py").write_text((package / f"{name}.py").read_text() + "\nmore = 1\n")
    assert digest() != before


def test_what_is_not_imported_does_not_count(package: Path) -> None:
    before = digest()
    (package / "aside.py").write_text("x = 1\n")
    assert digest() == before
    stopped = code.code_digest("digested.top", stop=("digested",))
    (package / "deep.py").write_text("def h(x):\n    return -x\n")
    assert code.code_digest("digested.top", stop=("digested",)) == stopped


def test_an_absent_module_is_named(package: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no module 'digested.absent'"):
        code.code_digest("digested.absent")
