"""DVC: a published group is committed by the stage that owns it, and by no other."""

import errno
from pathlib import Path

import numpy as np
import pytest
import yaml
import zc.lockfile
from dvc.repo import Repo

from core.errors import StoreError
from core.files import digest_folder
from core.progress import listening
from feature_store import versioning

from .conftest import write_responses
from .dvc_checkout import clone_of, dvc, run, save


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


def stored(checkout: Path, betas: dict[str, np.ndarray]) -> Path:
    """Write the study's YAML and a group, and return the group."""
    (checkout / "configs").mkdir(exist_ok=True)
    (checkout / "configs" / "demo.yaml").write_text("study: demo\n")
    write_responses(checkout / "data" / "features.zarr", betas)
    return checkout / "data" / "features.zarr" / "responses" / "sub-01"


def only_subject_1(checkout: Path) -> None:
    """Leave the checkout one stage, whose command says that it ran, and keeps what is there."""
    cmd = "touch ran && test -d data/features.zarr/responses/sub-01 && true -c configs/demo.yaml"
    outs = [{"data/features.zarr/responses/sub-01": {"persist": True}}]
    (checkout / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"responses": {"cmd": cmd, "outs": outs}}}))


def test_what_agrees_with_the_lock_is_kept_and_repro_finds_nothing_to_do(
    checkout: Path, betas: dict[str, np.ndarray]
) -> None:
    only_subject_1(checkout)
    group = stored(checkout, betas)
    versioning.commit_outputs(checkout, [group], "configs/demo.yaml")
    (checkout / ".gitignore").write_text("/ran\n/site\n")
    save(checkout)
    clone = clone_of(checkout)
    stored(clone, betas)
    assert not (clone / ".dvc" / "cache").exists()
    made = clone / "data" / "features.zarr" / "responses" / "sub-01"
    assert versioning.states(clone, [made]) == {made: "changed since dvc.lock"}, "its bytes are not in the cache"
    assert versioning.keep_outputs(clone, [made], "configs/other.yaml") == {made: "stage of another config"}
    assert versioning.keep_outputs(clone, [made], str(clone / "configs" / "demo.yaml")) == {made: "versioned"}
    assert run(clone, "git", "status", "--short", "--untracked-files=no").stdout == ""
    assert dvc(clone, "status").stdout.strip() == "Data and pipelines are up to date."
    dvc(clone, "repro")
    assert not (clone / "ran").exists(), "nothing is made"
    assert versioning.states(clone, [made]) == {made: "versioned"}


def test_what_another_machine_made_otherwise_is_not_kept_and_repro_does_not_remove_it(
    checkout: Path, betas: dict[str, np.ndarray]
) -> None:
    only_subject_1(checkout)
    group = stored(checkout, betas)
    versioning.commit_outputs(checkout, [group], "configs/demo.yaml")
    locked = (checkout / "dvc.lock").read_bytes()
    write_responses(checkout / "data" / "features.zarr", {split: values + 1 for split, values in betas.items()})
    before = digest_folder(group)
    assert versioning.keep_outputs(checkout, [group], "configs/demo.yaml") == {group: "changed since dvc.lock"}
    assert (checkout / "dvc.lock").read_bytes() == locked
    dvc(checkout, "repro")
    assert (checkout / "ran").exists()
    assert digest_folder(group) == before, "what models were trained on is still there"
    assert (checkout / "dvc.lock").read_bytes() != locked


def test_the_demos_stores_are_not_removed_before_their_commands_run() -> None:
    stages = yaml.safe_load((Path(__file__).resolve().parents[2] / "dvc.yaml").read_text())["stages"]
    for name in ("responses", "targets"):
        assert all(options == {"persist": True} for out in stages[name]["outs"] for options in out.values())


def test_data_that_is_a_link_to_another_disk_is_committed(
    checkout: Path, betas: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_subject_1(checkout)
    (tmp_path / "disk").mkdir()
    (checkout / "data").symlink_to(tmp_path / "disk")
    group = stored(checkout, betas)
    store = checkout / "data" / "features.zarr"
    versioning.require_committable(checkout, [store], "configs/demo.yaml")
    assert versioning.commit_outputs(checkout, [group], "configs/demo.yaml") == {group: "committed"}
    assert versioning.states(checkout, [group]) == {group: "versioned"}
    # DVC itself, in `dvc repro`, needs a setting, and what the line advises works
    monkeypatch.setenv("DVC_STAGE", "responses")
    with pytest.raises(StoreError, match=r"^data: is a symbolic link to .*'dvc config --local core.no_scm true'"):
        versioning.require_committable(checkout, [store], "configs/demo.yaml")
    dvc(checkout, "config", "--local", "core.no_scm", "true")
    versioning.require_committable(checkout, [store], "configs/demo.yaml")
    monkeypatch.delenv("DVC_STAGE")
    write_responses(store, {split: values + 1 for split, values in betas.items()})
    dvc(checkout, "repro", "--force")
    assert versioning.states(checkout, [group]) == {group: "versioned"}


def test_what_dvc_cannot_commit_is_said_before_the_work(checkout: Path, betas: dict[str, np.ndarray]) -> None:
    only_subject_1(checkout)
    group = stored(checkout, betas)
    versioning.require_committable(checkout, [checkout / "data" / "features.zarr"], "configs/demo.yaml")
    conflict = "<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> x\n"
    for broken, content, line in (
        ("dvc.lock", conflict, r"dvc\.lock: holds the marks of a merge conflict; .*git checkout --ours dvc\.lock"),
        ("dvc.yaml", conflict, r"dvc\.yaml: holds the marks of a merge conflict"),
        ("dvc.lock", "a: [", r"DVC: unable to read: 'dvc\.lock'"),
        (".dvc/config", "[cache]\n    type = bogus\n", "DVC: config file error: Unsupported cache type"),
        (".dvcignore", "data\n", r"is ignored by \.dvcignore"),
        (".dvc/cache", "", "cache: is a file, and DVC's cache belongs there; .*'dvc cache dir --local FOLDER'"),
    ):
        file = checkout / broken
        before = file.read_text() if file.is_file() else None
        file.write_text(content)
        with pytest.raises(StoreError, match=line) as refused:
            versioning.require_committable(checkout, [checkout / "data" / "features.zarr"], "configs/demo.yaml")
        assert "\n" not in str(refused.value)
        (state,) = versioning.states(checkout, [group]).values()
        assert state.startswith(("unknown: ", "changed")), "looking does not fail"
        file.unlink() if before is None else file.write_text(before)


def test_a_full_disk_at_the_commit_leaves_the_store_and_says_what_to_do(
    checkout: Path, betas: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_subject_1(checkout)
    group = stored(checkout, betas)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Repo, "commit", full)
        with pytest.raises(StoreError, match="the disk of its cache is full; make room, or .*'dvc cache dir --local"):
            versioning.commit_outputs(checkout, [group], "configs/demo.yaml")
    assert versioning.commit_outputs(checkout, [group], "configs/demo.yaml") == {group: "committed"}


def test_another_dvc_process_is_waited_for(
    checkout: Path, betas: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_subject_1(checkout)
    group, heard = stored(checkout, betas), list[str]()
    (checkout / ".dvc" / "tmp").mkdir(exist_ok=True)
    monkeypatch.setattr(versioning, "WAIT_S", 0.01)
    held = zc.lockfile.LockFile(str(checkout / ".dvc" / "tmp" / "lock"))

    def hear(what: str, done: int, total: int, note: str) -> None:
        heard.append(what)
        held.close()

    with listening(hear):
        assert versioning.commit_outputs(checkout, [group], "configs/demo.yaml") == {group: "committed"}
    assert "waiting for another DVC process to end" in heard
