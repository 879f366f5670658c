"""DVC: which stage owns an output, committing what a run outside DVC wrote, and the state that `status` shows."""

import os
import shlex
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.errors import StoreError
from core.files import one_at_a_time

LEFT_TO_DVC = "left to DVC"
CHANGED = "changed since dvc.lock"
_asking = threading.Lock()
"""Several threads may ask, each for another group; DVC is asked by one at a time."""


def commit_outputs(root: Path, outputs: Sequence[Path], config: str) -> dict[Path, str]:
    """Commit the DVC stages that own these outputs, such as groups of a store, and return the outcome of each.

    A stage is committed only where its command names the config that the outputs were made with: `dvc.lock` must not
    record for one config what another made. The outcome is "committed", "stage of another config", or as in `states`.

    Raises
    ------
    StoreError
        DVC refused.
    """

    def commit(repo: Any, stage: str, output: Path) -> str:
        from dvc.exceptions import DvcException

        if _config_of(str(repo.stage.collect(stage)[0].cmd), root) != _config_path(config, root):
            return "stage of another config"
        try:
            repo.commit(stage, force=True)
        except DvcException as error:
            raise StoreError(f"{output}: DVC could not commit the stage {stage}: {error}; run 'dvc commit'") from error
        return "committed"

    ours = (root / ".dvc").is_dir() and not os.environ.get("DVC_STAGE")
    with one_at_a_time(root / ".dvc" / "tmp" / "commit.lock") if ours else nullcontext():  # DVC itself would not wait
        return _of_each(root, outputs, commit)


def states(root: Path, groups: Sequence[Path]) -> dict[Path, str]:
    """Return each group's state: versioned, changed since dvc.lock, no stage in dvc.yaml, or not under version control.

    Inside a stage (`DVC_STAGE` is set) all is left to DVC, which has the repository locked and records the outputs.
    """

    def state(repo: Any, stage: str, group: Path) -> str:
        outs = [out for loaded in repo.stage.collect(stage) for out in loaded.outs]
        changed = any(out.status() for out in outs if Path(out.fs_path).resolve() == group.resolve())
        return CHANGED if changed else "versioned"

    with _asking:
        return _of_each(root, groups, state)


def _of_each(root: Path, outputs: Sequence[Path], answer: Callable[[Any, str, Path], str]) -> dict[Path, str]:
    """Ask DVC's repository about each output's stage, where there is one."""
    if os.environ.get("DVC_STAGE"):
        return dict.fromkeys(outputs, LEFT_TO_DVC)
    repo = _open(root)
    if repo is None:
        return dict.fromkeys(outputs, "not under version control")
    with repo:
        owners = {Path(out.fs_path).resolve(): stage.addressing for stage in repo.index.stages for out in stage.outs}
        stages = {output: owners.get(output.resolve()) for output in outputs}
        return {
            output: answer(repo, stage, output) if stage else "no stage in dvc.yaml" for output, stage in stages.items()
        }


def unverified_remotes(root: Path) -> list[str]:
    """Return the remotes whose objects DVC does not verify: a pull from them accepts a flipped bit."""
    repo = _open(root)
    if repo is None:
        return []
    with repo:
        return sorted(name for name, remote in repo.config["remote"].items() if not remote.get("verify"))


def _config_of(command: str, root: Path) -> Path | None:
    """Return the study's YAML that a stage's command names, or None."""
    words = shlex.split(command)
    named = [value for option, value in pairwise(words) if option in ("-c", "--config")]
    return (root / named[0]).resolve() if named else None


def _config_path(config: str, root: Path) -> Path:
    """Return which YAML a user means: as named, or relative to the checkout."""
    return (Path(config) if Path(config).is_file() else root / config).resolve()


def _open(root: Path) -> Any | None:
    """Return DVC's repository, or None outside git or without DVC's folder (in an unpacked tarball, for example)."""
    if not (root / ".dvc").is_dir():
        return None
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        return Repo(str(root))
    except (DvcException, SCMError):
        return None
