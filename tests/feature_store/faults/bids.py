"""What a BIDS folder may have wrong: a tiny sound one with fMRIPrep's files beside it, and one damage at a time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd

from feature_store.sources.base import SPLITS, Recording, Split
from feature_store.sources.bids.dataset import Bids, BidsConfig

from . import Fault

TR_S = 2.0
SHAPE = (5, 2, 2)
VOLUMES = 40
AFFINE = np.array([[3.0, 0, 0, -6], [0, 3, 0, 1], [0, 0, 3, 2], [0, 0, 0, 1]])
SHOWN = {1: ["train/a.mp4", "train/b.mp4", "n/a", "test/x.mp4"], 2: ["test/x.mp4", "train/b.mp4", "train/a.mp4", "n/a"]}
"""What each run shows, from 4.5 s on, every 16 s for 2 s."""

RAW = "sub-01/func/sub-01_task-movie_run-{run}"
PREPROCESSED = "derivatives/fmriprep/sub-01/func/sub-01_task-movie_run-{run}"
IMAGE = RAW.format(run=2) + "_bold.nii.gz"
EVENTS = RAW.format(run=2) + "_events.tsv"
SIDECAR = "task-movie_bold.json"
PREP_IMAGE = PREPROCESSED.format(run=2) + "_space-T1w_desc-preproc_bold.nii.gz"
PREP_MASK = PREPROCESSED.format(run=2) + "_space-T1w_desc-brain_mask.nii.gz"
CONFOUNDS = PREPROCESSED.format(run=2) + "_desc-confounds_timeseries.tsv"
DESCRIBED = ("_space-T1w_desc-preproc_bold", "_space-T1w_desc-brain_mask", "_desc-confounds_timeseries")
"""What fMRIPrep writes of a run with a JSON file of the same name beside it."""

SPLIT = {"by": "stimulus", "test": ["x"]}
WINDOW: dict[str, Any] = {"mask": "none", "response": {"kind": "window"}}
GLM: dict[str, Any] = {
    "derivatives": "derivatives/fmriprep",
    "atlas": {"image": "atlas.nii.gz", "labels": "atlas.tsv"},
    "response": {"kind": "glm", "confounds": ["trans_*", "csf"]},
}


def source(root: Path, **settings: Any) -> Bids:
    """Return the folder as a source; settings replace those of the study."""
    return BidsConfig.model_validate({"path": ".", "task": "movie", "split": SPLIT, **settings}).build(root)


def read_all(root: Path, **settings: Any) -> None:
    """Read all that a study would."""
    reader = source(root, **settings)
    reader.stimuli(), reader.stimulus_files()
    for subject in reader.subjects:
        reader.response_files(subject)
        recording = reader.responses(subject)
        assert all(np.isfinite(rows(recording, split)).all() for split in SPLITS)


def rows(recording: Recording, split: Split) -> np.ndarray:
    """Return all of a split's responses."""
    values = recording.values[split]
    return np.asarray(values[0 : values.shape[0]])


def write_image(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, **header: Any) -> None:
    """Write a NIfTI file; the header's repetition time (``tr``) and its unit (``unit``) as asked for."""
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", header.get("unit", "sec"))
    if values.ndim == 4:
        image.header["pixdim"][4] = header.get("tr", TR_S)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def write_table(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False, na_rep="n/a")


def write_bids(root: Path) -> None:
    """Write the sound dataset: two raw runs, and the same as fMRIPrep would leave them."""
    rng = np.random.default_rng(5)
    (root / SIDECAR).write_text(json.dumps({"RepetitionTime": TR_S}))
    for run, shown in SHOWN.items():
        values = rng.normal(1000, 20, (*SHAPE, VOLUMES)).astype(np.float32)
        raw, prep = str(root / RAW.format(run=run)), str(root / PREPROCESSED.format(run=run))
        onsets = [4.5 + 16 * index for index in range(len(shown))]
        events = {"onset": onsets, "duration": 2.0, "stim_file": shown, "split": [name.split("/")[0] for name in shown]}
        write_table(Path(raw + "_events.tsv"), events)
        write_image(Path(raw + "_bold.nii.gz"), values)
        write_image(Path(prep + "_space-T1w_desc-preproc_bold.nii.gz"), values)
        write_image(Path(prep + "_space-T1w_desc-brain_mask.nii.gz"), np.ones(SHAPE, np.uint8))
        motion = {name: np.r_[np.nan, rng.normal(size=VOLUMES - 1)] for name in ("trans_x", "trans_y", "csf")}
        write_table(Path(prep + "_desc-confounds_timeseries.tsv"), motion)
        for ending in DESCRIBED:
            Path(f"{prep}{ending}.json").write_text(json.dumps({"Sources": ["bids:raw:"]}))
    write_image(root / "atlas.nii.gz", np.arange(20, dtype=np.int16).reshape(SHAPE) % 3)
    write_table(root / "atlas.tsv", {"index": [2, 1], "name": ["V2", "V1"]})
    for name in {Path(name) for shown in SHOWN.values() for name in shown if name != "n/a"}:
        (root / "stimuli" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "stimuli" / name).write_bytes(b"")


def image(name: str, change: Callable[[np.ndarray], np.ndarray] = lambda v: v, **header: Any) -> Callable[[Path], None]:
    """Write an image again, changed."""

    def spoil(root: Path) -> None:
        values = np.asarray(nibabel.load(root / name).dataobj)
        write_image(root / name, change(values), **header)

    return spoil


def table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """Write a table again, changed."""

    def spoil(root: Path) -> None:
        read = pd.read_csv(root / name, sep="\t", dtype=str, keep_default_na=False)
        change(read).to_csv(root / name, sep="\t", index=False)

    return spoil


def cell(row: int, column: str, value: str, name: str = EVENTS) -> Callable[[Path], None]:
    """Change one cell of a table."""

    def change(read: pd.DataFrame) -> pd.DataFrame:
        read.loc[row, column] = value
        return read

    return table(name, change)


def centred(name: str) -> Callable[[Path], None]:
    """Take out of each voxel its mean, as some preprocessing does."""
    return image(name, lambda v: v - v.mean(axis=-1, keepdims=True))


def without_x(run: int) -> Callable[[Path], None]:
    return table(RAW.format(run=run) + "_events.tsv", lambda t: t[t["stim_file"] != "test/x.mp4"])


def renamed(old: str, new: str) -> Callable[[Path], object]:
    """Rename every file of the raw subject whose name holds `old`."""

    def spoil(root: Path) -> None:
        for path in sorted((root / "sub-01/func").iterdir()):
            path.rename(path.with_name(path.name.replace(old, new)))

    return spoil


def copied(name: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / new).write_bytes((root / name).read_bytes())


def sidecar(**content: Any) -> Callable[[Path], object]:
    return lambda root: (root / SIDECAR).write_text(json.dumps(content))


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(content)


def unlinked(name: str) -> Callable[[Path], None]:
    """Leave what git-annex leaves of a file that was not fetched."""

    def spoil(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to("../../.git/annex/objects/absent")

    return spoil


def cut(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:2000])


def gone(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def both(*spoils: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: [spoil(root) for spoil in spoils]


def fault(name: str, spoil: Callable[[Path], object], message: str, **settings: Any) -> Fault:
    """Return a case; the settings are in force for the sound dataset and the spoilt one."""
    return Fault(f"bids: {name}", write_bids, spoil, lambda root: read_all(root, **(settings or WINDOW)), message)


TIME = [
    fault("header in ms", image(IMAGE, tr=2000), r"run-2_bold.nii.gz: .* 2000 seconds; .* set pixdim\[4\] to 2.0"),
    fault(
        "sidecar in ms", sidecar(RepetitionTime=2000), "task-movie_bold.json: RepetitionTime is 2000 seconds; .* 2.0"
    ),
    fault("two TRs", image(IMAGE, tr=2.5), r"run-2.*\(pixdim\[4\]\) is 2.5 sec, the sidecar's RepetitionTime 2 s"),
    fault(
        "no TR",
        both(gone(SIDECAR), image(IMAGE, tr=1, unit="unknown")),
        "run-2.* no repetition time.*bold.json with Rep",
    ),
    fault(
        "TR of a run", both(gone(SIDECAR), image(IMAGE, tr=2.2)), "run-2.*: repetition time 2.2 s, expected 2 s as in"
    ),
    fault("TR as text", sidecar(RepetitionTime="2"), "task-movie_bold.json: RepetitionTime is '2'; expected seconds"),
    fault("uneven volumes", sidecar(VolumeTiming=[0, 2, 5]), "VolumeTiming: volumes at uneven intervals"),
    fault("sidecar garbled", text(SIDECAR, "{"), "task-movie_bold.json: no JSON .*; fetch the file again"),
]

IMAGES = [
    fault("affine", image(IMAGE, affine=AFFINE + np.eye(4)[0] * 0.1), "run-2.*: its affine is not that of .*run-1"),
    fault(
        "shape", image(IMAGE, lambda v: v[1:]), r"run-2.*: has \(4, 2, 2\) voxels, expected \(5, 2, 2\) as in .*run-1"
    ),
    fault("cut", cut(IMAGE), "run-2_bold.nii.gz: cut short or damaged .*; fetch it again"),
    fault("no NIfTI", text(IMAGE, "x"), "run-2_bold.nii.gz: not a NIfTI file"),
    fault("3-D", image(IMAGE, lambda v: v[..., 0]), r"run-2.* shape \(5, 2, 2\); BOLD has four dimensions"),
    fault("5-D", image(IMAGE, lambda v: v[..., None]), r"run-2.* shape \(5, 2, 2, 40, 1\); BOLD has four"),
    fault("annex", unlinked(IMAGE), "run-2_bold.nii.gz: a link without its content .* run 'datalad get "),
    fault(
        "short", image(IMAGE, lambda v: v[..., :23]), r"run-2_events.tsv line 4: the window .* 23 volumes of 2 s \(46 s"
    ),
    fault(
        "mask's shape", image(PREP_MASK, lambda v: v[1:]), r"run-2.*mask.nii.gz: has \(4, 2, 2\) voxels, expec", **GLM
    ),
    fault("mask empty", image(PREP_MASK, lambda v: v * 0), "the mask .* desc-brain mask. holds no voxel", **GLM),
    fault("mask missing", gone(PREP_MASK), r"run-2.*: has no \*_desc-brain_mask beside it, as other runs have", **GLM),
    fault("atlas's grid", image("atlas.nii.gz", affine=np.eye(4)), "atlas.nii.gz: its affine is not that of", **GLM),
    fault(
        "atlas's label", image("atlas.nii.gz", lambda v: v * 2), "holds the value 4, which atlas.tsv does not", **GLM
    ),
    fault("atlas's names", cell(0, "name", "V1+V2", "atlas.tsv"), "atlas.tsv: region 'V1.V2'.*rename it", **GLM),
    fault("centred", centred(IMAGE), r"run-2_bold.nii.gz: already centred: in 20 of 20 voxels .* zscore or none"),
    fault("centred for the GLM", centred(PREP_IMAGE), r"run-2_space-T1w_desc-preproc_bold.nii.gz: already cen", **GLM),
    fault("no signal", image(IMAGE, lambda v: v * 0), "run-2_bold.nii.gz: no voxel varies: its 40 volumes are alike"),
]

TABLES = [
    fault(
        "no column",
        table(EVENTS, lambda t: t.rename(columns={"stim_file": "stimfile"})),
        "'stim_file'; did you mean 's",
    ),
    fault(
        "commas", text(EVENTS, "onset,duration,stim_file\n1,2,a\n"), "lacks the column 'onset'; it is separated by co"
    ),
    fault("tabs", text(EVENTS, "onset\tduration\tstim_file\n1\t2\ta.mp4\t\n"), "rows have more fields than the header"),
    fault("no table", text(EVENTS, ""), "run-2_events.tsv: not a tab-separated table"),
    fault("no events", gone(EVENTS), "run-2_bold.nii.gz: no events.tsv applies to this run; .* source.task"),
    fault("events annex", unlinked(EVENTS), "run-2_events.tsv: a link without its content .* run 'datalad get "),
    fault("empty", cell(1, "stim_file", ""), "run-2_events.tsv line 3: stim_file is ''; name the stimulus"),
    fault("after the end", cell(2, "onset", "900.5"), "run-2_events.tsv line 4: its onset, 900.5 s, is outside", **GLM),
    fault(
        "nuisance after the end",
        cell(3, "onset", "900.5"),
        "run-2_events.tsv line 5: its onset, 900.5 s, is outside the run, which has 40 volumes",
        **GLM | {"ignore": [], "nuisance": ["n/a"]},
    ),
    fault(
        "nuisance before the start",
        cell(3, "onset", "-3"),
        "run-2_events.tsv line 5: its onset, -3 s, is outside the run",
        **GLM | {"ignore": [], "nuisance": ["n/a"]},
    ),
    fault("no response", cell(2, "onset", "79.9"), r"run-2_events.tsv line 4: the run ends before the response", **GLM),
    fault(
        "before the start", cell(0, "onset", "-9"), "line 2: the window of 4 to 10 s after its onset, -9 s, is outside"
    ),
    fault("onset", cell(0, "onset", "4,5"), "run-2_events.tsv line 2: onset '4,5' is no time; expected seconds"),
    fault("duration", cell(0, "duration", "-1"), "run-2_events.tsv line 2: duration '-1' is no time"),
    fault("no duration", cell(0, "duration", "n/a"), "line 2: duration is n/a; .* source.response.duration_s", **GLM),
    fault(
        "two files, one name", cell(0, "stim_file", "train/x.mp4"), "'x' stands for test/x.mp4 in .* and train/x.mp4 in"
    ),
    *(
        fault(f"file at {name}", cell(0, "stim_file", name), f"line 2: stim_file '{shown}' leads out of the folder sti")
        for name, shown in {"../x.mp4": "../x.mp4", "/srv/x.mp4": "/srv/x.mp4", "test\\..\\..\\x.mp4": ".*"}.items()
    ),
    fault("nameless", cell(0, "stim_file", "§.mp4"), "line 2: stim_file '§.mp4' makes no name for a stimulus"),
    fault(
        "both splits",
        cell(0, "split", "train"),
        "stimulus 'x' is for test in .* and train in .*run-2_events.tsv line 2; each belongs into one split",
        **WINDOW | {"split": {"by": "column", "column": "split", "test": ["test"]}},
    ),
    fault("no test stimulus", both(*(without_x(run) for run in SHOWN)), "split.test names 'x', no stimulus here"),
    fault(
        "one onset in a model",
        table(EVENTS, lambda t: t.assign(onset="9")),
        "line 2: this event's regressor is made up of",
        **GLM | {"same_onset": "allow"},
    ),
    fault("no confounds", gone(CONFOUNDS), r"run-2.*: no \*_desc-confounds_timeseries.tsv beside it", **GLM),
    fault("confound", table(CONFOUNDS, lambda t: t.rename(columns={"csf": "cfs"})), "'csf'; did you mean 'cfs'", **GLM),
    fault("confound's gap", cell(3, "csf", "n/a", CONFOUNDS), "timeseries.tsv line 5: csf is 'n/a', no number", **GLM),
    fault("confounds' rows", table(CONFOUNDS, lambda t: t.head(39)), "has 39 rows, .* has 40 volumes", **GLM),
]

FILES = [
    fault("no folder", lambda root: shutil.rmtree(root), r": no such folder; set source\.path to a BIDS folder"),
    fault(
        "no derivatives", lambda root: shutil.rmtree(root / "derivatives"), r"set source\.derivatives to a BIDS", **GLM
    ),
    fault(
        "no subject", lambda root: (root / "sub-01").rename(root / "s01"), "no subject; expected BIDS folders such as"
    ),
    fault(
        "subject absent",
        lambda root: (root / "sub-01").rename(root / "sub-10"),
        "sub-01: no such subject; did you mean 'sub-10'.; fix source.subjects",
        **WINDOW | {"subjects": ["01"]},
    ),
    fault(
        "no runs", lambda root: shutil.rmtree(root / "sub-01/func"), "sub-01: no BOLD run; expected func/sub-01_task-"
    ),
    fault(
        "runs on a surface",
        renamed("_bold.nii.gz", "_bold.dtseries.nii"),
        "found sub-01_task-movie_run-1_bold.dtseries.nii, a CIFTI file, which is not read; expected func/sub-01_task-",
    ),
    fault("no runs of the task", renamed("movie", "film"), "sub-01: no BOLD run with task-movie; known: film"),
    fault("run", renamed("run-2", "run-two"), "sub-01_task-movie_run-two_bold.nii.gz: run 'two' is no number"),
    fault("name", renamed("run-2", "run2"), "'run2' is no BIDS entity; expected names such as"),
    fault(
        "two spaces",
        copied(PREP_IMAGE, PREP_IMAGE.replace("T1w", "MNI")),
        "same run as .*space-MNI.*source.space",
        **GLM,
    ),
    fault("echoes", copied(IMAGE, IMAGE.replace("_bold", "_echo-2_bold")), "is of the same run as"),
    fault("clip missing", gone("stimuli/test/x.mp4"), "stimuli/test/x.mp4: no such file; fetch the clips"),
    fault("clip annex", unlinked("stimuli/test/x.mp4"), "x.mp4: a link without its content .* run 'datalad get"),
]

FAULTS: list[Fault] = [*TIME, *IMAGES, *TABLES, *FILES]
