"""Sources whose stimuli follow each other in time: independent walks, and real people who watch a sitcom."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from studies.study import Study, load_study

CLIP_S = 10
"""Seconds, and volumes, of a clip of the sitcom."""


def ar1(rng: np.random.Generator, count: int, width: int, rho: float) -> np.ndarray:
    """Return (count, width) independent walks of unit variance whose neighbours correlate by rho."""
    rows = rng.normal(size=(count, width))
    for row in range(1, count):
        rows[row] = rho * rows[row - 1] + np.sqrt(1 - rho**2) * rows[row]
    return rows


def write_timed(
    folder: Path,
    stimuli: Mapping[str, Sequence[Any]],
    trials: Mapping[str, Sequence[Any]],
    responses: Mapping[str, np.ndarray],
    targets: np.ndarray,
) -> Path:
    """Write an `arrays` source of one trial a stimulus, without clips."""
    names = [f"c{index:04d}" for index in range(len(targets))]
    (folder / "targets").mkdir(parents=True)
    np.save(folder / "targets" / "seen.npy", targets.astype(np.float32))
    pd.DataFrame({"stimulus_id": names, "file": "", "caption": "", **stimuli}).to_csv(
        folder / "stimuli.csv", index=False
    )
    for subject, values in responses.items():
        (folder / subject).mkdir()
        np.save(folder / subject / "responses.npy", values.astype(np.float32))
        pd.DataFrame({"stimulus_id": names, "repetition": 0, **trials}).to_csv(
            folder / subject / "trials.csv", index=False
        )
    return folder


def write_walks(folder: Path, seed: int, *, rho: float = 0.9, clips: int = 402, step_s: float = 4.0) -> Path:
    """Write a run of clips whose brain and whose targets know nothing of each other; `part` deals them in four."""
    rng = np.random.default_rng(seed)
    part = rng.permutation(np.arange(clips) % 4)
    trials = {"run": ["1"] * clips, "onset_s": (step_s * np.arange(clips)).tolist()}
    brain, targets = ar1(rng, clips, 60, rho), ar1(rng, clips, 20, rho)
    return write_timed(folder, {"part": part.tolist()}, trials, {"sub-01": brain}, targets)


def write_sitcom(song5: Path, folder: Path, subjects: Sequence[str], *, shift: int = 0) -> Path:
    """Write two episodes as clips of ten volumes; `shift` clips apart, responses meet the targets of other clips."""
    segment: list[str] = []
    start: list[float] = []
    targets: list[np.ndarray] = []
    responses: dict[str, list[np.ndarray]] = {subject: [] for subject in subjects}
    for episode in ("sitcomep1", "sitcomep2"):
        seen = _clips(np.load(song5 / f"{episode}-embeddings.npy"))
        brains = {subject: _clips(np.load(song5 / subject / f"{episode}.npy")) for subject in subjects}
        count = min(map(len, [seen, *brains.values()]))
        targets.append(np.roll(seen[:count], shift, axis=0))
        segment += [episode] * count
        start += [float(CLIP_S * clip) for clip in range(count)]
        for subject, values in brains.items():
            responses[subject].append(values[:count])
    rng = np.random.default_rng(0)
    part = rng.permutation(np.arange(len(segment)) % 4).tolist()
    return write_timed(
        folder,
        {"segment": segment, "start_s": start, "part": part},
        {"run": segment, "onset_s": start},
        {subject: np.concatenate(values) for subject, values in responses.items()},
        np.concatenate(targets),
    )


def _clips(series: np.ndarray) -> np.ndarray:
    """Return the means of every ten rows of (time, value)."""
    count = len(series) // CLIP_S
    return np.asarray(series[: count * CLIP_S].reshape(count, CLIP_S, -1).mean(axis=1))


def study_of(home: Path, source: Mapping[str, Any], **changed: Any) -> Study:
    """Return a study of a source, by default of given targets, decoded by ridge."""
    given = {"study": "timed", "targets": {"seen": {"extractor": "given"}}, "roles": {"z": "seen"}}
    path = home / "configs" / "timed.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({**given, "source": dict(source), **changed}, sort_keys=False))
    return load_study(path)


def arrays(folder: Path, **split: Any) -> dict[str, Any]:
    """Return the settings of an `arrays` source with a split."""
    return {"kind": "arrays", "path": str(folder), "split": split}
