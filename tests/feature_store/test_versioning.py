"""DVC: a published group is committed by the stage that owns it, and by no other."""

from pathlib import Path

import numpy as np
import pytest

from feature_store import versioning

from .conftest import write_responses


def test_a_group_is_committed_by_its_own_stage(checkout: Path, betas: dict[str, np.ndarray]) -> None:
    store = checkout / "data" / "features.zarr"
    write_responses(store, betas)
    group, other = store / "responses" / "sub-01", checkout / "data" / "elsewhere"
    assert versioning.commit_outputs(checkout, [group], "configs/other.yaml") == {group: "stage of another config"}
    for named in ("configs/mo.yaml", "/elsewhere/demo.yaml", "demo.yaml"):
        assert versioning.commit_outputs(checkout, [group], named) == {group: "stage of another config"}
    assert versioning.states(checkout, [group]) == {group: "changed since dvc.lock"}
    assert versioning.commit_outputs(checkout, [group, other], "configs/demo.yaml") == {
        group: "committed",
        other: "no stage in dvc.yaml",
    }
    assert versioning.states(checkout, [group]) == {group: "versioned"}
    write_responses(store, {split: values + 1 for split, values in betas.items()})
    assert versioning.states(checkout, [group]) == {group: "changed since dvc.lock"}


def test_inside_a_stage_dvc_commits_itself(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "responses@1")
    group = checkout / "data" / "features.zarr" / "responses" / "sub-01"
    assert versioning.commit_outputs(checkout, [group], "configs/demo.yaml") == {group: "left to DVC"}
    assert versioning.states(checkout, [group]) == {group: "left to DVC"}
    assert not (checkout / "dvc.lock").exists()


def test_outside_git_nothing_is_versioned_and_nothing_fails(tmp_path: Path) -> None:
    group = tmp_path / "data" / "features.zarr" / "responses" / "sub-01"
    assert versioning.commit_outputs(tmp_path, [group], "configs/demo.yaml") == {group: "not under version control"}
    assert versioning.states(tmp_path, [group]) == {group: "not under version control"}
