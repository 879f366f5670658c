"""Writes a simulated study in BOLD Moments' layout, so that it is processed as the real dataset is."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.clips import write_clip
from core.errors import SourceError
from core.files import read_json, staged_folder, write_json
from core.progress import track
from core.seeds import rng_for, seed_for
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.layout import ROIS, Counts
from simulation.brains import Seen, SimulatedSubject, simulate_subject
from simulation.spaces import SpaceWriter, space_files, write_pickle
from simulation.world import (
    COLOURS,
    LATE_SETTINGS,
    MOTIONS,
    SPLITS,
    TEXTURES,
    WORLDS,
    Combination,
    Floats,
    SimulationConfig,
    Split,
    draw_jitter,
    render,
)

DESCRIPTION = "dataset_description.json"
VERSION = 1
"""Counts up whenever the same config would give other bytes."""

MIN_SIDE = 128
"""Smaller clips are enlarged: x264 does not give the same bytes twice for frames of few macroblocks."""

ANNOTATORS = 5

BRAIN_FRAMES, BRAIN_SIDE = 8, 32
"""How finely simulated brains see a clip."""
IMAGINED = 512
"""How many clips, never shown to a subject, the activity at rest is mixed from."""


def simulate(config: SimulationConfig, destination: Path, *, replace: bool = False) -> Path:
    """Write a simulated dataset, whole or not at all, unless the same one is already there; return its folder.

    A simulated dataset of another config is replaced if `replace`. Anything else is never replaced: `SourceError`.
    """
    if is_there(config, destination, replace=replace):
        return destination
    combinations, jitter = shown(config)
    with staged_folder(destination) as folder:
        write_clips(config, folder, combinations, jitter)
        _write_betas(config, folder, combinations, jitter)
        write_json(folder / layout.ANNOTATIONS, _annotations(config, combinations))
        write_json(folder / DESCRIPTION, _description(config))
    return destination


def counts_of(config: SimulationConfig) -> Counts:
    """Return how many stimuli and repeats the simulated dataset holds, as the config of its source needs them."""
    repeats = {"train_repeats": config.train_repeats, "test_repeats": config.test_repeats}
    return Counts(train=config.n_train, test=config.n_test, **repeats)


def is_there(config: SimulationConfig, destination: Path, *, replace: bool = False) -> bool:
    """Return whether a folder holds this very simulation; raises `SourceError` where it holds something else."""
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return False
    made_by = _simulated_by(destination / DESCRIPTION)
    if made_by is None:
        raise SourceError(f"{destination}: holds files that no simulation wrote; choose another folder")
    if made_by != _description(config)["SimulatedBy"]:
        if replace:
            return False
        raise SourceError(
            f"{destination}: holds a simulation with {_difference(made_by, config)}; "
            "replace it, or choose another folder"
        )
    return all((destination / path).is_file() for path in _files(config))


def _simulated_by(description: Path) -> dict[str, Any] | None:
    """Return what a dataset's description says of its simulation, None where no simulation wrote it."""
    try:
        content = read_json(description)
    except (OSError, ValueError):
        return None
    made_by = content.get("SimulatedBy") if isinstance(content, dict) else None
    return made_by if isinstance(made_by, dict) else None


def _difference(made_by: dict[str, Any], config: SimulationConfig) -> str:
    """Name the first setting in which the simulation on disk differs."""
    wanted = config.model_dump(mode="json")
    found = {**SimulationConfig().model_dump(mode="json", include=LATE_SETTINGS), **made_by.get("Config", {})}
    for key in wanted:
        if found.get(key) != wanted[key]:
            return f"{key} = {found.get(key)}, expected {wanted[key]}"
    return f"version {made_by.get('Version')} of the simulation, expected {VERSION}"


def _files(config: SimulationConfig) -> Iterator[str]:
    """Yield every file of a complete dataset."""
    yield layout.ANNOTATIONS
    for split in SPLITS:
        for stimulus in counts_of(config).stimuli(split):
            yield f"{layout.STIMULI}/{layout.CLIP.format(split=split, stimulus=stimulus)}"
    for number in range(1, config.subjects + 1):
        subject = f"sub-{number:02d}"
        if "rois" in config.spaces:
            yield from (layout.BETAS.format(subject=subject, roi=roi) for roi in ROIS)
        if config.rest:
            yield from (layout.REST.format(subject=subject, roi=roi) for roi in ROIS)
        yield from space_files(config, counts_of(config), subject)


def shown(config: SimulationConfig) -> tuple[list[Combination], Floats]:
    """Draw what is shown, training stimuli first, and the jitter of each clip."""
    world = WORLDS[config.world]
    train = world.draw("train", config.n_train, seed=seed_for(config.seed, "train"))
    test = world.draw("test", config.n_test, seed=seed_for(config.seed, "test"))
    combinations = [*train, *test]
    return combinations, draw_jitter(len(combinations), seed_for(config.seed, "shown"), world.jitter)


def imagined(config: SimulationConfig) -> tuple[list[Combination], Floats]:
    """Draw what is re-enacted at rest, and its jitter: of the pool that no study shows, in training or test."""
    world, seed = WORLDS[config.world], seed_for(config.seed, "rest")
    return world.draw("zoo", IMAGINED, seed=seed), draw_jitter(IMAGINED, seed, world.jitter)


def write_clips(config: SimulationConfig, folder: Path, combinations: Sequence[Combination], jitter: Floats) -> None:
    """Write what is shown as videos, ``stimuli/{train,test}/NNNN.mp4`` below the dataset's folder."""
    clips, counts = config.clips, counts_of(config)
    names = [layout.CLIP.format(split=split, stimulus=s) for split in SPLITS for s in counts.stimuli(split)]
    for row, name in enumerate(track(names, "simulated clips")):
        clip = render([combinations[row]], jitter[row : row + 1], clips.frames, clips.side, clips.side)[0]
        write_clip(folder / layout.STIMULI / name, clip, clips.fps, min_side=MIN_SIDE)


def seen_by_brains(config: SimulationConfig, combinations: Sequence[Combination], jitter: Floats) -> Seen:
    """Return what is shown, as simulated brains see it."""
    clips = render(combinations, jitter, BRAIN_FRAMES, BRAIN_SIDE, BRAIN_SIDE)
    return Seen.of(clips, combinations, config.seed)


def _write_betas(config: SimulationConfig, folder: Path, combinations: Sequence[Combination], jitter: Floats) -> None:
    seen, at_rest = seen_by_brains(config, combinations, jitter), None
    if config.rest:
        never_shown, jitter = imagined(config)
        clips = render(never_shown, jitter, BRAIN_FRAMES, BRAIN_SIDE, BRAIN_SIDE)
        at_rest = Seen.of(clips, never_shown, config.seed, usual=combinations)
    for number in track(range(1, config.subjects + 1), "simulated brains"):
        subject = simulate_subject(seen, config, number, at_rest)
        if "rois" in config.spaces:
            _write_rois(folder, f"sub-{number:02d}", subject)
        if set(config.spaces) != {"rois"}:
            SpaceWriter.of(config, counts_of(config), folder, number, subject).write()


def _write_rois(folder: Path, name: str, subject: SimulatedSubject) -> None:
    for roi, betas in subject.betas.items():
        content = {layout.BETAS_KEYS[split]: np.ascontiguousarray(betas[split]) for split in SPLITS}
        write_pickle(folder / layout.BETAS.format(subject=name, roi=roi), content)
    for roi, rows in subject.rest.items():
        write_pickle(folder / layout.REST.format(subject=name, roi=roi), {layout.REST_KEY: np.ascontiguousarray(rows)})


def _annotations(config: SimulationConfig, combinations: Sequence[Combination]) -> dict[str, dict[str, Any]]:
    """Return the annotations of every stimulus, in the published form plus the attributes that were drawn."""
    counts = counts_of(config)
    owners: list[tuple[str, Split]] = [(s, split) for split in SPLITS for s in counts.stimuli(split)]
    scores = rng_for(config.seed, "memorability").uniform(0.6, 1.0, len(owners)).round(6).tolist()
    return {
        stimulus: {
            "bmd_matrixfilename": f"vid_idx{stimulus}",
            "set": split,
            "objects": [c.shape, f"{c.colour} {c.shape}", f"{c.size} {c.shape}"],
            "scenes": [f"{c.texture} {c.background} background", f"{c.background} background"],
            "actions": [c.motion],
            "text_descriptions": c.captions(),
            "spoken_transcription": c.captions()[-1],
            "memorability_score": score,
            "memorability_decay": -0.001,
            "attributes": dict(vars(c)),
            **(_newer(stimulus, c) if config.annotations == "newer" else {}),
        }
        for (stimulus, split), c, score in zip(owners, combinations, scores, strict=True)
    }


def _newer(stimulus: str, c: Combination) -> dict[str, Any]:
    """Return the annotations that the newer release adds to the early one or has in another form.

    Objects come as three labels from each of five annotators, ``--`` for no more; ids lie where their labels lie.
    """
    labels = [c.shape, f"{c.colour} {c.shape}", "--"]
    scene, place = f"{c.texture} {c.background} background", TEXTURES.index(c.texture) * len(COLOURS)
    filename = f"{c.motion.replace(' ', '+')}/{stimulus}.mp4"
    return {
        "MiT_url": f"https://example.org/{filename}",
        "MiT_filename": filename,
        "objects": [labels] * ANNOTATORS,
        "THINGS_uniqueID": [[label.replace(" ", "_") for label in labels]] * ANNOTATORS,
        "scenes": [scene] * ANNOTATORS,
        "PLACES365_classID": [place + COLOURS.index(c.background)] * ANNOTATORS,
        "actions": [c.motion] * ANNOTATORS,
        "MiT_classID": [MOTIONS.index(c.motion)] * ANNOTATORS,
    }


def _description(config: SimulationConfig) -> dict[str, Any]:
    return {
        "Name": "Simulated BOLD Moments: the small world seen by simulated brains",
        "BIDSVersion": "1.7.0",
        "DatasetType": "derivative",
        "License": "CC0",
        "GeneratedBy": [{"Name": "brain2video simulation"}],
        "SimulatedBy": {"Name": "brain2video", "Version": VERSION, "Config": config.recorded()},
    }
