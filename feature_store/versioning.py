"""DVC: which stage owns an output, committing what a run outside DVC wrote, and the state that `status` shows."""

import errno
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.errors import Brain2VideoError, StoreError
from core.progress import report

LEFT_TO_DVC = "left to DVC"
CHANGED = "changed since dvc.lock"
VERSIONED = "versioned"
NO_STAGE = "no stage in dvc.yaml"
ANOTHER_CONFIG = "stage of another config"
STAGES, LOCK = "dvc.yaml", "dvc.lock"
WAIT_S = 1.0
"""Seconds between two attempts while another DVC process has the repository locked."""
_asking = threading.Lock()
"""Several threads may ask, each for another group; DVC is asked by one at a time."""


def require_committable(root: Path, places: Sequence[Path], config: str) -> None:
    """Check, before the work, that DVC will be able to commit what is written; what has no stage is not committed.

    Inside a stage DVC commits by itself, which fails behind a symbolic link unless it is told to leave git alone.

    Parameters
    ----------
    places : folders in which outputs lie, such as a feature store
    config : the study's YAML, as the user named it

    Raises
    ------
    StoreError
        DVC cannot read its files, or cannot keep the outputs; the line says what to do.
    """
    inside = bool(os.environ.get("DVC_STAGE"))
    with _explained(root):
        repo = _open(root, [] if inside else places)
        if repo is None:
            return
        with repo:
            named = _config_path(config, root)
            stages = [stage for stage in repo.index.stages if _config_of(str(stage.cmd), root) == named]
            outs = [Path(out.fs_path) for stage in stages for out in stage.outs]
            owned = [path for path in outs if any(path.is_relative_to(place.absolute()) for place in places)]
            link = next((link for path in owned if (link := _link_above(path, root))), None)
            if inside and link is not None and not repo.config["core"].get("no_scm"):
                raise StoreError(
                    f"{link.relative_to(root)}: is a symbolic link to {link.resolve()}, behind which DVC commits "
                    "nothing as long as it adds lines to .gitignore; run 'dvc config --local core.no_scm true' once, "
                    "and start this again"
                )
            if owned and not inside:
                _require_cache(Path(repo.cache.local.path))


def _require_cache(cache: Path) -> None:
    """Raise `StoreError` where DVC's cache cannot be written to."""
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "cannot be written to" if existing.is_dir() else "is a file"
        raise StoreError(
            f"{existing}: {what}, and DVC's cache belongs there; change that, name another folder with "
            "'dvc cache dir --local FOLDER', or take --no-commit"
        )


def commit_outputs(root: Path, outputs: Sequence[Path], config: str) -> dict[Path, str]:
    """Commit the DVC stages that own these outputs, such as groups of a store, and return the outcome of each.

    A stage is committed only where its command names the config that the outputs were made with: `dvc.lock` must not
    record for one config what another made. The outcome is "committed", "stage of another config", or as in `states`.
    While another DVC process works, this waits for it.

    Raises
    ------
    StoreError
        DVC refused.
    """

    def commit(repo: Any, stage: str, output: Path) -> str:
        if _config_of(str(repo.stage.collect(stage)[0].cmd), root) != _config_path(config, root):
            return ANOTHER_CONFIG
        with _explained(root, f"{output}: is published, but DVC could not commit the stage {stage}"):
            _when_free(lambda: repo.commit(stage, force=True))
        return "committed"

    with _explained(root):
        return _of_each(root, outputs, commit)


def keep_outputs(root: Path, outputs: Sequence[Path], config: str) -> dict[Path, str]:
    """Put outputs that are as `dvc.lock` records them into DVC's cache, and return the outcome of each.

    `dvc.lock` is not changed; `dvc status` is then clean, and `dvc repro` finds nothing to do. The outcome is as in
    `states`, or "stage of another config". Raises `StoreError` where DVC refused.
    """

    def keep(repo: Any, stage: str, output: Path) -> str:
        loaded = repo.stage.collect(stage)[0]
        if _config_of(str(loaded.cmd), root) != _config_path(config, root):
            return ANOTHER_CONFIG
        out = next(out for out in loaded.outs if Path(out.fs_path).resolve() == output.resolve())
        if not out.hash_info or out.changed_checksum():
            return CHANGED

        def put() -> None:
            with repo.lock:
                out.commit()

        if out.changed_cache():
            with _explained(root, f"{output}: is published, but DVC could not keep it in its cache"):
                _when_free(put)
        return VERSIONED

    with _explained(root):
        return _of_each(root, outputs, keep)


def states(root: Path, groups: Sequence[Path]) -> dict[Path, str]:
    """Return each group's state: versioned, changed since dvc.lock, no stage in dvc.yaml, or not under version control.

    Inside a stage (`DVC_STAGE` is set) all is left to DVC, which has the repository locked and records the outputs.
    Where DVC cannot read its files, nothing is known.
    """

    def state(repo: Any, stage: str, group: Path) -> str:
        outs = [out for loaded in repo.stage.collect(stage) for out in loaded.outs]
        changed = any(out.status() for out in outs if Path(out.fs_path).resolve() == group.resolve())
        return CHANGED if changed else VERSIONED

    with _asking:
        try:
            with _explained(root):
                return _of_each(root, groups, state)
        except StoreError as error:
            return dict.fromkeys(groups, f"unknown: {error}")


def stages(root: Path, outputs: Sequence[Path]) -> dict[Path, str]:
    """Return the stage that owns each output, or why there is none; no file is read but DVC's own."""
    with _asking:
        return _of_each(root, outputs, lambda repo, stage, output: f"stage {stage}")  # noqa: ARG005


def _of_each(root: Path, outputs: Sequence[Path], answer: Callable[[Any, str, Path], str]) -> dict[Path, str]:
    """Ask DVC's repository about each output's stage, where there is one."""
    if os.environ.get("DVC_STAGE"):
        return dict.fromkeys(outputs, LEFT_TO_DVC)
    repo = _open(root, outputs)
    if repo is None:
        return dict.fromkeys(outputs, "not under version control")
    with repo:
        owners = {Path(out.fs_path).resolve(): stage.addressing for stage in repo.index.stages for out in stage.outs}
        stages = {output: owners.get(output.resolve()) for output in outputs}
        return {output: answer(repo, stage, output) if stage else NO_STAGE for output, stage in stages.items()}


def _when_free(work: Callable[[], object]) -> None:
    """Do what DVC's repository must be locked for; while another DVC process has it, wait."""
    from dvc.lock import LockError

    while True:
        try:
            work()
            return
        except LockError:
            report("waiting for another DVC process to end", 0, 1)
            time.sleep(WAIT_S)


@contextmanager
def _explained(root: Path, what: str = "DVC") -> Iterator[None]:
    """Turn what DVC raises into `StoreError`: one line that says what to do."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        reason = " ".join(str(error).split()).rstrip(".")
        broken = next((name for name in (LOCK, STAGES) if name in reason and _conflicts(root / name)), None)
        if broken is not None:
            raise StoreError(
                f"{root / broken}: holds the marks of a merge conflict; resolve it (git checkout --ours {broken}, or "
                "--theirs), and run again"
            ) from error
        raise StoreError(f"{what}: {reason}; fix it and run again, or take --no-commit") from error
    except OSError as error:
        if isinstance(error, Brain2VideoError):
            raise
        reason = "the disk of its cache is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise StoreError(
            f"{what}: {reason}; make room, or name another folder with 'dvc cache dir --local FOLDER', and run again: "
            "nothing is made a second time"
        ) from error


def _conflicts(file: Path) -> bool:
    return file.is_file() and any(line.startswith(b"<<<<<<< ") for line in file.read_bytes().splitlines())


def _link_above(path: Path, root: Path) -> Path | None:
    """Return the first symbolic link on the way from a folder to what lies below it, or None."""
    below = [path, *path.parents]
    inside = [folder for folder in below if folder != root and folder.is_relative_to(root)]
    return next((folder for folder in reversed(inside) if folder.is_symlink()), None)


def unverified_remotes(root: Path) -> list[str]:
    """Return the remotes whose objects DVC does not verify: a pull from them accepts a flipped bit."""
    with _explained(root):
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


def _open(root: Path, outputs: Sequence[Path] = ()) -> Any | None:
    """Return DVC's repository, or None outside git or without DVC's folder (in an unpacked tarball, for example).

    Behind a symbolic link DVC can keep outputs, but not add them to a .gitignore, which it then does not try.
    Raises DVC's own errors about its files.
    """
    if not (root / ".dvc").is_dir():
        return None
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    linked = any(_link_above(output.absolute(), root) for output in outputs)
    try:
        return Repo(str(root), config={"core": {"no_scm": True}} if linked else None)
    except (NotDvcRepoError, SCMError):
        return None
