"""Atomic files and folders, and digests."""

import errno
from pathlib import Path

import pytest

from core import files
from core.errors import NoSpace


def test_a_failed_write_leaves_the_old_file_and_no_partial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.json"
    files.write_json(target, {"old": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        files.write_json(target, {"new": 2})
    assert files.read_json(target) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def fail_in_the_middle(target: Path, error: Exception) -> None:
    with files.staged_folder(target) as building:
        (building / "half").write_text("x")
        raise error


def test_a_staged_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for content in ("one", "two"):
        with files.staged_folder(target) as building:
            (building / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_staged_folder_that_fails_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.staged_folder(target) as building:
        (building / "kept").write_text("x")
    with pytest.raises(RuntimeError, match="boom"):
        fail_in_the_middle(target, RuntimeError("boom"))
    assert [path.name for path in target.iterdir()] == ["kept"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_nothing_is_published(tmp_path: Path, code: int) -> None:
    with pytest.raises(NoSpace, match="the disk is full; nothing was published"):
        fail_in_the_middle(tmp_path / "out", OSError(code, "full"))
    assert not list(tmp_path.iterdir())


def test_space_is_asked_for_before_writing(tmp_path: Path) -> None:
    files.require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(NoSpace, match="MB are to be written and .* MB are free; make room"):
        files.require_space(tmp_path, 10**18)


def test_a_folders_digest_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = files.digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = files.digest_folder(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, renamed, files.digest_folder(tmp_path)}) == 3


def test_a_link_is_repointed_and_relative(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files.point_link(tmp_path / "latest", tmp_path / name)
    assert (tmp_path / "latest").readlink() == Path("two")
