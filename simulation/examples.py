"""Writes small simulated recordings in the forms that own recordings come in: a folder of arrays, or a BIDS dataset.

They are what `configs/arrays_example.yaml` and `configs/bids_example.yaml` read: two simulated brains see clips of the
small world in runs, with pauses of three seconds. Training and test clips are shown in runs of their own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError
from core.files import staged_folder, write_json
from core.progress import track
from core.seeds import rng_for
from feature_store.sources.bold_moments import layout
from simulation.brains import SimulatedSubject, simulate_subject
from simulation.spaces import haemodynamic
from simulation.world import SPLITS, Combination, SimulationConfig, Split
from simulation.write import DESCRIPTION, counts_of, seen_by_brains, shown, write_clips

Form = Literal["arrays", "bids"]
Floats = NDArray[np.float64]

CLIP_S, EVERY_S = 3.0, 6.0
"""How long a clip is shown, and from one onset to the next."""
LEAD_S, TAIL_S = 6.0, 20.0
"""Before a run's first clip and after its last one began: a haemodynamic response lasts about 20 s."""
TRIALS_A_RUN = 60
TR_S = 1.5
ODDBALL_EVERY = 12
"""An oddball, which shows no clip, takes the place of about every so many clips."""
BASELINE, UNIT = 1000.0, 10.0
"""The signal's mean, and how far a beta of 1 raises it."""
ODDBALL, DRIFT, MOTION, SCANNER = 15.0, 8.0, 4.0, 4.0
"""Sizes of what a run holds beside responses, in units of the signal: the oddball's response, slow drifts, what the
head's motion adds, and the scanner's noise (standard deviations)."""
SPACE = "_space-T1w_desc-{what}"
AFFINE = np.array([[3.0, 0, 0, -20], [0, 3, 0, -20], [0, 0, 3, -10], [0, 0, 0, 1]])
MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def example_config(seed: int) -> SimulationConfig:
    """Return what the examples simulate: enough to decode above chance, and little enough to run within a minute."""
    return SimulationConfig(
        n_train=120, n_test=24, subjects=2, train_repeats=2, test_repeats=4, voxels=400, ncsnr=(0.2, 1.2), seed=seed
    )


@dataclass(frozen=True)
class Shown:
    """One run of one subject.

    Attributes
    ----------
    split, number : which task it belongs to, and its number in that task, from 1
    trials : table of stimulus, repetition and onset_s, in the order of onsets
    oddballs_s : onsets of what shows no clip
    length_s : of the run
    """

    split: Split
    number: int
    trials: pd.DataFrame
    oddballs_s: Floats
    length_s: float


def write_example(form: Form, destination: Path, config: SimulationConfig) -> Path:
    """Write simulated recordings, whole or not at all, and return their folder.

    Raises `SourceError` where the folder holds something: nothing is replaced.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise SourceError(f"{destination}: is not empty; name a folder that is empty or not there, or remove it")
    combinations, jitter = shown(config)
    seen = seen_by_brains(config, combinations, jitter)
    with staged_folder(destination) as folder:
        write_clips(config, folder, combinations, jitter)
        if form == "arrays":
            _write_stimuli(config, folder, combinations)
        else:
            _write_descriptions(config, folder)
        for number in track(range(1, config.subjects + 1), "simulated brains"):
            subject, runs = simulate_subject(seen, config, number), list(runs_of(config, number))
            write = _write_arrays if form == "arrays" else _write_bids
            write(config, folder, number, subject, runs)
    return destination


def runs_of(config: SimulationConfig, number: int) -> Iterator[Shown]:
    """Yield a subject's runs, training first: every repetition of all clips in an order of its own."""
    counts = counts_of(config)
    for split in SPLITS:
        rng = rng_for(config.seed, "example", "order", number, split)
        names = np.array(counts.stimuli(split))
        order = [(str(name), repeat) for repeat in range(counts.repeats(split)) for name in rng.permutation(names)]
        runs = math.ceil(len(order) / TRIALS_A_RUN)
        for run in range(runs):
            mine = order[run * len(order) // runs : (run + 1) * len(order) // runs]
            places = len(mine) + max(1, len(mine) // ODDBALL_EVERY)
            odd = np.sort(rng.choice(np.arange(1, places - 1), places - len(mine), replace=False))
            onsets = LEAD_S + EVERY_S * np.arange(places)
            table = pd.DataFrame(mine, columns=["stimulus", "repetition"])
            table["onset_s"] = np.delete(onsets, odd)
            yield Shown(split, run + 1, table, onsets[odd], float(onsets[-1] + TAIL_S))


def _betas(config: SimulationConfig, subject: SimulatedSubject, run: Shown) -> Floats:
    """Return the responses to a run's trials, (trial, voxel)."""
    stimuli = counts_of(config).stimuli(run.split)
    rows = [stimuli.index(name) for name in run.trials["stimulus"]]
    whole = np.concatenate([betas[run.split] for betas in subject.betas.values()], axis=2)
    return np.asarray(whole[rows, run.trials["repetition"].to_numpy()])


def _rois(subject: SimulatedSubject) -> list[str]:
    return [roi for roi, betas in subject.betas.items() for _ in range(betas["train"].shape[2])]


def _write_stimuli(config: SimulationConfig, folder: Path, combinations: Sequence[Combination]) -> None:
    counts = counts_of(config)
    owners = [(stimulus, split) for split in SPLITS for stimulus in counts.stimuli(split)]
    table = pd.DataFrame(owners, columns=["stimulus_id", "split"])
    table["file"] = [layout.CLIP.format(split=split, stimulus=stimulus) for stimulus, split in owners]
    table["caption"] = [combination.captions(1)[0] for combination in combinations]
    table["group"] = [combination.shape for combination in combinations]
    table.to_csv(folder / "stimuli.csv", index=False)


def _write_arrays(
    config: SimulationConfig, folder: Path, number: int, subject: SimulatedSubject, runs: Sequence[Shown]
) -> None:
    """Write one subject's betas and their tables; every run of either part has a number of its own."""
    own = folder / f"sub-{number:02d}"
    own.mkdir()
    np.save(own / "responses.npy", np.concatenate([_betas(config, subject, run) for run in runs]).astype(np.float32))
    tables = [run.trials.assign(run=index, duration_s=CLIP_S) for index, run in enumerate(runs, start=1)]
    trials = pd.concat(tables).rename(columns={"stimulus": "stimulus_id"})
    trials[["stimulus_id", "repetition", "run", "onset_s", "duration_s"]].to_csv(own / "trials.csv", index=False)
    rois = _rois(subject)
    pd.DataFrame({"roi": rois, "hemisphere": [roi[0] for roi in rois]}).to_csv(own / "voxels.csv", index=False)


def _write_descriptions(config: SimulationConfig, folder: Path) -> None:
    by = {"Name": "brain2video simulation"}
    name, version = "Simulated recordings: the small world seen by simulated brains", "1.8.0"
    raw = {"Name": name, "BIDSVersion": version, "DatasetType": "raw", "License": "CC0", "GeneratedBy": [by]}
    simulated = {"Name": "brain2video", "Config": config.recorded()}
    write_json(folder / DESCRIPTION, raw | {"SimulatedBy": simulated})
    write_json(folder / "derivatives/fmriprep" / DESCRIPTION, raw | {"DatasetType": "derivative"})
    subjects = [f"sub-{number:02d}" for number in range(1, config.subjects + 1)]
    _write_tsv(folder / "participants.tsv", {"participant_id": subjects})
    for split in SPLITS:
        write_json(folder / f"task-{split}_bold.json", {"TaskName": split, "RepetitionTime": TR_S})


def _write_bids(
    config: SimulationConfig, folder: Path, number: int, subject: SimulatedSubject, runs: Sequence[Shown]
) -> None:
    """Write one subject's events, and its preprocessed runs, masks and confounds as fMRIPrep names them."""
    name, mask = f"sub-{number:02d}", _mask(len(subject.ncsnr))
    for run in runs:
        label = f"{name}/func/{name}_task-{run.split}_run-{run.number}"
        files = [layout.CLIP.format(split=run.split, stimulus=stimulus) for stimulus in run.trials["stimulus"]]
        onsets = np.concatenate([run.trials["onset_s"].to_numpy(np.float64), run.oddballs_s])
        order = np.argsort(onsets, kind="stable")
        shown_files = np.array([*files, *["n/a"] * len(run.oddballs_s)])[order]
        _write_tsv(
            folder / f"{label}_events.tsv", {"onset": onsets[order], "duration": CLIP_S, "stim_file": shown_files}
        )
        rng = rng_for(config.seed, "example", "scanner", number, run.split, run.number)
        confounds = _motion(round(run.length_s / TR_S), rng)
        series = _series(_betas(config, subject, run), run, confounds, rng)
        volume = np.zeros((*mask.shape, len(series)), dtype=np.float32)
        volume[mask] = series.T
        base = f"{folder}/derivatives/fmriprep/{label}"
        _write_image(Path(base + SPACE.format(what="preproc") + "_bold.nii.gz"), volume)
        _write_image(Path(base + SPACE.format(what="brain") + "_mask.nii.gz"), mask.astype(np.uint8))
        _write_tsv(Path(f"{base}_desc-confounds_timeseries.tsv"), confounds)


def _series(betas: Floats, run: Shown, confounds: dict[str, Floats], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a run's signal, (volume, voxel): responses, and what a scanner adds to them."""
    motion = np.column_stack([confounds[name] for name in MOTION_COLUMNS])
    volumes, voxels = len(motion), betas.shape[1]
    times_s = (np.arange(volumes, dtype=np.float64) + 0.5) * TR_S
    signal = UNIT * _responses(times_s, run.trials["onset_s"].to_numpy(np.float64)) @ betas
    signal += ODDBALL * _responses(times_s, run.oddballs_s).sum(axis=1, keepdims=True) * rng.uniform(0, 1, voxels)
    slow = np.cos(np.pi * np.outer(np.arange(volumes) + 0.5, (1, 2)) / volumes)
    signal += DRIFT * slow @ rng.normal(size=(2, voxels))
    signal += MOTION * (motion / motion.std(axis=0)) @ rng.normal(size=(motion.shape[1], voxels)) / math.sqrt(6)
    noise = SCANNER * rng.normal(size=signal.shape)
    return np.asarray(BASELINE + signal + noise, dtype=np.float32)


def _responses(times_s: Floats, onsets_s: Floats) -> Floats:
    """Return the haemodynamic response to clips of `CLIP_S`, (time, onset)."""
    parts = (np.arange(6) + 0.5) * CLIP_S / 6
    after = times_s[:, None, None] - onsets_s[None, :, None] - parts
    height = np.vectorize(lambda t_s: haemodynamic(t_s) if 0 < t_s < 40 else 0.0, otypes=[np.float64])(after)
    return np.asarray(height.mean(axis=2))


def _motion(volumes: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the head's motion, a slow walk, by fMRIPrep's names: mm, and radians."""
    steps = rng.normal(0, 1, (volumes, 6)) * ([0.01] * 3 + [0.0002] * 3)
    walk = np.cumsum(steps, axis=0)
    change = np.abs(np.diff(walk, axis=0))
    moved = change[:, :3].sum(axis=1) + 50 * change[:, 3:].sum(axis=1)
    columns: dict[str, Any] = {name: walk[:, index] for index, name in enumerate(MOTION_COLUMNS)}
    return columns | {"framewise_displacement": np.r_[np.nan, moved]}


def _mask(voxels: int) -> NDArray[np.bool_]:
    """Return a brain of so many voxels inside an empty border: a box, its last layer filled in part."""
    side = math.ceil(voxels ** (1 / 3))
    inner = (np.arange(side**3) < voxels).reshape(side, side, side)
    return np.pad(inner, 1)


def _write_image(path: Path, values: NDArray[Any]) -> None:
    image = nib.Nifti1Image(values, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    if values.ndim == 4:
        image.header["pixdim"][4] = TR_S
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def _write_tsv(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
