"""What in a BIDS folder would be counted twice, lost or misread without a word, were it not refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import Fault
from .bids import (
    AFFINE,
    CONFOUNDS,
    EVENTS,
    GLM,
    IMAGE,
    PREP_IMAGE,
    PREP_MASK,
    RAW,
    SHAPE,
    SIDECAR,
    VOLUMES,
    WINDOW,
    both,
    cell,
    copied,
    fault,
    gone,
    image,
    table,
    text,
    write_image,
)

Spoil = Callable[[Path], object]
NATIVE = PREP_IMAGE.replace("_space-T1w", "")
PREPROCESSED = {**WINDOW, "derivatives": "derivatives/fmriprep"}
REGIONS = {"derivatives": GLM["derivatives"], "atlas": GLM["atlas"], "response": WINDOW["response"]}


def beside(entity: str, name: str = IMAGE) -> Spoil:
    """Copy an image under a name with one more entity, changed a little, as another processing of the run is."""

    def spoil(root: Path) -> None:
        copy = name.replace("_run-2", f"_{entity}_run-2")
        copied(name, copy)(root)
        image(copy, lambda values: values + 1)(root)

    return spoil


def again(line: int, **changed: str) -> Spoil:
    """Repeat a row of the events at their end, with some cells changed; the header is line 1."""

    def change(read: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([read, read.iloc[[line - 2]].assign(**changed)])

    return table(EVENTS, change)


def events(change: Callable[[str], str]) -> Spoil:
    """Change the events' text."""
    return lambda root: (root / EVENTS).write_text(change((root / EVENTS).read_text()))


def volumes(change: Callable[[np.ndarray], None], name: str = IMAGE) -> Spoil:
    """Change an image's values in place."""

    def changed(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)
        change(values)
        return values

    return image(name, changed)


def put(where: tuple[Any, ...], value: float) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[where] = value

    return change


def complex_image(root: Path) -> None:
    write_image(root / IMAGE, np.ones((*SHAPE, VOLUMES), np.complex64), AFFINE)


ONE_RUN = [
    *(
        fault(
            f"{entity} beside a run",
            beside(entity),
            rf"run-2_bold.nii.gz: is of the same run as .*; choose with source.entities.{entity[: entity.index('-')]}: "
            + ".*none",
        )
        for entity in ("rec-moco", "ce-gadolinium", "dir-AP", "acq-fast", "recording-eyes", "chunk-2", "part-phase")
    ),
    *(
        fault(
            f"{entity} beside a preprocessed run",
            copied(PREP_IMAGE, PREP_IMAGE.replace("_desc-", f"_{entity}_desc-")),
            f"is of the same run as .*; choose with source.entities.{entity.split('-')[0]}: .*none",
            **REGIONS,
        )
        for entity in ("res-2", "den-91k", "hemi-L", "cohort-1")
    ),
    fault(
        "native beside a space",
        copied(PREP_IMAGE, NATIVE),
        "is of the same run as .*choose with source.space: .*none",
        **PREPROCESSED,
    ),
    fault(
        "preprocessed beside raw",
        copied(IMAGE, IMAGE.replace("_bold", "_desc-preproc_bold")),
        "is of the same run as .*; choose with source.desc: none or preproc",
    ),
    fault(
        "a run under two numbers",
        copied(IMAGE, IMAGE.replace("run-2", "run-02")),
        "run-2_bold.nii.gz: is of the same run as sub-01_task-movie_run-02_bold.nii.gz; .*; move one away",
    ),
    fault(
        "a run packed and not",
        copied(IMAGE, IMAGE.removesuffix(".gz")),
        r"run-2_bold.nii.gz: is of the same run as sub-01_task-movie_run-2_bold.nii; .*; move one away",
    ),
    fault(
        "a first run without a number",
        copied(RAW.format(run=1) + "_bold.nii.gz", RAW.format(run=1).replace("_run-1", "") + "_bold.nii.gz"),
        "run-1_bold.nii.gz: is of the same run as sub-01_task-movie_bold.nii.gz; .*; move one away",
    ),
    fault(
        "events under two numbers",
        copied(EVENTS, EVENTS.replace("run-2", "run-02")),
        "run-2_events.tsv: applies to the same runs as sub-01_task-movie_run-02_events.tsv; move one",
    ),
    fault(
        "two tables of events",
        both(
            copied(EVENTS, "sub-01/func/sub-01_task-movie_events.tsv"),
            copied(EVENTS, "sub-01/func/sub-01_run-2_events.tsv"),
            gone(EVENTS),
        ),
        "events.tsv: applies to .*run-2_bold.nii.gz, as does .*events.tsv; move one of them away, or name the run",
    ),
    fault(
        "sidecars under two numbers",
        both(*(text(RAW.format(run=run) + "_bold.json", json.dumps({"RepetitionTime": 2.0})) for run in ("2", "02"))),
        "bold.json: applies to the same runs as .*run-02_bold.json; move one of them away",
    ),
    fault(
        "two masks of a run",
        copied(PREP_MASK, PREP_MASK.removesuffix(".gz")),
        "mask.nii.gz: is of the same run as .*mask.nii; one is expected; move one away",
        **REGIONS,
    ),
    fault(
        "two tables of confounds",
        copied(CONFOUNDS, CONFOUNDS.replace("timeseries", "regressors")),
        "timeseries.tsv: is of the same run as .*regressors.tsv; one is expected; move one away",
        **REGIONS,
    ),
    fault(
        "a run that lacks what is chosen",
        lambda root: (root / PREP_IMAGE).rename(root / PREP_IMAGE.replace("T1w", "MNI")),
        "space-MNI.*: of this run no image has source.space T1w, as of other runs; preprocess it alike, or leave",
        **REGIONS | {"space": "T1w"},
    ),
    fault(
        "another subject's file",
        lambda root: (root / IMAGE).rename(root / IMAGE.replace("sub-01_", "sub-02_")),
        "sub-02_task-movie_run-2_bold.nii.gz: its name has sub-02, its folder is sub-01; rename it, or move it",
    ),
    fault(
        "a dot in a name",
        lambda root: (root / IMAGE).rename(root / IMAGE.replace("movie", "movie.v2")),
        "movie.v2_run-2_bold.nii.gz: its name has a dot before its ending",
    ),
    fault(
        "an entity twice",
        lambda root: (root / IMAGE).rename(root / IMAGE.replace("_run-2", "_run-2_run-3")),
        "run-2_run-3_bold.nii.gz: its name has run- twice; keep one",
    ),
    fault(
        "an echo of no number",
        lambda root: (root / IMAGE).rename(root / IMAGE.replace("_bold", "_echo-one_bold")),
        "echo 'one' is no number; BIDS numbers it, as in echo-2; rename it",
    ),
]

ROWS = [
    *(
        fault(f"a row twice, {name}", again(3), "line 6 repeats line 3: stim_file 'train/b.mp4' at 20.5 s; ", **how)
        for name, how in {"windows": WINDOW, "glm": GLM}.items()
    ),
    fault("a row twice in another spelling", again(3, onset="20.50", duration="n/a"), "line 6 repeats line 3"),
    fault("a row twice within a millisecond", again(3, onset="20.5004"), "line 6 repeats line 3"),
    fault(
        "an oddball twice",
        again(5),
        "line 6 repeats line 5: stim_file 'n/a' at 52.5 s",
        **GLM | {"ignore": [], "nuisance": ["n/a"]},
    ),
    *(
        fault(
            f"two stimuli at one onset, {name}",
            again(3, stim_file="train/a.mp4"),
            "line 6: 'train/a.mp4' begins at 20.5 s, as 'train/b.mp4' of line 3 does; .* source.same_onset to allow",
            **how,
        )
        for name, how in {"windows": WINDOW, "glm": GLM}.items()
    ),
]

CELLS = [
    *(
        fault(f"stimulus {value!r}", cell(1, "stim_file", value), f"line 3: stim_file is '{value}'; name the stimulus")
        for value in ("NA", "NaN", "nan", "None", "null", "-")
    ),
    *(
        fault(f"onset {value!r}", cell(1, "onset", value), f"line 3: onset '{value}' is no time; expected seconds")
        for value in ("n/a", "NaN", "", "None", "20,5", "1,020.5", "20.5 s", "inf", "1 020", "0x14")
    ),
    *(
        fault(f"duration {value!r}", cell(1, "duration", value), f"line 3: duration '{value}' is no time; expected")
        for value in ("2,0", "2 s", "inf", "-2")
    ),
    fault("duration NA for a GLM", cell(1, "duration", "NA"), "line 3: duration is n/a; .* source.res", **GLM),
    fault("a confound's comma", cell(0, "csf", "0,4", CONFOUNDS), "line 2: csf is '0,4', no finite number", **GLM),
    fault("a confound's infinity", cell(4, "csf", "inf", CONFOUNDS), "line 6: csf is 'inf', no finite number", **GLM),
    fault(
        "motion with a comma",
        cell(4, "trans_x", "0,4", CONFOUNDS),
        "line 6: trans_x is '0,4', no finite number",
        **PREPROCESSED | {"space": "T1w"},
    ),
    fault("a column twice", events(lambda read: read.replace("duration", "onset", 1)), "has the column 'onset' twice"),
    fault(
        "a split without a value",
        cell(1, "split", "NA"),
        "run-2_events.tsv line 3: split is 'NA'; the split is by this column, so give it a value",
        **WINDOW | {"split": {"by": "column", "column": "split", "test": ["test"]}},
    ),
    fault(
        "a clip at two places",
        cell(0, "duration", "3"),
        "stimulus 'x' begins at 2.0 in .*run-1_events.tsv line 5 and at 3.0 in .*; a clip has one place in its movie",
        **WINDOW | {"start_column": "duration"},
    ),
    fault("a quote", events(lambda read: read.replace("20.5", '"20.5')), "line 3: a quote is opened and not closed"),
    fault(
        "a quote that another closes",
        events(lambda read: read.replace("train/b.mp4", '"train/b.mp4').replace("n/a", 'n/a"')),
        "run-2_events.tsv.* line 3: a quote is opened and not closed|run-2_events.tsv: not a tab-separated table",
    ),
]

IMAGES = [
    fault("a volume of NaN", volumes(put((..., 7), np.nan)), "run-2_bold.nii.gz: volume 8 of 40 is NaN"),
    fault("a volume of infinity", volumes(put((..., 7), np.inf)), "volume 8 of 40 is NaN or infinite in all voxels"),
    fault("a volume of zeros", volumes(put((..., 7), 0)), "run-2_bold.nii.gz: volume 8 of 40 is constant, 0 in"),
    fault(
        "a preprocessed volume of zeros", volumes(put((..., 7), 0), PREP_IMAGE), "volume 8 of 40 is constant", **REGIONS
    ),
    fault("a preprocessed run of NaN", volumes(put((...,), np.nan), PREP_IMAGE), "volume 1 of 40 is NaN", **GLM),
    fault("volumes alike", image(IMAGE, lambda v: np.repeat(v[..., :1], VOLUMES, axis=-1)), "no voxel varies: its 40"),
    fault("complex numbers", complex_image, "run-2_bold.nii.gz: holds complex64; expected real numbers"),
    fault(
        "a map a region",
        image("atlas.nii.gz", lambda v: np.stack([v == 1, v == 2], axis=-1).astype(np.int16)),
        r"atlas.nii.gz: has the shape \(5, 2, 2, 2\), expected \(5, 2, 2\); an atlas is one image of labels",
        **REGIONS,
    ),
    fault(
        "a mask of several volumes",
        image(PREP_MASK, lambda v: np.stack([v, v], axis=-1)),
        r"mask.nii.gz: has the shape \(5, 2, 2, 2\), expected \(5, 2, 2\); a mask has three dimensions",
        **REGIONS,
    ),
    fault("mask of NaN", image(PREP_MASK, lambda v: v * np.float32("nan")), "the mask .* holds no voxel", **REGIONS),
    fault("mask's affine", image(PREP_MASK, affine=np.eye(4)), "mask.nii.gz: its affine is not that of", **REGIONS),
    fault("a region in parts", image("atlas.nii.gz", lambda v: v * 0.5), "atlas.nii.gz: holds the value 0.5", **GLM),
    fault(
        "an index twice",
        cell(0, "index", "1", "atlas.tsv"),
        "atlas.tsv: index 1 is of 'V2' and of 'V1'",
        **REGIONS,
    ),
    fault(
        "a region without a name",
        cell(0, "name", "N/A", "atlas.tsv"),
        "atlas.tsv: region 'N/A': a name",
        **REGIONS,
    ),
    fault("TR absent", both(text(SIDECAR, "{}"), image(IMAGE, tr=0)), r"run-2.*: no repetition time: pixdim\[4\] is 0"),
    fault("TR of 0", text(SIDECAR, '{"RepetitionTime": 0}'), "RepetitionTime is 0; expected seconds"),
    fault("TR NaN", text(SIDECAR, '{"RepetitionTime": NaN}'), "RepetitionTime is nan; expected seconds"),
]

FAULTS: list[Fault] = [*ONE_RUN, *ROWS, *CELLS, *IMAGES]
