"""BIDS without doubles: any entity chooses, indices are numbers, and cells mean what people who wrote them meant."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from core.errors import SourceError
from core.progress import listening
from feature_store.sources.arrays import Arrays
from feature_store.sources.base import SPLITS, RecordingShape
from feature_store.sources.bids.confounds import read_confounds
from feature_store.sources.bids.dataset import Bids, BidsConfig
from feature_store.sources.copies import check_copies
from studies.stores.ingestion import write_responses

from ..conftest import write_arrays
from .faults.bids import (
    CONFOUNDS,
    EVENTS,
    GLM,
    IMAGE,
    PREP_IMAGE,
    RAW,
    SHOWN,
    SIDECAR,
    WINDOW,
    both,
    cell,
    copied,
    image,
    renamed,
    rows,
    source,
    table,
    text,
)
from .faults.bids_doubles import again, beside, events

ALONE: dict[str, Any] = {"mask": "none", "response": {"kind": "glm", "standardise": "none"}}


def images(reader: Bids) -> list[str]:
    return [path.name.removeprefix("sub-01_task-movie_") for path in reader.recordings("sub-01")]


@pytest.mark.parametrize(
    ("spoil", "settings", "chosen"),
    [
        (beside("rec-moco"), {"entities": {"rec": "none"}}, "run-2_bold.nii.gz"),
        (beside("rec-moco"), {"entities": {"rec": ["moco", "none"], "run": "02"}}, None),
        (beside("acq-fast"), {"entities": {"acq": "fast"}}, "acq-fast_run-2_bold.nii.gz"),
        (beside("echo-02"), {"entities": {"echo": 2, "run": "02"}}, "echo-02_run-2_bold.nii.gz"),
        (copied(IMAGE, IMAGE.replace("_bold", "_desc-x_bold")), {"desc": "none"}, "run-2_bold.nii.gz"),
        (beside("chunk-1"), {"entities": {"chunk": "none", "task": ["movie"]}, "task": None}, "run-2_bold.nii.gz"),
    ],
    ids=["absent", "both", "acq", "echo as a number", "desc absent", "task"],
)
def test_any_entity_chooses_one_image_a_run(
    root: Path, spoil: Callable[[Path], object], settings: dict[str, Any], chosen: str | None
) -> None:
    spoil(root)
    reader = source(root, **WINDOW | settings)
    if chosen is None:
        with pytest.raises(SourceError, match="is of the same run as"):
            reader.responses("sub-01")
    else:
        assert images(reader)[-1] == chosen
        assert "none" not in "".join(images(reader))


def test_any_entity_chooses_among_preprocessed_images(root: Path) -> None:
    for run in SHOWN:
        path = PREP_IMAGE.replace("run-2", f"run-{run}")
        copied(path, path.replace("_desc-", "_res-02_desc-"))(root)
    reader = source(root, **GLM | {"mask": "none"}, entities={"res": "02"})
    assert images(reader) == [f"run-{run}_space-T1w_res-02_desc-preproc_bold.nii.gz" for run in SHOWN]
    assert all(run.confounds is not None and run.events is not None for run in reader.layout.runs("sub-01"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"entities": {"rec": None}}, "rec is None; expected a label in quotes, 'none' for images without it"),
        ({"entities": {"acq": [True]}}, r"acq is \[True\]; expected a label in quotes"),
        ({"entities": {"acq": []}}, "acq is .*; expected a label in quotes"),
        ({"entities": {"space": "T1w"}, "space": "T1w"}, "'space' is chosen twice, here and by a setting of its own"),
        ({"entities": {"sub": "01"}}, "'sub' is chosen by source.subjects"),
    ],
)
def test_entities_that_cannot_choose_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BidsConfig.model_validate({"path": "x", "split": {"by": "task", "test": ["test"]}, **settings})


def test_directions_that_are_named_are_runs_of_their_own(root: Path) -> None:
    both(renamed("_run-1", "_dir-AP"), renamed("_run-2", "_dir-PA"))(root)
    with pytest.raises(SourceError, match=r"source.entities.dir: AP or PA, or \[AP, PA\] where these are runs of"):
        source(root, **WINDOW).stimuli()
    recording = source(root, **WINDOW, entities={"dir": ["AP", "PA"]}).responses("sub-01")
    trials = recording.trials["train"]
    assert trials["task"].tolist() == ["movie_dir-AP"] * 2 + ["movie_dir-PA"] * 2, "no two runs have one name"
    by_task = source(root, **WINDOW, entities={"dir": ["AP", "PA"]}, split={"by": "task", "test": ["movie"]})
    with pytest.raises(SourceError, match="no stimulus has the split 'train'"):
        by_task.stimuli()


def test_an_index_is_a_number_in_images_events_and_derivatives(root: Path) -> None:
    before = source(root, **GLM).responses("sub-01")
    renamed("run-", "run-0")(root)  # the raw files alone, as fMRIPrep 20.2 left them
    after = source(root, **GLM).responses("sub-01")
    for split in SPLITS:
        np.testing.assert_array_equal(rows(before, split), rows(after, split))
    assert source(root, **WINDOW).responses("sub-01").trials["train"]["run"].tolist() == [1, 1, 2, 2]


def test_hidden_files_are_no_files(root: Path) -> None:
    before = source(root, **GLM).response_files("sub-01")
    for path in list(root.rglob("*.*")):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\26\7")
    reader = source(root, **GLM)
    assert reader.response_files("sub-01") == before
    assert reader.responses("sub-01").values["train"].shape[0] == 4


def test_hidden_folders_and_files_are_no_subjects_and_targets(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = write_arrays(tmp_path / "recordings", rng)
    shutil.copytree(folder / "sub-01", folder / ".sub-01.old")
    (folder / "targets" / "._patches.npy").write_bytes(b"")
    assert Arrays(folder).subjects == ["sub-01"]
    assert not [path for path in Arrays(folder).stimulus_files() if path.name.startswith(".")]


def test_repeated_rows_may_be_dropped_and_stimuli_of_one_onset_allowed(root: Path) -> None:
    before = source(root, **ALONE).responses("sub-01")
    both(again(3), again(5))(root)
    reader = source(root, **ALONE, repeated_rows="drop")
    np.testing.assert_array_equal(rows(reader.responses("sub-01"), "train"), rows(before, "train"))
    again(3, stim_file="train/a.mp4", onset="21")(root)
    assert source(root, **WINDOW, repeated_rows="drop").responses("sub-01").values["train"].shape[0] == 5
    again(3, stim_file="train/a.mp4")(root)
    shown = source(root, **WINDOW, repeated_rows="drop", same_onset="allow").responses("sub-01")
    assert shown.values["train"].shape[0] == 6


@pytest.mark.parametrize("value", ["n/a", "N/A", "NA", "NaN", "nan", "", "None", "null", "-", " n/a "])
def test_a_missing_duration_and_caption_in_any_spelling(root: Path, value: str) -> None:
    for run in SHOWN:
        name = RAW.format(run=run) + "_events.tsv"
        table(name, lambda t: t.assign(duration=value, said=value))(root)
    reader = source(root, **WINDOW, caption_column="said")
    assert reader.responses("sub-01").trials["train"]["duration_s"].isna().all()
    assert reader.stimuli()["caption"].tolist() == [[], [], []]


def test_a_missing_first_confound_in_any_spelling(tmp_path: Path) -> None:
    path = tmp_path / "confounds.tsv"
    for value in ("n/a", "NaN", "NA", "", "None"):
        path.write_text(f"csf\twhite\n{value}\t1\n2\t3\n")
        assert read_confounds(path, ["csf", "white"], volumes=2, image=path).tolist() == [[0, 1], [2, 3]]


def test_the_value_of_rest_may_be_in_capitals(root: Path) -> None:
    table(EVENTS, lambda t: t.replace("n/a", "N/A"))(root)
    assert source(root).stimuli()["stimulus"].tolist() == ["a", "b", "x"]


@pytest.mark.parametrize("name", ["001", "1e5", "NA", "nan", "1.0", "True"])
def test_a_stimulus_keeps_its_name(root: Path, tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    for run in SHOWN:
        table(RAW.format(run=run) + "_events.tsv", lambda t: t.replace("train/b.mp4", f"train/{name}.mp4"))(root)
    (root / f"stimuli/train/{name}.mp4").write_bytes(b"")
    assert name in source(root, **WINDOW).stimuli()["stimulus"].tolist()
    folder = write_arrays(tmp_path / "recordings", rng, train=3, test=2)
    for file in ("stimuli.csv", "sub-01/trials.csv"):
        (folder / file).write_text((folder / file).read_text().replace("s001", name).replace(f"{name}.png", "s001.png"))
    reader = Arrays(folder)
    assert name in reader.stimuli()["stimulus"].tolist()
    assert name in reader.responses("sub-01").trials["train"]["stimulus"].tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda read: "\ufeff" + read.replace("\n", "\r\n") + "\r\n\r\n",
        lambda read: read.replace("\t", " \t").replace("\n", " \n") + " \t \t\n\n",
        lambda read: "\n".join("\t".join(f'"{cell}"' for cell in line.split("\t")) for line in read.splitlines()),
        lambda read: "\n".join([read.splitlines()[0], *read.splitlines()[:0:-1]]),
    ],
    ids=["BOM and CRLF", "blanks", "quotes", "unsorted"],
)
def test_tables_in_other_dress_are_the_same(root: Path, change: Callable[[str], str]) -> None:
    before = source(root, **ALONE).responses("sub-01")
    events(change)(root)
    after = source(root, **ALONE).responses("sub-01")
    for split in SPLITS:
        assert after.trials[split].equals(before.trials[split])
        np.testing.assert_array_equal(rows(after, split), rows(before, split))


def test_csv_tables_in_other_dress_are_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = write_arrays(tmp_path / "recordings", rng, train=4, test=2)
    before = Arrays(folder).stimuli()
    lines = (folder / "stimuli.csv").read_text().splitlines()
    dressed = "\r\n".join(",".join(f" {cell} " if cell else " n/a" for cell in line.split(",")) for line in lines)
    (folder / "stimuli.csv").write_text(f"\ufeff{dressed}\r\n,,,\r\n\r\n")
    assert Arrays(folder).stimuli().equals(before)


def test_labels_and_sidecars_may_begin_with_a_byte_order_mark(root: Path) -> None:
    before = source(root, **GLM).responses("sub-01").voxels
    (root / SIDECAR).write_text("\ufeff" + (root / SIDECAR).read_text())
    (root / "atlas.tsv").write_text("\ufeff" + (root / "atlas.tsv").read_text())
    (root / "atlas.json").write_text("\ufeff" + json.dumps({"2": "V2", "1": "V1"}))
    for labels in ("atlas.tsv", "atlas.json"):
        settings = GLM | {"atlas": {"image": "atlas.nii.gz", "labels": labels}}
        assert source(root, **settings).responses("sub-01").voxels.equals(before)


def test_an_atlas_and_a_mask_of_one_volume_are_squeezed(root: Path) -> None:
    before = source(root, **GLM).responses("sub-01").voxels
    image("atlas.nii.gz", lambda v: np.where(v == 0, np.nan, v).astype(np.float32)[..., None])(root)
    for path in root.rglob("*_mask.nii.gz"):
        image(path.relative_to(root).as_posix(), lambda v: v[..., None])(root)
    assert nibabel.load(root / "atlas.nii.gz").shape == (5, 2, 2, 1)
    assert source(root, **GLM).responses("sub-01").voxels.equals(before)


def test_impulses_of_one_run_have_the_unit_of_another_runs_events(root: Path) -> None:
    before = source(root, **ALONE).responses("sub-01")
    for row in range(4):
        cell(row, "duration", "0")(root)
    after = source(root, **ALONE).responses("sub-01")
    scale = np.abs(rows(after, "train")[2:]).mean() / np.abs(rows(before, "train")[2:]).mean()
    assert 0.8 < scale < 1.25, "run 2 is all impulses now, each of the area of an event of run 1"
    assert after.attributes["notes"][0].startswith("3 of 6 events have the duration 0: modelled as impulses")


def test_runs_whose_betas_differ_in_noise_are_told(root: Path) -> None:
    for row in range(4):
        cell(row, "duration", "0.2")(root)
    (note,) = source(root, **ALONE).responses("sub-01").attributes["notes"]
    assert note.startswith("betas of the runs differ in noise by up to ")
    assert "most of it in sub-01_task-movie_run-2_events.tsv; the median events of the runs with least and most" in note
    assert "last 2 s and 0.2 s" in note


def test_events_that_no_image_belongs_to_are_told(root: Path) -> None:
    copied(EVENTS, EVENTS.replace("run-2", "run-3"))(root)
    copied(EVENTS, EVENTS.replace("movie", "rest"))(root)
    (note,) = source(root, **WINDOW).responses("sub-01").attributes["notes"]
    assert note == "1 table of events belongs to no image that is read, such as sub-01_task-movie_run-3_events.tsv"
    assert "notes" not in source(root, **WINDOW, entities={"run": ["1", "2"]}).responses("sub-01").attributes


def test_confounds_of_other_length_are_told_where_only_motion_is_read(root: Path) -> None:
    table(CONFOUNDS, lambda t: t.head(39))(root)
    told: list[str] = []
    with listening(lambda what, *_: told.append(what)):
        source(root, derivatives="derivatives/fmriprep", **WINDOW).shape("sub-01")
    assert "39 rows for 40 volumes, so the head's motion is not known" in told[0]


def test_what_was_ingested_is_one_line(root: Path, tmp_path: Path) -> None:
    recording = source(root, **WINDOW).responses("sub-01")
    told: list[str] = []
    with listening(lambda what, *_: told.append(what)):
        write_responses(tmp_path / "features.zarr", recording, "bids", "none", "0" * 64)
    assert told[0] == (
        "sub-01: 4 train trials (2 stimuli, 2 repetitions each); 2 test trials (1 stimulus, 2 repetitions each); "
        "20 voxels; each window holds 3 volumes, averaged"
    )
    regions = source(root, **GLM).shape("sub-01").summary()
    assert regions.endswith("2 repetitions each); 20 voxels in 2 regions")
    kept = source(root, mask="none", response={"kind": "window", "average": False, "stop_s": 5.5})
    assert kept.shape("sub-01").summary().endswith("each window holds 1 volume, kept")


def test_a_second_subject_with_the_same_bytes_is_refused(root: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    check_copies(source(root), "sub-01")
    shutil.copytree(root / "sub-01", root / "sub-02")
    renamed_in = root / "sub-02" / "func"
    for path in sorted(renamed_in.iterdir()):
        path.rename(renamed_in / path.name.replace("sub-01", "sub-02"))
    with pytest.raises(SourceError, match=r"sub-02.*run-1_bold.nii.gz: holds the same bytes as .*sub-01/func/.*run-1"):
        check_copies(source(root), "sub-02")
    check_copies(source(root, subjects=["01"]), "sub-01")
    folder = write_arrays(tmp_path / "recordings", rng, subjects=("sub-01", "sub-02"))
    check_copies(Arrays(folder), "sub-01")
    shutil.copy(folder / "sub-01" / "responses.npy", folder / "sub-02" / "responses.npy")
    with pytest.raises(SourceError, match="sub-01 and sub-02 would be one person's recordings; fetch the right ones"):
        check_copies(Arrays(folder), "sub-01")


def test_a_run_that_is_a_copy_of_another_is_refused(root: Path) -> None:
    (root / IMAGE).write_bytes((root / IMAGE.replace("run-2", "run-1")).read_bytes())
    with pytest.raises(SourceError, match="run-2_bold.nii.gz: holds the same bytes as .*run-1_bold.nii.gz: sub-01"):
        check_copies(source(root), "sub-01")


def test_trials_that_are_copies_are_told(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = write_arrays(tmp_path / "recordings", rng, train=4, test=2)
    trials, responses = pd.read_csv(folder / "sub-01/trials.csv"), np.load(folder / "sub-01/responses.npy")
    first, second = trials.index[trials["stimulus_id"] == "s000"]
    responses[second] = responses[first]
    responses[trials["stimulus_id"] == "s001"] = 0
    np.save(folder / "sub-01/responses.npy", responses)
    told: list[str] = []
    with listening(lambda what, *_: told.append(what)):
        write_responses(tmp_path / "features.zarr", Arrays(folder).responses("sub-01"), "arrays", "none", "0" * 64)
    assert "sub-01: 1 of 8 train trials are copies, bit for bit, of an" in "\n".join(told)
    assert "test trials are copies" not in "\n".join(told)


def test_the_shape_counts_what_is_read(root: Path) -> None:
    read = RecordingShape.of(source(root, **WINDOW).responses("sub-01"))
    assert read.summary() == source(root, **WINDOW).shape("sub-01").summary()


def test_scaled_integers_are_read_as_their_header_says(root: Path) -> None:
    stored = nibabel.load(root / IMAGE)
    scaled = nibabel.Nifti1Image(np.asarray(stored.dataobj), stored.affine, stored.header)
    scaled.header.set_data_dtype(np.int16)
    before = rows(source(root, **ALONE).responses("sub-01"), "train")
    nibabel.save(scaled, root / IMAGE)
    assert nibabel.load(root / IMAGE).get_data_dtype() == np.int16
    np.testing.assert_allclose(rows(source(root, **ALONE).responses("sub-01"), "train"), before, atol=0.1)


def test_text_that_is_no_table_is_named(root: Path) -> None:
    text(EVENTS, 'onset\tduration\tstim_file\n1\t2\t"a\n')(root)
    with pytest.raises(SourceError, match="run-2_events.tsv line 2: a quote is opened and not closed in this line"):
        source(root).stimuli()
