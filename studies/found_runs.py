"""Finds a run under `outputs/` by its name, and reads every stimulus's scores and what the run was made with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config import nearest
from core.errors import ConfigError, SourceError, SourceMissing
from core.files import read_json
from studies.home import home, shown

EVALUATIONS = "evaluations"
VALUES, MANIFEST = "values.json", "manifest.json"
SCHEMA = 1
JUDGED = {
    "clip": ("clip", "clip_frames", "caption_clip", "text"),
    "frames": ("frame_classes",),
    "videos": ("video_classes",),
    "small_world": ("video_attributes", "caption_attributes", "video_classes"),
}
"""The spaces that each judge makes."""


@dataclass(frozen=True)
class Run:
    """A run with every stimulus's scores.

    Attributes
    ----------
    label : ``study/run``
    values : what `values.json` holds
    manifest : what the run was made from, empty where it does not say
    """

    label: str
    values: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def subject(self) -> str | None:
        """Whose brain it is from; None of a folder of videos."""
        return self.values.get("subject")


def find(run: str | Path) -> Path:
    """Return the folder of a run: the folder itself, or ``outputs/<study>/<run>`` by ``<study>/<run>`` or by ``<run>``.

    A run's name may be `latest`; evaluations of folders lie one deeper, as ``evaluations/<name>/<run>``.

    Raises
    ------
    SourceMissing, ConfigError
        There is no such run, or several.
    """
    outputs = home() / "outputs"
    for place in (Path(run), outputs / run, outputs / EVALUATIONS / run):
        if place.is_dir() and not _is_study(place):
            return place.resolve()
    name = str(run)
    matches = sorted({path for pattern in (f"*/{name}", f"{EVALUATIONS}/*/{name}") for path in _glob(outputs, pattern)})
    if len(matches) == 1:
        return matches[0].resolve()
    if matches:
        told = [path.relative_to(outputs).as_posix() for path in matches]
        raise ConfigError(f"{name}: several runs are called so; name one of {', '.join(told)}")
    known = [path.parent.relative_to(outputs).as_posix() for path in _runs(outputs)]
    raise SourceMissing(f"{name}: no such run under outputs/{nearest(name, known)}")


def _is_study(place: Path) -> bool:
    """Say whether a folder is that of a study's runs and no run itself."""
    return not (place / MANIFEST).is_file() and not (place / VALUES).is_file() and (place / "latest").is_dir()


def _glob(outputs: Path, pattern: str) -> Iterator[Path]:
    return (path for path in outputs.glob(pattern) if path.is_dir() and not _is_study(path))


def _runs(outputs: Path) -> list[Path]:
    return sorted({*outputs.glob(f"*/*/{VALUES}"), *outputs.glob(f"{EVALUATIONS}/*/*/{VALUES}")})


def read_run(folder: Path) -> Run:
    """Read a run's values and what it was made from.

    Raises
    ------
    SourceMissing, SourceError
        It has no values of each stimulus, or the file is damaged.
    """
    file = folder / VALUES
    if not file.is_file():
        raise SourceMissing(
            f"{shown(folder)}: holds no {VALUES}, which earlier versions did not write; "
            "run 'brain2video reconstruct' again"
        )
    try:
        values = read_json(file)
        if values["schema"] != SCHEMA:
            raise SourceError(f"{shown(file)}: has schema {values['schema']!r}, expected {SCHEMA}; update brain2video")
        label = f"{values['study']}/{values['run']}"
        n = len(values["stimuli"])
        whole = all(len(one) == n for scored in values["rows"].values() for one in scored.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{shown(file)}: holds no values of a run; run 'brain2video reconstruct' again") from error
    if not whole:
        raise SourceError(f"{shown(file)}: a metric has not one value a stimulus; run 'brain2video reconstruct' again")
    manifest = folder / MANIFEST
    return Run(label, values, read_json(manifest) if manifest.is_file() else {})


def made_with(run: Run) -> dict[str, str]:
    """Return the digest of what made each space, as far as the run says: its judges, and its targets' extractors."""
    judges: dict[str, str] = run.manifest.get("judges") or {}
    made: dict[str, str] = {}
    for judge, spaces in JUDGED.items():
        for space in spaces:
            if judge in judges:
                made.setdefault(space, str(judges[judge]))
    targets = (run.manifest.get("config") or {}).get("targets", {})
    for target, revision in (run.manifest.get("made_from") or {}).get("extractors", {}).items():
        made[_space(target, targets.get(target, {}))] = str(revision)
    return made


def _space(target: str, config: Mapping[str, Any]) -> str:
    made_by = str(config.get("extractor", target))
    return target if made_by == "given" else made_by
