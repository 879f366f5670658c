"""BIDS: a tiny folder whose voxels tell their own address; what files, events and headers may look like."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nilearn.glm.first_level import compute_regressor
from pydantic import TypeAdapter, ValidationError

from core.clips import ClipConfig, write_clip
from core.errors import SourceError, SourceMissing
from feature_store.sources.bids import dataset
from feature_store.sources.bids.dataset import BidsConfig, RunRows
from feature_store.sources.bids.events import stimulus_name
from feature_store.sources.bids.files import Layout, inherited
from feature_store.sources.settings import SourceConfig
from feature_store.sources.timeseries import WindowConfig, volumes_in_window

from .faults.bids import (
    AFFINE,
    EVENTS,
    GLM,
    IMAGE,
    PREP_IMAGE,
    RAW,
    SHAPE,
    SHOWN,
    SIDECAR,
    TR_S,
    VOLUMES,
    WINDOW,
    image,
    rows,
    source,
    table,
    write_image,
    write_table,
)

ADDRESS: dict[str, Any] = {"kind": "window", "detrend": False, "standardise": "none", "start_s": 4, "stop_s": 10}


def with_addresses(root: Path) -> None:
    """Make each value tell its own address: run · 10,000 + voxel · 100 + volume."""
    for run in SHOWN:
        voxel, volume = np.indices((20, VOLUMES))
        values = (run * 10_000 + voxel * 100 + volume).reshape(*SHAPE, VOLUMES).astype(np.float32)
        write_image(root / (RAW.format(run=run) + "_bold.nii.gz"), values)


def test_windows_hold_the_volumes_after_each_onset(root: Path) -> None:
    with_addresses(root)
    recording = source(root, mask="none", response=ADDRESS | {"average": False}).responses("sub-01")
    # a is shown at 4.5 s and 36.5 s, b at 20.5 s in both runs; the next volumes 4 s later are at 10, 42 and 26 s.
    train = rows(recording, "train")
    assert recording.trials["train"]["stimulus"].tolist() == ["a", "b", "b", "a"]
    assert (train.shape, train.dtype) == ((4, 3, 20), np.float32)
    first = [10_005, 10_013, 20_013, 20_021]
    np.testing.assert_array_equal(train, np.add.outer(np.add.outer(first, [0, 1, 2]), np.arange(20) * 100))
    averaged = source(root, mask="none", response=ADDRESS).responses("sub-01")
    np.testing.assert_array_equal(rows(averaged, "train"), train.mean(axis=1))
    assert rows(averaged, "test")[:, 0].tolist() == [10_030, 20_006]


@pytest.mark.parametrize(("stop_s", "tr_s", "volumes"), [(10, 2, 3), (10, 0.8, 8), (10, 4, 2), (5, 1.75, 1)])
def test_a_window_holds_its_length_in_volumes(stop_s: float, tr_s: float, volumes: int) -> None:
    assert volumes_in_window(WindowConfig(start_s=4, stop_s=stop_s), tr_s) == volumes


def test_a_window_without_a_volume_is_refused_before_an_image_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feature_store.sources.bids.voxels.read_values", None)
    short = source(root, mask="none", response=ADDRESS | {"stop_s": 4.9})
    for read in (short.shape, short.responses):
        with pytest.raises(SourceError, match="the window from 4 s to 4.9 s holds no volume of 2 s; make it longer"):
            read("sub-01")


def test_trials_say_when_and_where(root: Path) -> None:
    recording = source(root, **WINDOW).responses("sub-01")
    test = recording.trials["test"]
    assert list(test) == ["stimulus", "repetition", "session", "task", "run", "onset_s", "duration_s"]
    assert test.iloc[1].tolist() == ["x", 1, "", "movie", 2, 4.5, 2.0]
    assert recording.attributes["tr_s"] == 2.0
    assert recording.attributes["affine"] == AFFINE.tolist()
    assert recording.attributes["mask"] == "voxels that vary in every run"
    json.dumps(recording.attributes, allow_nan=False)


def test_a_run_is_read_once_for_each_split(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_addresses(root)
    read, real = [], dataset.read_series
    monkeypatch.setattr(
        dataset, "read_series", lambda path, voxels: (read.append(path.name[18:23]), real(path, voxels))[1]
    )
    recording = source(root, mask="none", response=ADDRESS).responses("sub-01")
    assert read == []
    whole = np.concatenate([np.asarray(recording.values["train"][row : row + 1]) for row in range(4)])
    assert read == ["run-1", "run-2"]
    np.testing.assert_array_equal(rows(recording, "train")[::-1], whole[::-1])
    assert recording.values["train"][4:].shape == (0, 20)


def test_voxels_stand_region_by_region(root: Path) -> None:
    recording = source(root, **GLM).responses("sub-01")
    voxels = recording.voxels
    assert voxels["roi"].tolist() == ["V2"] * 6 + ["V1"] * 7 + ["none"] * 7  # as the labels stand; in no region last
    assert voxels.iloc[0][["i", "j", "k"]].tolist() == [0, 1, 0]
    np.testing.assert_array_equal(voxels[["x", "y", "z"]].iloc[0], [-6, 4, 2])
    plain = source(root, **{**GLM, "atlas": None}).responses("sub-01")
    assert set(plain.voxels["roi"]) == {"brain"}
    order = np.ravel_multi_index(tuple(voxels[["i", "j", "k"]].to_numpy().T), SHAPE)
    np.testing.assert_allclose(rows(plain, "train")[:, order], rows(recording, "train"), rtol=1e-5)
    assert recording.attributes["space"] == "T1w"
    assert recording.attributes["response"]["confounds"] == ["trans_*", "csf"]


def test_masks(root: Path) -> None:
    probability = np.linspace(0, 1, 20, dtype=np.float32).reshape(SHAPE)
    write_image(root / "mask.nii.gz", probability)
    recording = source(root, mask="mask.nii.gz", response=ADDRESS).responses("sub-01")
    assert len(recording.voxels) == 10
    assert recording.attributes["mask"] == "source.mask: mask.nii.gz"
    with pytest.raises(
        SourceError, match="none could be computed from the runs' mean; set source.mask to a NIfTI file"
    ):
        source(root, response=ADDRESS).responses("sub-01")


def test_only_images_are_masks(root: Path) -> None:
    masks = [run.mask for run in source(root, **GLM).layout.runs("sub-01")]
    assert [path.name[-len("_mask.nii.gz") :] for path in masks] == ["_mask.nii.gz"] * 2
    for path in root.rglob("*_mask.nii.gz"):
        path.unlink()
    assert [run.mask for run in source(root, **GLM).layout.runs("sub-01")] == [None, None]


def test_a_mask_is_computed_where_there_is_none(root: Path, rng: np.random.Generator) -> None:
    distance = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    brain = np.where(distance < 6, 1000.0, 20.0)[..., None] + rng.normal(0, 5, (16, 16, 16, VOLUMES))
    for run in SHOWN:
        write_image(root / (RAW.format(run=run) + "_bold.nii.gz"), brain.astype(np.float32))
    recording = source(root, response=ADDRESS).responses("sub-01")
    inside = distance[tuple(recording.voxels[["i", "j", "k"]].to_numpy().T)]
    assert 0.5 < len(inside) / (distance < 6).sum() <= 1
    assert inside.max() < 7
    assert "compute_epi_mask" in recording.attributes["mask"]


def test_stimuli(root: Path) -> None:
    reader = source(root)
    stimuli = reader.stimuli()
    assert list(stimuli) == ["stimulus", "split", "caption"]
    assert stimuli.to_numpy().tolist() == [["a", "train", []], ["b", "train", []], ["x", "test", []]]
    assert [path.name for path in reader.stimulus_files()[2:]] == ["a.mp4", "b.mp4", "x.mp4"]
    assert reader.target("clip") is None
    with pytest.raises(SourceError, match="no event shows the stimulus 'y'; known: a, b, x"):
        reader.clip("y", ClipConfig())


def test_captions_and_splits_from_columns(root: Path) -> None:
    for run in SHOWN:
        said = [f"{name[-5:-4]} seen in {run}" for name in SHOWN[run]]
        table(RAW.format(run=run) + "_events.tsv", lambda t, said=said: t.assign(said=said))(root)
    split = {"by": "column", "column": "split", "test": ["test"]}
    stimuli = source(root, caption_column="said", split=split).stimuli()
    assert stimuli.iloc[2].tolist() == ["x", "test", ["x seen in 1", "x seen in 2"]]
    by_file = source(root, split={"by": "stimulus", "test": ["train/b.mp4"]}).stimuli()
    assert by_file["split"].tolist() == ["train", "train", "test"]


def test_clips(root: Path) -> None:
    write_clip(root / "stimuli/test/x.mp4", np.full((4, 64, 64, 3), 128, np.uint8), 2, min_side=64)
    config = ClipConfig(frames=2, height=8, width=8, window_s=2)
    clip = source(root).clip("x", config)
    assert clip is not None
    assert abs(int(clip.mean()) - 128) <= 3
    by_name = source(root, stimulus_column="split", split={"by": "stimulus", "test": ["test"]}, ignore=["n"])
    assert by_name.clip("train", config) is None
    (root / "stimuli").rename(root.parent / "elsewhere")
    assert source(root).clip("x", config) is None
    assert source(root).stimulus_files() == [root / (RAW.format(run=run) + "_events.tsv") for run in SHOWN]
    assert source(root, stimuli=str(root.parent / "elsewhere")).clip("x", config) is not None


def test_a_value_that_leads_out_of_the_folder_is_no_clip(root: Path) -> None:
    write_clip(root / "x.mp4", np.zeros((4, 64, 64, 3), np.uint8), 2, min_side=64)
    for run in SHOWN:
        table(RAW.format(run=run) + "_events.tsv", lambda t: t.assign(split=t["split"].replace("test", "../x.mp4")))(
            root
        )
    reader = source(root, stimulus_column="split", split={"by": "stimulus", "test": ["../x.mp4"]}, ignore=["n"])
    assert reader.clip("x.mp4", ClipConfig()) is None
    assert root / "x.mp4" not in [path.resolve() for path in reader.stimulus_files()]


def test_what_an_oddball_evokes_is_not_taken_for_a_trial(root: Path) -> None:
    """A strong response to an oddball just before a trial: modelled, it leaves the trials' betas at nought."""
    onset_s, times_s = 4.5 + 2 * 16.0, TR_S * np.arange(VOLUMES)
    for run in SHOWN:
        shown = onset_s if run == 1 else onset_s + 16
        evoked = compute_regressor(([shown], [2.0], [1.0]), "glover", times_s)[0][:, 0]
        values = 100 + 40 * evoked + np.linspace(0, 1, 20).reshape(SHAPE)[..., None]
        write_image(root / (RAW.format(run=run) + "_bold.nii.gz"), values.astype(np.float32))
    glm = {"mask": "none", "response": {"kind": "glm", "standardise": "none"}}
    blind = rows(source(root, **glm).responses("sub-01"), "train")
    told = rows(source(root, ignore=[], nuisance=["n/a"], **glm).responses("sub-01"), "train")
    assert np.abs(blind).max() > 1
    assert np.abs(told).max() < 1e-3


@pytest.mark.parametrize(
    ("value", "column", "name"),
    [
        ("train/0444.mp4", "stim_file", "0444"),
        ("train/0444.mp4", "movie", "train_0444.mp4"),
        ("a face (old)", "trial_type", "a_face_old"),
        ("-.-", "trial_type", ""),
    ],
)
def test_names(value: str, column: str, name: str) -> None:
    assert stimulus_name(value, column) == name


def test_files_are_all_that_is_read(root: Path) -> None:
    names = {path.relative_to(root).as_posix() for path in source(root, **GLM).response_files("sub-01")}
    assert {SIDECAR, EVENTS, PREP_IMAGE, "atlas.nii.gz", "atlas.tsv"} < names
    assert len(names) == 1 + 5 * 2 + 2
    assert len(source(root, **WINDOW).response_files("sub-01")) == 5
    assert source(root, subjects=["01"]).subjects == source(root, subjects=["sub-01"]).subjects == ["sub-01"]
    with pytest.raises(SourceMissing, match="sub-2: no such subject"):
        source(root).responses("sub-2")


def test_runs_stand_by_session_task_and_number(tmp_path: Path) -> None:
    labels = [
        "ses-2_task-b_run-10",
        "ses-2_task-b_run-9",
        "ses-10_task-a_run-01",
        "ses-2_task-a_run-02",
        "ses-2_task-a_run-1",
    ]
    for label in labels:
        write_image(tmp_path / "sub-1" / label.split("_")[0] / f"func/sub-1_{label}_bold.nii", np.zeros((1, 1, 1, 2)))
    runs = Layout(tmp_path, tmp_path, {}).runs("sub-1")
    assert [(run.session, run.task, run.number) for run in runs] == [
        ("2", "a", 1),
        ("2", "a", 2),
        ("2", "b", 9),
        ("2", "b", 10),
        ("10", "a", 1),
    ]
    chosen = Layout(tmp_path, tmp_path, {"ses": ["2"], "task": ["b"]}).runs("sub-1")
    assert [run.number for run in chosen] == [9, 10]


def test_inheritance(tmp_path: Path) -> None:
    func = tmp_path / "sub-1" / "func"
    func.mkdir(parents=True)
    applies = [tmp_path / "task-a_bold.json", tmp_path / "sub-1/sub-1_bold.json", func / "sub-1_task-a_run-2_bold.json"]
    for path in [*applies, tmp_path / "task-b_bold.json", func / "sub-1_task-a_run-1_bold.json"]:
        path.write_text("{}")
    assert inherited(tmp_path, func, "bold.json", {"sub": "1", "task": "a", "run": "2"}) == applies


def test_a_sidecar_nearer_the_run_takes_precedence(root: Path) -> None:
    (root / "sub-01/func/sub-01_task-movie_run-2_bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    image(RAW.format(run=1) + "_bold.nii.gz", tr=3.0)(root)
    (root / SIDECAR).write_text(json.dumps({"RepetitionTime": 3.0}))
    with pytest.raises(SourceError, match="run-2_bold.nii.gz: repetition time 2 s, expected 3 s"):
        source(root, **WINDOW).responses("sub-01")


@pytest.mark.parametrize(
    ("tr", "unit"), [(2000, "msec"), (2000, "unknown"), (2, "unknown"), (0, "sec"), (2.0004, "sec")]
)
def test_ways_to_write_two_seconds(root: Path, tr: float, unit: str) -> None:
    image(IMAGE, tr=tr, unit=unit)(root)
    assert source(root, **WINDOW).responses("sub-01").attributes["tr_s"] == 2.0


def test_volumes_taken_later_are_later(root: Path) -> None:
    with_addresses(root)
    (root / SIDECAR).write_text(json.dumps({"RepetitionTime": 2.0, "StartTime": 1.0}))
    recording = source(root, mask="none", response=ADDRESS).responses("sub-01")
    assert rows(recording, "train")[0, 0] == 10_005  # 9, 11 and 13 s, where they were 10, 12 and 14 s
    assert recording.attributes["start_s"] == 1.0


def test_config() -> None:
    settings = {"kind": "bids", "path": "x", "split": {"by": "task", "test": ["test"]}, "response": {"kind": "window"}}
    config: Any = TypeAdapter(SourceConfig).validate_python(settings)
    assert isinstance(config, BidsConfig)
    assert (config.ignore, config.named_subjects, config.response.kind) == (("n/a",), None, "window")
    assert config.model_copy(update={"subjects": ["sub-1", "2"]}).named_subjects == ["sub-1", "sub-2"]
    with pytest.raises(ValidationError, match="'column' goes with 'by: column' and only with it"):
        BidsConfig.model_validate(settings | {"split": {"by": "column", "test": ["x"]}})
    with pytest.raises(ValidationError, match="stop_s 1 is not after start_s 4"):
        BidsConfig.model_validate(settings | {"response": {"kind": "window", "stop_s": 1}})
    for part in ("subjects", "sessions", "task"):
        with pytest.raises(ValidationError, match=f"{part}.*\n.*at least 1 item"):
            BidsConfig.model_validate(settings | {part: []})


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("setting", ["start_s", "stop_s", "high_pass_hz", "duration_s"])
def test_times_are_finite(setting: str, value: float) -> None:
    response = {"kind": "window" if setting.startswith("st") else "glm", setting: value}
    with pytest.raises(ValidationError, match=f"{setting}\n.*(finite number|greater than)"):
        BidsConfig.model_validate({"path": "x", "split": {"by": "task", "test": ["test"]}, "response": response})


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=20), st.slices(20))
def test_rows_are_those_of_their_runs(where: list[tuple[int, int]], part: slice) -> None:
    runs = np.arange(5 * 7 * 3, dtype=np.float32).reshape(5, 7, 3)
    places = np.array(where, dtype=np.int64).reshape(-1, 2)
    lazy = RunRows(places, (3,), lambda run: runs[run])
    np.testing.assert_array_equal(lazy[part], runs[places[:, 0], places[:, 1]][part])
    assert lazy[part].dtype == np.float32


def test_a_run_that_shows_nothing_is_left_out(root: Path) -> None:
    rest = RAW.format(run=3)
    write_image(root / f"{rest}_bold.nii.gz", np.zeros((1, 1, 1, 5)))
    write_table(root / f"{rest}_events.tsv", {"onset": [0.0], "duration": [9.0], "stim_file": ["n/a"]})
    recording = source(root, **WINDOW).responses("sub-01")
    assert set(recording.trials["train"]["run"]) == {1, 2}
    with pytest.raises(SourceError, match="run-1_events.tsv: no event shows a stimulus, here and in all runs"):
        source(root, ignore=["n/a", *(name for shown in SHOWN.values() for name in shown)]).stimuli()


def test_lines_are_those_of_the_file(root: Path) -> None:
    text = (root / EVENTS).read_text().replace("\n", "\r\n").split("\r\n", 1)
    (root / EVENTS).write_text(f"\ufeff{text[0]}\r\n\r\n{text[1]}\r\n\r\n")
    assert len(source(root).stimuli()) == 3
    (root / EVENTS).write_text((root / EVENTS).read_text().replace("4.5\t", "x\t"))
    with pytest.raises(SourceError, match="run-2_events.tsv line 3: onset 'x' is no time"):
        source(root).stimuli()
