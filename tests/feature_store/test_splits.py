"""Splits by run, segment and block, what is purged, and the columns of time that a store keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from core.errors import SourceError
from feature_store.sources.arrays import Arrays, ArraysConfig
from feature_store.sources.base import Split, declared_trials
from feature_store.sources.bold_moments.events import event_files, presentations, with_times
from feature_store.sources.splits import SplitConfig, kept_trials
from feature_store.times import places, run_labels, trial_times

from .faults.bids import WINDOW, source, write_bids

CLIPS, LENGTH_S = 40, 5.0


@pytest.fixture
def movie(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two episodes of 40 clips of 5 s, each shown once in a run of its own."""
    folder = tmp_path / "movie"
    (folder / "sub-01").mkdir(parents=True)
    names = [f"{episode}-{clip:02d}" for episode in ("ep1", "ep2") for clip in range(CLIPS)]
    start = np.tile(np.arange(CLIPS) * LENGTH_S, 2)
    stimuli = {"stimulus_id": names, "segment": [name[:3] for name in names], "start_s": start}
    pd.DataFrame({**stimuli, "file": "", "caption": "", "part": [int(n[-1]) for n in names]}).to_csv(
        folder / "stimuli.csv", index=False
    )
    trials = {"stimulus_id": names, "repetition": 0, "session": "s1", "run": [name[2] for name in names]}
    pd.DataFrame({**trials, "onset_s": start + 10}).to_csv(folder / "sub-01" / "trials.csv", index=False)
    np.save(folder / "sub-01" / "responses.npy", rng.normal(size=(len(names), 7)).astype(np.float32))
    return folder


def split_of(movie: Path, **split: Any) -> Arrays:
    return ArraysConfig.model_validate({"path": movie.name, "split": split}).build(movie.parent)


def in_test_of(arrays: Arrays) -> list[str]:
    table = arrays.stimuli()
    return list(table.loc[table["split"] == "test", "stimulus"])


def test_a_split_by_run_or_by_segment_tests_a_whole_episode(movie: Path) -> None:
    second = [f"ep2-{clip:02d}" for clip in range(CLIPS)]
    assert in_test_of(split_of(movie, by="segment", test=["ep2"])) == second
    for name in ("2", "run-2", "ses-s1_run-2", 2):
        assert in_test_of(split_of(movie, by="run", test=[name])) == second
    recording = split_of(movie, by="run", test=["2"]).responses("sub-01")
    raw = np.load(movie / "sub-01" / "responses.npy")
    assert np.array_equal(recording.values["test"][0:CLIPS], raw[CLIPS:])
    assert recording.trials["train"]["run"].unique().tolist() == ["1"]


def test_a_split_by_blocks_tests_these_blocks_of_every_segment(movie: Path) -> None:
    last = [f"{episode}-{clip:02d}" for episode in ("ep1", "ep2") for clip in range(30, 40)]
    assert in_test_of(split_of(movie, by="block", length_s=50, test=["-1"])) == last
    assert in_test_of(split_of(movie, by="block", length_s=50, test=[3])) == last
    assert len(in_test_of(split_of(movie, by="block", length_s=50, test=[0, 1]))) == 40


def test_a_split_by_column_or_stimulus_is_as_it_was(movie: Path) -> None:
    assert in_test_of(split_of(movie, by="column", column="part", test=[3]))[:2] == ["ep1-03", "ep1-13"]
    assert in_test_of(split_of(movie, by="stimulus", test=["ep1-07"])) == ["ep1-07"]
    with pytest.raises(SourceError, match=r"stimuli.csv: lacks the column 'split'"):
        Arrays(movie).stimuli()


def test_a_share_or_a_count_of_stimuli_is_drawn_by_a_seed(movie: Path) -> None:
    share = in_test_of(split_of(movie, by="stimulus", test=0.2))
    assert len(share) == 16
    assert in_test_of(split_of(movie, by="stimulus", test=16)) == share, "a count is a share of as many"
    assert in_test_of(split_of(movie, by="stimulus", test=0.2, seed=0)) == share
    other = in_test_of(split_of(movie, by="stimulus", test=0.2, seed=1))
    assert len(other) == 16
    assert other != share
    assert set(in_test_of(split_of(movie, by="stimulus", test=5))) < set(share), "a larger part holds a smaller one"
    assert {name[:3] for name in share} == {"ep1", "ep2"}


def test_a_draw_does_not_depend_on_the_order_of_a_table(movie: Path) -> None:
    drawn = set(in_test_of(split_of(movie, by="stimulus", test=0.1, seed=3)))
    pd.read_csv(movie / "stimuli.csv").sample(frac=1, random_state=1).to_csv(movie / "stimuli.csv", index=False)
    assert set(in_test_of(split_of(movie, by="stimulus", test=0.1, seed=3))) == drawn


def test_runs_segments_blocks_and_values_of_a_column_are_drawn_whole(movie: Path) -> None:
    for by in ("run", "segment"):
        drawn = in_test_of(split_of(movie, by=by, test=1))
        assert len(drawn) == CLIPS
        assert len({name[:3] for name in drawn}) == 1
    blocks = in_test_of(split_of(movie, by="block", length_s=50, test=0.5, seed=2))
    assert len(blocks) == CLIPS
    places = {(name[:3], int(name[4:]) // 10) for name in blocks}
    assert len(places) == 4, "four of the eight blocks of 50 s"
    parts = in_test_of(split_of(movie, by="column", column="part", test=3))
    assert len(parts) == 24
    assert len({name[-1] for name in parts}) == 3
    purged = split_of(movie, by="block", length_s=50, test=2, purge_s=12).responses("sub-01")
    assert purged.attributes["purge"]["dropped"] > 0
    assert not set(purged.trials["train"]["stimulus"]) & set(purged.trials["test"]["stimulus"])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"by": "stimulus", "test": 80}, "source.split.test is 80, which is 80 of the 80 stimuli here; both testing"),
        ({"by": "run", "test": 0.2}, "source.split.test is 0.2, which is 0 of the 2 runs here"),
        ({"by": "segment", "test": 0.8}, "source.split.test is 0.8, which is 2 of the 2 segments here"),
        ({"by": "column", "column": "part", "test": 11}, "which is 11 of the 10 different values of part here"),
    ],
)
def test_a_draw_that_leaves_a_part_empty_is_one_line(movie: Path, split: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message) as raised:
        split_of(movie, **split).stimuli()
    assert "\n" not in str(raised.value)


def test_bids_draws_once_for_all_subjects(tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    root.mkdir()
    write_bids(root)
    for file in list((root / "sub-01").rglob("*")):
        if file.is_file():
            copy = Path(str(file).replace("sub-01", "sub-02"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    for split in ({"by": "stimulus", "test": 1}, {"by": "stimulus", "test": 0.34, "seed": 5}):
        reader = source(root, **WINDOW, split=split)
        assert reader.stimuli()["split"].tolist().count("test") == 1
        tested = [set(reader.responses(f"sub-0{n}").trials["test"]["stimulus"]) for n in (1, 2)]
        assert tested[0] == tested[1] == set(reader.stimuli().query("split == 'test'")["stimulus"])
    with pytest.raises(SourceError, match=r"stimulus '\w+' is for \w+ in .* and \w+ in"):
        source(root, **WINDOW, split={"by": "run", "test": 1}).stimuli()


def test_what_is_purged_is_what_lies_near_and_is_told(movie: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = split_of(movie, by="block", length_s=50, test=["-1"], purge_s=12).responses("sub-01")
    left = list(recording.trials["train"]["stimulus"])
    # Clips of 5 s: 29 ends where 30 begins, 28 ends 5 s before, 27 10 s; 26 ends 15 s before.
    assert [name for name in left if name.startswith("ep1")] == [f"ep1-{clip:02d}" for clip in range(27)]
    assert recording.attributes["purge"] == {"purge_s": 12.0, "dropped": 6, "of": 60}
    assert recording.values["train"].shape == (54, 7)
    raw = np.load(movie / "sub-01" / "responses.npy")
    assert np.array_equal(recording.values["train"][0:54], raw[[*range(27), *range(40, 67)]])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"by": "run", "test": ["3"]}, "source.split.test names '3', no run here; known: ses-s1_run-1, ses-s1_run-2"),
        ({"by": "segment", "test": ["ep3"]}, "names 'ep3', no segment here; did you mean 'ep"),
        ({"by": "block", "length_s": 500, "test": ["-1"]}, "no stimulus has the split 'train'"),
        ({"by": "column", "column": "patr", "test": ["1"]}, "lacks the column 'patr'; did you mean 'part'"),
        ({"by": "stimulus", "test": ["ep1-99"]}, "source.split.test names 'ep1-99', not in stimulus"),
        ({"by": "stimulus", "test": ["ep1-05"], "purge_s": 900}, None),
        ({"by": "segment", "test": ["ep1"], "purge_s": 900}, None),
    ],
)
def test_what_cannot_be_split_is_one_line(movie: Path, split: dict[str, Any], message: str | None) -> None:
    arrays = split_of(movie, **split)
    if message is None:
        recording = arrays.responses("sub-01")
        assert recording.trials["train"]["stimulus"].str.startswith("ep2").all()
        return
    with pytest.raises(SourceError, match=message) as raised:
        arrays.stimuli()
    assert "\n" not in str(raised.value)


def test_a_purge_of_everything_and_one_without_times_are_refused(movie: Path) -> None:
    everything = split_of(movie, by="column", column="part", test=[3, 7], purge_s=60)
    with pytest.raises(SourceError, match="all 64 training trials of sub-01 lie within 60 s of a test trial"):
        everything.responses("sub-01")
    for name, columns in (("stimuli.csv", ["segment"]), ("sub-01/trials.csv", ["onset_s"])):
        table = pd.read_csv(movie / name).drop(columns=columns)
        table.to_csv(movie / name, index=False)
    with pytest.raises(SourceError, match="purge_s is 12, which needs run and onset_s of the trials, or segment"):
        split_of(movie, by="column", column="part", test=[3], purge_s=12).responses("sub-01")
    with pytest.raises(SourceError, match="split.by is 'block', which needs run and onset_s"):
        split_of(movie, by="block", length_s=10, test=["-1"]).stimuli()


def test_a_stimulus_shown_in_both_parts_is_refused(movie: Path) -> None:
    table = pd.read_csv(movie / "sub-01/trials.csv")
    table.loc[len(table) - 1, ["stimulus_id", "repetition"]] = ["ep1-00", 1]
    table.to_csv(movie / "sub-01/trials.csv", index=False)
    with pytest.raises(SourceError, match="'ep1-00' was shown in a test run and in a training run"):
        split_of(movie, by="run", test=["2"]).stimuli()


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"by": "block", "test": ["0"]}, "'length_s' goes with 'by: block'"),
        ({"by": "run", "test": ["0"], "length_s": 3}, "'length_s' goes with 'by: block'"),
        ({"by": "block", "test": ["first"], "length_s": 3}, "blocks are whole numbers, -1 is the last"),
        ({"by": "run", "test": ["0"], "column": "a"}, "'column' goes with 'by: column'"),
        ({"by": "run", "test": ["0"], "purge_s": -1}, "greater than or equal to 0"),
        *(
            (
                {"by": "stimulus", "test": test},
                "expected a list of names, a share between 0 and 1 such as 0.2, or a count",
            )
            for test in ([], 0, -3, 1.0, 2.0, 0.0, True, "x", None, float("nan"), {})
        ),
        ({"by": "task", "test": 0.2}, "tasks are not drawn; name those that test in a list"),
        ({"by": "stimulus", "test": ["x"], "seed": 1}, "'seed' goes with a share or a count; remove seed"),
    ],
)
def test_settings_of_splits_that_say_nothing_are_refused(split: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SplitConfig.model_validate(split)


def test_bids_runs_are_split_and_purged(tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    root.mkdir()
    write_bids(root)
    by_stimulus = source(root, **WINDOW).responses("sub-01")
    assert by_stimulus.trials["train"]["onset_s"].tolist() == [4.5, 20.5, 20.5, 36.5]
    assert by_stimulus.trials["train"]["duration_s"].tolist() == [2.0] * 4
    purged = source(root, **WINDOW, **{"split": {"by": "stimulus", "test": ["x"], "purge_s": 20}}).responses("sub-01")
    # The test clip is shown at 52.5 s of run 1 and at 4.5 s of run 2; trials last 2 s.
    assert purged.trials["train"]["onset_s"].tolist() == [4.5, 20.5, 36.5]
    assert purged.attributes["purge"] == {"purge_s": 20.0, "dropped": 1, "of": 4}
    with pytest.raises(SourceError, match=r"stimulus '\w+' is for train in .* and test in"):
        source(root, **WINDOW, **{"split": {"by": "run", "test": ["2"]}}).stimuli()


def test_runs_are_named_as_bids_names_them() -> None:
    table = pd.DataFrame({"session": ["", "02"], "task": ["a", "a"], "run": [1, 12], "onset_s": [0.5, 3.0]})
    labels = run_labels(table)
    assert labels is not None
    assert labels.tolist() == ["task-a_run-1", "ses-02_task-a_run-12"]
    assert run_labels(table.drop(columns="run")) is None
    assert trial_times(table.drop(columns="onset_s")) is None
    assert places(table.assign(stimulus=["a", "b"])) is None


def test_the_real_events_of_bold_moments_time_every_trial(shared_data: Path) -> None:
    path = shared_data / "bold-moments/ds005165"
    files = event_files(path, "sub-01")
    if not files:
        pytest.skip("the real events of bold-moments are not here")
    shown = presentations(files)
    counts = shown.groupby("stimulus").size()
    assert (counts[counts.index.astype(int) <= 1000] == 3).all()
    assert (counts[counts.index.astype(int) > 1000] == 10).all()
    train = [f"{number:04d}" for number in range(1, 1001)]
    test = [f"{number:04d}" for number in range(1001, 1103)]
    timed = with_times({"train": declared_trials(train, 3), "test": declared_trials(test, 10)}, path, "sub-01")
    assert [len(timed[split]) for split in ("train", "test")] == [3000, 1020]
    assert timed["test"]["stimulus"].tolist() == [name for name in test for _ in range(10)]
    one = timed["test"].iloc[0]
    events = pd.read_csv(
        path / f"sub-01/ses-{one['session']}/func/sub-01_ses-{one['session']}_task-test_run-{one['run']}_events.tsv",
        sep="\t",
    )
    assert events.loc[events["stim_file"] == "test/1001.mp4", "onset"].tolist() == [one["onset_s"]]
    runs = {split: set(run_labels(timed[split]) if timed[split] is not None else []) for split in timed}
    assert not runs["train"] & runs["test"], "training and test clips were shown in different runs"


def test_a_trial_without_a_time_cannot_be_purged_by_it() -> None:
    train = pd.DataFrame({"stimulus": ["a", "b"], "run": ["1", "1"], "onset_s": [4.0, np.nan]})
    trials: dict[Split, pd.DataFrame] = {"train": train, "test": train.assign(stimulus="x", onset_s=40.0)}
    stimuli = pd.DataFrame({"stimulus": ["a", "b", "x"]})
    with pytest.raises(SourceError, match=r"purge_s is 12, .* for every trial; 1 of 4 trials of sub-01 have none"):
        kept_trials(trials, stimuli, 12.0, "sub-01", "trials.csv")
    trials["train"] = train.fillna(35.0)
    assert kept_trials(trials, stimuli, 12.0, "sub-01", "trials.csv")[0].tolist() == [True, False]
