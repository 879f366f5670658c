"""Trials whose betas have more noise than others, late ones and impulses: measured, told, refused, dropped or kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nilearn.glm.first_level import compute_regressor, glover_hrf

from core.errors import SourceError
from core.progress import listening
from feature_store.reader import Responses, open_group
from feature_store.sources.base import SPLITS, RecordingShape
from feature_store.sources.bids import dataset
from feature_store.sources.timeseries import (
    Events,
    GlmConfig,
    Timing,
    late_trials,
    noise_gains,
    trial_betas,
    trial_weights,
)
from studies.stores.ingestion import write_responses

from .faults.bids import GLM, WINDOW, cell, rows, source

KEEP = GlmConfig(noisy_trials="keep", standardise="none")
LONG, SHORT = Timing(150, 2.0), Timing(160, 0.8)


def none(timing: Timing) -> np.ndarray:
    return np.zeros((timing.volumes, 0))


def late(last: float) -> Events:
    """Return fifteen events of 3 s in a run of 300 s, the last of them near its end."""
    return Events(np.r_[np.arange(10, 290, 20.0)[:14], last], np.full(15, 3.0), [f"events line {i}" for i in range(15)])


def lasting(*durations_s: float) -> Events:
    """Return events every 20 s, from 10 s on."""
    count = len(durations_s)
    return Events(10 + 20.0 * np.arange(count), np.array(durations_s), [f"line {i}" for i in range(count)])


@pytest.mark.parametrize(("last", "gain"), [(280, 1.0), (293, 2.0), (294, 3.6), (295, 10.1), (296, 61.6)])
def test_the_gain_is_that_of_the_audit(last: float, gain: float) -> None:
    gains = noise_gains(trial_weights(late(last), LONG, KEEP, none(LONG)))
    assert gains[-1] == pytest.approx(gain, abs=0.06)
    assert np.median(gains) == pytest.approx(1)


@pytest.mark.parametrize("last", [280.0, 294.0])
def test_the_gain_is_the_noise_that_betas_of_noise_have(last: float) -> None:
    noise = np.random.default_rng(0).normal(size=(150, 4000)).astype(np.float32)
    spread = trial_betas(noise, late(last), LONG, KEEP, none(LONG)).std(axis=1)
    gains = noise_gains(trial_weights(late(last), LONG, KEEP, none(LONG)))
    assert gains == pytest.approx(spread / np.median(spread), rel=0.06)


@pytest.mark.parametrize("last", [294.0, 295.0, 296.0])
def test_more_than_three_times_the_noise_is_refused(last: float) -> None:
    with pytest.raises(SourceError, match=r"^events line 14: .*: its onset, 29. s, is . s before") as error:
        trial_weights(late(last), LONG, GlmConfig(), none(LONG))
    assert "source.response.noisy_trials to drop or to keep" in str(error.value)
    assert "\n" not in str(error.value)
    assert trial_weights(late(293), LONG, GlmConfig(), none(LONG)).shape == (15, 150)


def test_a_trial_without_a_response_is_dropped_where_noisy_ones_are() -> None:
    events, config = late(299.5), GlmConfig(noisy_trials="drop")
    with pytest.raises(SourceError, match="the run ends before the response to this event"):
        trial_weights(events, LONG, KEEP, none(LONG))
    weights = trial_weights(events, LONG, config, none(LONG))
    assert np.isinf(noise_gains(weights)[-1])
    assert np.isfinite(weights[:-1]).all()


def test_an_impulse_among_events_that_last_is_one_of_their_size() -> None:
    events = lasting(5, 5, 5, 0, 5)
    weights = trial_weights(events, SHORT, GlmConfig(standardise="none"), none(SHORT))
    assert noise_gains(weights) == pytest.approx(1, abs=0.15)
    # The response itself, of an area of 5 s, has the beta 1; one of half the strength, one half.
    step_s = 0.01
    response = glover_hrf(1.0, oversampling=100) / step_s
    lag_s = SHORT.times_s - 70
    for height in (1.0, 0.5):
        evoked = height * 5 * np.interp(lag_s, step_s * np.arange(len(response)), response, left=0, right=0)
        series = evoked[:, None].astype(np.float32)
        betas = trial_betas(series, events, SHORT, GlmConfig(standardise="none"), none(SHORT))
        assert betas[:, 0] == pytest.approx([0, 0, 0, height, 0], abs=0.05)


def test_impulses_alone_are_nilearns() -> None:
    events = lasting(0, 0, 0, 0, 0)
    own = np.stack([compute_regressor(([o], [0.0], [1.0]), "glover", SHORT.times_s)[0][:, 0] for o in events.onset_s])
    betas = trial_betas(
        (own.sum(axis=0)[:, None] * 1e3).astype(np.float32), events, SHORT, GlmConfig(standardise="none"), none(SHORT)
    )
    assert betas[:, 0] == pytest.approx(1e3, rel=1e-3)


def test_a_short_event_among_long_ones_is_told_by_its_length() -> None:
    with pytest.raises(SourceError, match=r"^line 3: this event \(onset 70 s\) lasts 0.02 s, too short beside .* 5 s"):
        trial_weights(lasting(5, 5, 5, 0.02, 5), SHORT, GlmConfig(), none(SHORT))
    with pytest.raises(SourceError, match=r"^line 3: .* it lasts 0.5 s, the run's median event 5 s"):
        trial_weights(lasting(5, 5, 5, 0.5, 5), SHORT, GlmConfig(), none(SHORT))
    assert len(trial_weights(lasting(5, 5, 5, 0.5, 5), SHORT, GlmConfig(duration_s=5), none(SHORT))) == 5


def test_late_is_less_than_a_response_before_the_end() -> None:
    assert late_trials(late(289.9), LONG).sum() == 0
    assert late_trials(late(290.1), LONG).tolist() == [False] * 14 + [True]


def glm(how: str) -> dict[str, Any]:
    return {"mask": "none", "response": {"kind": "glm", "noisy_trials": how}}


def test_a_bids_dataset_refuses_drops_or_keeps(root: Path) -> None:
    cell(2, "onset", "75.5")(root)  # a second showing of a, 4.5 s before the end of run 2
    with pytest.raises(SourceError, match=r"run-2_events.tsv line 4: .* times the noise of the run's median trial"):
        source(root, **glm("refuse")).responses("sub-01")
    kept, dropped = (source(root, **glm(how)).responses("sub-01") for how in ("keep", "drop"))
    assert kept.trials["train"]["stimulus"].tolist() == ["a", "b", "b", "a"]
    assert dropped.trials["train"]["stimulus"].tolist() == ["a", "b", "b"]
    gains = kept.trials["train"]["noise_gain"]
    assert gains.iloc[-1] > 3 > gains.iloc[:-1].max()
    np.testing.assert_array_equal(rows(dropped, "train"), rows(kept, "train")[:-1])
    np.testing.assert_array_equal(rows(dropped, "test"), rows(kept, "test"))
    told, (end, noisy) = kept.attributes["notes"], dropped.attributes["notes"]
    assert end == told[0]
    assert end.startswith("1 of 6 events begin less than 10 s before their run's end")
    assert "kept (see the column noise_gain of the trials)" in told[1]
    assert "dropped; the first is sub-01_task-movie_run-2_events.tsv line 4: its onset, 75.5 s, is 4.5 s" in noisy
    assert str(root) not in noisy


@pytest.mark.parametrize("settings", [GLM, WINDOW], ids=["glm", "window"])
def test_a_plan_sees_the_shape_without_a_model(
    root: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = source(root, **settings)
    read = RecordingShape.of(reader.responses("sub-01"))
    monkeypatch.setattr(dataset, "trial_weights", None)
    shape = reader.shape("sub-01")
    assert (shape.voxels, shape.times, shape.unlabelled) == (read.voxels, read.times, read.unlabelled)
    assert shape.window == read.window == (None if settings is GLM else 3)
    for split in SPLITS:
        assert list(shape.trials[split]) == list(read.trials[split])
        assert shape.rows(split) == read.rows(split)


def test_a_sound_dataset_has_nothing_to_tell(root: Path) -> None:
    recording = source(root, **GLM).responses("sub-01")
    assert "notes" not in recording.attributes
    assert recording.trials["test"]["noise_gain"].between(0.5, 2).all()
    assert "noise_gain" not in source(root, **WINDOW).responses("sub-01").trials["test"]


def test_impulses_are_told_and_the_store_keeps_the_gains(root: Path, tmp_path: Path) -> None:
    cell(0, "duration", "0")(root)
    recording = source(root, **glm("refuse")).responses("sub-01")
    told: list[str] = []
    with listening(lambda what, *_: told.append(what)):
        write_responses(tmp_path / "features.zarr", recording, "bids", "none", "0" * 64)
    note = "1 of 6 events have the duration 0: modelled as impulses, each of the area of the others' median event, 2 s"
    assert f"sub-01: {note}" in told
    group = open_group(tmp_path / "features.zarr" / "responses" / "sub-01")
    assert isinstance(group, Responses)
    assert group.attributes["notes"] == [note]
    assert group.trials("train")["noise_gain"].between(0.5, 2).all()
