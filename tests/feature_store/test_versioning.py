"""DVC: a published group is committed by its own stage, pushed, and pulled back bit for bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.files import digest_folder
from feature_store import verify, versioning

from .conftest import write_responses

DVC_YAML = """\
stages:
  responses:
    matrix: {subject: [1]}
    cmd: brain2video responses -c configs/demo.yaml --subject sub-0${item.subject}
    outs:
      - data/features.zarr/responses/sub-0${item.subject}
"""


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *arguments)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    run(folder, "git", "init", "-q")
    dvc(folder, "init", "-q")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    return folder


def test_a_group_is_committed_pushed_and_pulled_bit_for_bit(
    checkout: Path, betas: dict[str, np.ndarray], tmp_path: Path
) -> None:
    store = checkout / "data" / "features.zarr"
    write_responses(store, betas)
    group = store / "responses" / "sub-01"
    published = digest_folder(group)
    assert versioning.commit_outputs(checkout, [group], "configs/other.yaml") == {group: "stage of another config"}
    other = checkout / "data" / "elsewhere"
    assert versioning.commit_outputs(checkout, [group, other], "configs/demo.yaml") == {
        group: "committed",
        other: "no stage in dvc.yaml",
    }
    assert versioning.states(checkout, [group]) == {group: "versioned"}
    dvc(checkout, "remote", "add", "-d", "lab", str(tmp_path / "remote"))
    dvc(checkout, "remote", "modify", "lab", "verify", "true")
    dvc(checkout, "push", "-q")
    run(checkout, "git", "add", "-A")
    run(checkout, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(checkout), str(clone))
    dvc(clone, "pull", "-q")
    pulled = clone / "data" / "features.zarr" / "responses" / "sub-01"
    assert digest_folder(pulled) == published
    assert list(verify(pulled)) == []
    # what is changed afterwards is said to be changed
    write_responses(store, {split: values + 1 for split, values in betas.items()})
    assert versioning.states(checkout, [group]) == {group: "changed since dvc.lock"}


def test_inside_a_stage_dvc_commits_itself(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "responses@1")
    group = checkout / "data" / "features.zarr" / "responses" / "sub-01"
    assert versioning.commit_outputs(checkout, [group], "configs/demo.yaml") == {group: "left to DVC"}
    assert not (checkout / "dvc.lock").exists()


def test_outside_git_nothing_is_versioned_and_nothing_fails(tmp_path: Path) -> None:
    group = tmp_path / "data" / "features.zarr" / "responses" / "sub-01"
    assert versioning.commit_outputs(tmp_path, [group], "configs/demo.yaml") == {group: "not under version control"}
    assert versioning.states(tmp_path, [group]) == {group: "not under version control"}
