"""Scores a folder of videos, made by any model, against a folder of what was shown.

    from studies.comparison.evaluate import EvaluationRequest, evaluate_folder
    evaluation = evaluate_folder(EvaluationRequest(folder="peer/videos", truth="peer/truth"))
    evaluation.metrics["rows"]["reconstruction"]["pixels.two_way"]

Writes ``outputs/evaluations/<name>/<run>/`` with `metrics.json`, `values.json`, `candidates.npz`, `gallery.html`,
`sheet.png`, the clips as they were scored (`videos/`, `seen/`), `manifest.json` and, where there are any,
`captions.csv` and `diagnoses.png`.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import PositiveInt

from core.checkout import project_root, relative_to_root
from core.clips import video_files
from core.code import code_digest
from core.config import Config
from core.errors import ConfigError
from core.files import digest_file, digest_files, digest_json, read_json, write_bytes, write_json
from core.progress import report as progress
from core.progress import track
from core.threads import computing
from evaluation.metrics import metric
from evaluation.report.gallery.page import page_digest
from evaluation.report.notes import in_order
from evaluation.statistics import scores
from evaluation.statistics.candidates import kept_bytes
from models.classifiers.settings import JudgesConfig
from studies.comparison.score import score_pairs, write_folder_pictures, write_scored
from studies.comparison.videos import (
    DECODED,
    SEEN_CAPTION,
    STIMULUS,
    Paired,
    Sampling,
    alignment_notes,
    folders_of,
    fps_of,
    pair,
    read_captions,
    sampling_of,
    videos_in,
)
from studies.runs import (
    CANDIDATES,
    CAPTIONS,
    EVALUATIONS,
    MANIFEST,
    METRICS,
    VALUES,
    VIDEOS,
    file_digests,
    place_run,
    publish_latest,
    staged_run,
)
from studies.scoring import revisions_of


class EvaluationRequest(Config):
    """What is scored, compared with what, and by which metrics and models."""

    folder: Path
    """Of videos, or one of our own runs."""
    truth: Path | None = None
    """Of what was shown; by default `seen/` of the run."""
    training: Path | None = None
    """Of the clips that the model was trained on."""
    captions: Path | None = None
    """A CSV of stimulus, decoded and, optionally, seen; by default `captions.csv` of the run."""
    output: Path | None = None
    """Where the evaluation is written."""
    name: str | None = None
    """What it is called; by default after the folder."""
    frames: PositiveInt | None = None
    """How the clips are read; as the truth is by default."""
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    whole: bool = False
    """Stretch every video over the truth's length, whatever its own."""
    allow_missing: bool = False
    """Score what is there where videos are missing."""
    metrics: tuple[str, ...] = ()
    """`space.metric` or bare names; by default all but those that are computed only where they are named."""
    judges: JudgesConfig = JudgesConfig()
    """Models that look at clips and captions."""
    seed: int = 0


class EvaluationRef(Config):
    """An evaluation on disk.

    Attributes
    ----------
    folder : relative to the checkout where it lies inside
    digest : of metrics.json
    fresh : whether it was already there, up to date
    """

    name: str
    run: str
    folder: str
    digest: str
    fresh: bool

    @property
    def path(self) -> Path:
        """Where it lies."""
        return project_root() / self.folder

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        content: dict[str, Any] = read_json(self.path / METRICS)
        return content


@computing()
def evaluate_folder(request: EvaluationRequest) -> EvaluationRef:
    """Score a folder, unless there is an evaluation that is up to date.

    Raises `ConfigError`, `SourceError`, `SourceMissing` or `ModelError` where the folders cannot be paired or read, a
    model is not there, or no metric applies.
    """
    for name in request.metrics:
        metric(name)  # refuses what is none before anything is read
    paired = pair(*folders_of(request.folder, request.truth), allow_missing=request.allow_missing)
    sampling, notes = sampling_of(paired, frames=request.frames, height=request.height, width=request.width)
    notes += alignment_notes(paired, sampling, whole=request.whole)
    name = _plain(request.name) if request.name else name_of(request.folder)
    record = _record(request, name, paired, sampling)
    folder, fresh = _place(request, name, record["fingerprint"])
    if fresh:
        progress(f"evaluation {folder.name} is up to date", 1, 1)
    else:
        _write(request, name, folder, record, paired, sampling, notes)
    if request.output is None:
        publish_latest(folder)
    return EvaluationRef(
        name=name, run=folder.name, folder=relative_to_root(folder), digest=digest_file(folder / METRICS), fresh=fresh
    )


def name_of(folder: Path) -> str:
    """Return what an evaluation of a folder is called: its name, with the study's before it for one of our runs."""
    path = folder.resolve()
    path = path.parent if path.name == VIDEOS else path
    parts = [path.parent.name, path.name] if (path / METRICS).is_file() else [path.name]
    return _plain("-".join(parts))


def _plain(name: str) -> str:
    """Return a name that can be a folder's anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "folder"


def _captions_file(request: EvaluationRequest) -> Path | None:
    beside = request.folder / CAPTIONS
    return request.captions or (beside if beside.is_file() else None)


def _place(request: EvaluationRequest, name: str, fingerprint: str) -> tuple[Path, bool]:
    """Return the folder of an evaluation, and whether it is there already, undamaged."""
    if request.output is None:
        runs = project_root() / "outputs" / EVALUATIONS / name
        return place_run(runs, MANIFEST, fingerprint)
    folder = request.output.resolve()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{request.output}: is a file; name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return folder, False
    try:
        manifest = read_json(folder / MANIFEST)
        is_ours = "evaluation" in manifest
    except (OSError, ValueError, TypeError):
        is_ours = False
    if not is_ours:
        raise ConfigError(f"{request.output}: holds something else than an evaluation; name another folder")
    files = {file: digest for file, digest in file_digests(folder).items() if file != MANIFEST}
    return folder, bool(manifest.get("fingerprint") == fingerprint and manifest.get("files") == files)


def _record(request: EvaluationRequest, name: str, paired: Paired, sampling: Sampling) -> dict[str, Any]:
    """Return the inputs, settings and code of an evaluation, and the fingerprint of all that may show in its files."""
    training = videos_in(request.training) if request.training is not None else None
    captions = _captions_file(request)
    fingerprinted = {
        "evaluation": name,
        "made": _digests({name: video.path for name, video in paired.made.items()}, "digesting what was made"),
        "shown": _digests({name: video.path for name, video in paired.shown.items()}, "digesting what was shown"),
        "missing": paired.missing,
        "extra": paired.extra,
        "training": _digests(training, "digesting training clips") if training else None,
        "captions": digest_file(captions) if captions is not None and captions.is_file() else None,
        "sampling": sampling.model_dump(),
        "whole": request.whole,
        "metrics": list(request.metrics),
        "judges": revisions_of(request.judges),
        "seed": request.seed,
        "code": code_digest(evaluate_folder, request.judges),
        "page": page_digest(),
    }
    return {**fingerprinted, "fingerprint": digest_json(fingerprinted)}


def _digests(videos: dict[str, Path], what: str) -> dict[str, str]:
    """Return the digest of every video, by name; of a folder of frames, over all of them."""
    return {name: digest_files(path.parent, video_files(path)) for name, path in track(list(videos.items()), what)}


def _write(
    request: EvaluationRequest,
    name: str,
    folder: Path,
    record: dict[str, Any],
    paired: Paired,
    sampling: Sampling,
    notes: list[str],
) -> None:
    captions = read_captions(_captions_file(request), paired.stimuli)
    scored = score_pairs(
        paired,
        sampling,
        captions,
        training=request.training,
        judges=request.judges,
        metrics=request.metrics,
        seed=request.seed,
        whole=request.whole,
    )
    report: dict[str, Any] = {
        **_counted(scored.report, paired),
        "notes": in_order([*notes, *scored.report["notes"]]),
        "folder": _place_of(request.folder),
        "sampling": sampling.model_dump(),
        "missing": paired.missing,
    }
    metrics = scores.report(name, folder.name, len(scored.stimuli), **report)
    values = _with_missing({"study": name, "run": folder.name, **scored.table.record(scored.stimuli)}, paired)
    fps = fps_of(paired, sampling)
    with staged_run(folder, MANIFEST, record) as building:
        write_scored(building, scored, sampling, fps=fps)
        if captions is not None:
            seen = "" if captions.seen is None else captions.seen
            columns = {STIMULUS: scored.stimuli, SEEN_CAPTION: seen, DECODED: captions.decoded}
            pd.DataFrame(columns).to_csv(building / CAPTIONS, index=False)
        write_json(building / METRICS, metrics)
        write_json(building / VALUES, values)
        write_bytes(building / CANDIDATES, kept_bytes(scored.table.kept(scored.stimuli)))
        write_folder_pictures(building, name, scored, metrics, fps=fps)


def _place_of(folder: Path) -> str:
    """Return a folder without the places of this machine: relative to the checkout, else its name."""
    place = relative_to_root(folder.resolve())
    return Path(place).name if Path(place).is_absolute() else place


def _counted(report: dict[str, Any], paired: Paired) -> dict[str, Any]:
    """Return a report with the number of stimuli beside every value, where some are missing."""
    if not paired.missing:
        return report
    counted = {
        part: {
            row: {name: {"n": len(paired.stimuli), **entry} for name, entry in entries.items()}
            for row, entries in report[part].items()
        }
        for part in ("rows", "comparisons")
    }
    return {**report, **counted}


def _with_missing(values: dict[str, Any], paired: Paired) -> dict[str, Any]:
    """Return the values of every stimulus that was shown, null where nothing was made of it."""
    stimuli = sorted([*paired.stimuli, *paired.missing])
    place = {name: index for index, name in enumerate(paired.stimuli)}
    padded = {
        part: {
            row: {name: [own[place[s]] if s in place else None for s in stimuli] for name, own in scored.items()}
            for row, scored in values[part].items()
        }
        for part in ("rows", "influences")
    }
    return {**values, "stimuli": stimuli, **padded}
