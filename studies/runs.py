"""What stages hand on and leave behind: references, the files of runs under `outputs/`, and how a run is written.

References hold names, paths and digests, never arrays. Reconstructions lie in ``outputs/<study>/<run>/``; the folders
of the other kinds are named below.
"""

import itertools
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from core.checkout import CODE_ROOT, other_code, project_root, relative_to_root
from core.config import Config, nearest
from core.errors import ConfigError, SourceError, SourceMissing
from core.files import (
    canonical_json,
    digest_file,
    disk_explained,
    one_at_a_time,
    point_link,
    read_json,
    remove_folder,
    staged_folder,
    write_json,
)
from core.progress import report


class GroupRef(Config):
    """A published group of a feature store.

    Attributes
    ----------
    path : relative to the checkout
    digest : digest of the group's content, hence of all its bytes
    fresh : whether it was already there, made from the same inputs, settings and code
    attributes : the group's own, such as its source, its space, how many voxels hold NaN
    dvc_state : its state in DVC when this was written; see `feature_store.versioning.states`
    pictures : files that show it, relative to the checkout
    """

    kind: str
    name: str
    path: str
    digest: str
    shapes: dict[str, list[int]]
    fresh: bool
    attributes: dict[str, Any] = Field(default_factory=dict)
    dvc_state: str = ""
    pictures: list[str] = Field(default_factory=list)


class TrainingRef(Config):
    """A training run on disk: models, scores.json.

    Attributes
    ----------
    folder : relative to the checkout
    fingerprint : digest of stores, settings and code
    digests : part to digest
    """

    study: str
    run: str
    folder: str
    fingerprint: str
    digests: dict[str, str]
    fresh: bool


class RunRef(Config):
    """A run on disk; or the reason why there was nothing to do.

    Attributes
    ----------
    run : name of the run; empty where there was nothing to do
    folder : relative to the checkout
    digest : digest of the file with its results
    note : why there was nothing to do, else empty
    """

    study: str
    run: str
    folder: str
    digest: str
    note: str
    fresh: bool

    @classmethod
    def to(cls, study: str, folder: Path, file: str, *, fresh: bool) -> Self:
        """Return the reference to a run on disk, by the digest of one of its files."""
        digest = digest_file(folder / file)
        return cls(study=study, run=folder.name, folder=relative_to_root(folder), digest=digest, note="", fresh=fresh)

    @classmethod
    def to_nothing(cls, study: str, why: str) -> Self:
        """Return the reference of a study that has nothing to do."""
        return cls(study=study, run="", folder="", digest="", note=why, fresh=True)


class ReconstructionRef(RunRef):
    """A reconstruction: videos, metrics.json, gallery.html; the digest is that of metrics.json.

    Attributes
    ----------
    others : further subjects whose models the set holds, and who are not reconstructed from
    """

    others: list[str] = Field(default_factory=list)


class RegionsRef(RunRef):
    """A decoding from each ROI: regions.json, whose digest it is, regions.png, and brain.png with coordinates."""


TRAINING, REGIONS, NEW, REPRODUCED, LATEST = "training", "regions", "new", "reproduced", "latest"
"""In ``outputs/<study>/``: folders of trainings, of decodings from each ROI, of reconstructed files and of videos made
again; and the link to the newest run."""
KEPT_ROWS, KEPT_FITS = ".kept/rows", ".kept/fits"
"""Likewise: what later runs need not render or fit again; see `studies.stores.kept`."""
EVALUATIONS = "evaluations"
"""The folder of ``outputs/`` with the scores of folders of videos."""
MANIFEST, METRICS, VALUES, CAPTIONS = "manifest.json", "metrics.json", "values.json", "captions.csv"
"""Of a reconstruction or an evaluation: its inputs, its scores, those of every stimulus, and its captions."""
CANDIDATES = "candidates.npz"
"""Beside the values of every stimulus: what it takes to score fewer of them; see `evaluation.statistics.candidates`."""
VIDEOS, SEEN = "videos", "seen"
"""Folders of a reconstruction: what was reconstructed, and what had been shown."""
GALLERY, SHEET, GIF = "gallery.html", "sheet.png", "sheet.gif"
LOGGED = "mlflow_run.txt"
"""The id of a reconstruction's record in MLflow; written after the manifest, which does not name it."""
RECORD, SCORES, CURVES, VALIDATION, PICTURES = (
    "training.json",
    "scores.json",
    "curves.json",
    "validation.json",
    "pictures",
)
"""Of a training: its inputs, its scores, its losses, its scores on held-out training stimuli, a folder of pictures."""
FINISHED = "finished"
"""The key of a record that tells when its run was finished."""
UNFINISHED = ".unfinished-"
"""What the name of a folder with a killed training's checkpoints begins with; digits of its fingerprint follow."""
REGIONS_RECORD, REGIONS_CHART, BRAIN = "regions.json", "regions.png", "brain.png"
"""Of a decoding from each ROI: its inputs and scores, and its pictures."""
SCHEMA = 1
"""Of `values.json`."""


def run_name(fingerprint: str) -> str:
    """Return a name that sorts by time and ends in the fingerprint's first digits: ``20260314-092653-1a2b3c``."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{fingerprint[:6]}"


def started_at(run: str) -> datetime:
    """Return when a run began, as its name tells; raises ValueError where it does not."""
    return datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def finished_at(record: Mapping[str, Any]) -> datetime | None:
    """Return when a run was finished, by its record; None where an earlier version wrote it."""
    return datetime.fromisoformat(record[FINISHED]) if FINISHED in record else None


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a run, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def find_run(runs: Path, record: str, fingerprint: str) -> Path | None:
    """Return the newest run with a fingerprint, whose files are all as they were written; None where there is none.

    Parameters
    ----------
    record : the file in each that holds its `fingerprint` and the digests of its `files`
    """
    found = _runs_with(runs, record, fingerprint)
    return next((folder for folder, files in found if _is_whole(folder, files)), None)


def _runs_with(runs: Path, record: str, fingerprint: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield runs with a fingerprint, newest first, and the digests that their files should have."""
    for path in sorted(runs.glob(f"[0-9]*/{record}"), reverse=True):
        try:
            content = read_json(path)
            if content["fingerprint"] == fingerprint:
                yield path.parent, dict(content["files"])
        except (ValueError, KeyError, TypeError):
            continue  # a damaged record is no run; it is kept, so that a person can look at it


def _is_whole(folder: Path, files: dict[str, str]) -> bool:
    return all((folder / name).is_file() and digest_file(folder / name) == digest for name, digest in files.items())


@contextmanager
def placed_run(
    runs: Path, record: str, fingerprint: str, what: str, inputs: Mapping[str, Any] | None = None
) -> Iterator[tuple[Path, bool]]:
    """Yield what `place_run` returns; until the block ends, no other process places the same run."""
    with in_turn(runs, fingerprint[:12], what):
        yield place_run(runs, record, fingerprint, what, inputs)


@contextmanager
def in_turn(folder: Path, name: str, what: str) -> Iterator[None]:
    """Wait until no other process does the same work in a folder, and let none do it until the block ends."""
    lock = folder / f".{name}.lock"
    waits = partial(report, f"{what}: waiting for another process that does the same", 1, 1)
    with ExitStack() as held:
        with disk_explained(folder):
            held.enter_context(one_at_a_time(lock, waits))
        yield


def place_run(
    runs: Path, record: str, fingerprint: str, what: str = "", inputs: Mapping[str, Any] | None = None
) -> tuple[Path, bool]:
    """Return the folder of the run with a fingerprint, or where to write it; and whether it is there; see `find_run`.

    A run of this fingerprint whose files are damaged or missing is written again in its place: other records, such as
    the registry's, know it by its name.

    Parameters
    ----------
    what : what is reported to be up to date, where it is
    inputs : what the fingerprint is of; where no run has it, what changed since the latest run is reported
    """
    found = list(_runs_with(runs, record, fingerprint))
    current = next((folder for folder, files in found if _is_whole(folder, files)), None)
    if current is not None and what:
        report(f"{what} {current.name} is up to date", 1, 1)
    elif found and what:
        report(f"{what} is made again: a file of {relative_to_root(found[0][0])} is missing or was changed", 1, 1)
    elif inputs is not None and (why := why_again(runs / LATEST / record, fingerprint, inputs)):
        report(f"{what} is made again: {why}", 1, 1)
    damaged = found[0][0] if found else None
    return current or damaged or _new_folder(runs, fingerprint), current is not None


def _new_folder(runs: Path, fingerprint: str) -> Path:
    """Return where a new run goes: a name that no run has, whatever was written within the same second."""
    name = run_name(fingerprint)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(runs / free for free in names if not (runs / free).exists())


def why_again(record: Path, fingerprint: str, inputs: Mapping[str, Any]) -> str:
    """Return why the run of a record is not up to date: "settings.training.routes, code changed".

    Empty without such a run.

    Parameters
    ----------
    record : the record of the latest run
    fingerprint, inputs : of the run that would be made now
    """
    if not record.is_file():
        return ""
    try:
        latest = read_json(record)
        if latest["fingerprint"] == fingerprint:
            return f"a file of {relative_to_root(record.parent)} is missing or was changed"
        known = {name: latest[name] for name in inputs if name in latest}
    except (ValueError, KeyError, TypeError):
        return f"{relative_to_root(record)} is damaged"
    # As JSON has them, so that tuples and paths equal what was read
    return f"{', '.join(changed_keys(known, json.loads(canonical_json(inputs))))} changed"


def changed_keys(old: Any, new: Any, depth: int = 3) -> list[str]:
    """Return the keys at which two JSON values differ, as ``settings.training.routes``, to some depth."""
    if old == new:
        return []
    if depth == 0 or not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return [""]
    return [
        f"{key}.{deeper}".rstrip(".")
        for key in sorted({*old, *new})
        for deeper in changed_keys(old.get(key), new.get(key), depth - 1)
    ]


def write_timed_record(file: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a run, its last file, with when it was finished and the digests of all files beside it."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    write_json(file, {**record, FINISHED: now, "files": file_digests(file.parent)})


@contextmanager
def staged_run(folder: Path, file: str, record: dict[str, Any]) -> Iterator[Path]:
    """Yield where a run is written, which is there as a whole or not at all; its record comes last, with its files."""
    with staged_folder(folder) as building:
        yield building
        about = {"run": folder.name, "git_commit": git_commit(), "files": file_digests(building)}
        write_json(building / file, {**record, **about})


def publish_latest(folder: Path) -> None:
    """Point the `latest` link beside a run at it; a copy of a run, as copying without links leaves, gives way."""
    latest = folder.parent / LATEST
    if latest.is_dir() and not latest.is_symlink():
        remove_folder(latest)
    point_link(latest, folder)


def git_commit() -> str:
    """Return the commit of the code that runs, with ``+changes`` where its tree differs, or ``unknown`` without git."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}+changes" if _git("status", "--porcelain") else commit


def _git(*command: str) -> str:
    try:
        where = project_root() if other_code() is None else CODE_ROOT
        done = subprocess.run(["git", *command], cwd=where, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def without_places(settings: Any) -> Any:
    """Return settings as JSON has them without the paths of this machine.

    A path is relative to the checkout where it lies inside, else its last component.
    """
    if isinstance(settings, dict):
        return {key: without_places(item) for key, item in settings.items()}
    if isinstance(settings, list):
        return [without_places(item) for item in settings]
    return reduced_path(settings) if isinstance(settings, str) and settings.startswith(("/", "~", "..")) else settings


def reduced_path(text: str) -> str:
    """Return a path as `without_places` has it."""
    path = Path(os.path.normpath(project_root() / Path(text).expanduser()))
    return path.relative_to(project_root()).as_posix() if path.is_relative_to(project_root()) else path.name


@dataclass(frozen=True)
class Run:
    """A run with every stimulus's scores.

    Attributes
    ----------
    label : ``study/run``
    values : the content of `values.json`
    manifest : the content of `manifest.json`, empty where there is none
    kept : the content of `candidates.npz`, empty where there is none, as of earlier versions
    """

    label: str
    values: dict[str, Any]
    manifest: dict[str, Any]
    kept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str | None:
        """The subject whose brain it is from; None for a folder of videos."""
        return self.values.get("subject")


def find(run: str | Path) -> Path:
    """Return the folder of a run: the folder itself, or ``outputs/<study>/<run>`` by ``<study>/<run>`` or by ``<run>``.

    A run's name may be `latest`; evaluations of folders lie one deeper, as ``evaluations/<name>/<run>``. Raises
    `SourceMissing` or `ConfigError` where there is no such run, or several.
    """
    outputs = project_root() / "outputs"
    for place in (Path(run), outputs / run, outputs / EVALUATIONS / run):
        if place.is_dir() and not _is_study(place):
            return place.resolve()
    name = str(run)
    named = {path for pattern in (f"*/{name}", f"{EVALUATIONS}/*/{name}") for path in outputs.glob(pattern)}
    matches = sorted(path for path in named if path.is_dir() and not _is_study(path))
    if len(matches) == 1:
        return matches[0].resolve()
    if matches:
        names = [path.relative_to(outputs).as_posix() for path in matches]
        raise ConfigError(f"{name}: several runs have this name; name one of {', '.join(names)}")
    runs = sorted({*outputs.glob(f"*/*/{VALUES}"), *outputs.glob(f"{EVALUATIONS}/*/*/{VALUES}")})
    known = [path.parent.relative_to(outputs).as_posix() for path in runs]
    raise SourceMissing(f"{name}: no such run under outputs/{nearest(name, known)}")


def _is_study(place: Path) -> bool:
    """Say whether a folder is that of a study's runs and no run itself."""
    return not (place / MANIFEST).is_file() and not (place / VALUES).is_file() and (place / LATEST).is_dir()


def read_run(folder: Path) -> Run:
    """Read a run's values and its manifest.

    Raises `SourceMissing` or `SourceError` where it has no values of each stimulus, or the file is damaged.
    """
    file = folder / VALUES
    if not file.is_file():
        raise SourceMissing(
            f"{relative_to_root(folder)}: holds no {VALUES}, which earlier versions did not write; "
            "run 'brain2video reconstruct' again"
        )
    try:
        values = read_json(file)
        if values["schema"] != SCHEMA:
            raise SourceError(
                f"{relative_to_root(file)}: has schema {values['schema']!r}, expected {SCHEMA}; update brain2video"
            )
        label = f"{values['study']}/{values['run']}"
        n = len(values["stimuli"])
        parts = [values["rows"], values.get("influences", {})]
        whole = all(len(listed) == n for part in parts for scored in part.values() for listed in scored.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{relative_to_root(file)}: holds no values of a run; run 'brain2video reconstruct' again"
        ) from error
    if not whole:
        raise SourceError(
            f"{relative_to_root(file)}: a metric lacks the value of a stimulus; run 'brain2video reconstruct' again"
        )
    manifest = folder / MANIFEST
    return Run(label, values, read_json(manifest) if manifest.is_file() else {}, _read_kept(folder / CANDIDATES))


def _read_kept(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    from evaluation.statistics.candidates import read_kept

    try:
        return read_kept(file.read_bytes())
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{relative_to_root(file)}: damaged ({' '.join(str(error).split())}); make the run again"
        ) from error
