"""What cannot be told from autocorrelation is refused, or flagged; splits that keep neighbours together are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.checkout import project_root
from core.errors import ConfigError
from core.files import read_json
from studies.decoding.order import diagnose_time, order_of
from studies.decoding.training_data import read_training_data
from studies.regions.run import decode_regions
from studies.study import Study, load_study
from studies.training.fit import fit
from tests.conftest import write_arrays

from .conftest import write_study
from .routes_source import make_stores
from .timed_source import arrays, study_of, write_sitcom, write_walks

RANDOM: dict[str, Any] = {"by": "column", "column": "part", "test": [3]}
LATER: dict[str, Any] = {"by": "block", "length_s": 402, "test": ["-1"], "purge_s": 12}
ALLOWED: dict[str, Any] = {"evaluation": {"allow_dense_time": True, "metrics": ["two_way", "correlation"]}}
TWO_METRICS: dict[str, Any] = {"evaluation": {"metrics": ["two_way", "correlation"]}}
TWO_WAY = "seen_centred.two_way"


def scores_of(study: Study) -> dict[str, Any]:
    """Train a study, and return its `scores.json`."""
    return dict(read_json(project_root() / fit(study).folder / "scores.json"))


def rows_of(scores: dict[str, Any]) -> dict[str, float]:
    """Return the two-way identification of the route and of the controls."""
    return {
        row: entries[TWO_WAY]["value"] for row, entries in scores["targets"]["z"]["rows"].items() if TWO_WAY in entries
    }


def test_random_clips_of_one_run_are_refused_before_the_work(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(home, arrays(write_walks(tmp_path / "walks", 0), **RANDOM))
    make_stores(study)
    with pytest.raises(ConfigError, match="100 of 100 test trials lie within 12 s of a training trial") as raised:
        fit(study)
    line = str(raised.value)
    assert "\n" not in line
    assert "cannot be told from autocorrelation" in line
    assert "evaluation.allow_dense_time" in line
    assert not list((study.outputs / "training").glob("*")), "nothing was begun"
    monkeypatch.setattr("studies.regions.run.why_no_regions", lambda *_: None)
    with pytest.raises(ConfigError, match="cannot be told from autocorrelation"):
        decode_regions(study)


def test_allowed_they_are_flagged_and_identified_by_nothing_but_autocorrelation(home: Path, tmp_path: Path) -> None:
    study = study_of(home, arrays(write_walks(tmp_path / "walks", 1), **RANDOM), **ALLOWED)
    make_stores(study)
    scores = scores_of(study)
    time = scores["diagnoses"]["time"]
    assert (time["count"], time["of"], time["dense"], time["allowed"]) == (100, 100, True, True)
    assert time["neighbours"]["excess"] > 0.5
    assert rows_of(scores)["ridge"] > 0.8


def test_a_later_block_is_neither_refused_nor_identified(home: Path, tmp_path: Path) -> None:
    found = []
    for seed in (2, 3):
        study = study_of(home, arrays(write_walks(tmp_path / f"walks{seed}", seed), **LATER), study=f"walks{seed}")
        make_stores(study)
        scores = scores_of(study)
        time = scores["diagnoses"]["time"]
        assert (time["count"], time["dense"], time["allowed"]) == (0, False, False)
        assert time["purged"] == 3
        found.append(rows_of(scores))
    assert np.mean([row["ridge"] - row["shuffled_brain"] for row in found]) == pytest.approx(0, abs=0.1)


def test_training_holds_out_blocks_where_stimuli_have_an_order(home: Path, tmp_path: Path) -> None:
    study = study_of(home, arrays(write_walks(tmp_path / "walks", 4), **LATER))
    store = make_stores(study)
    data = read_training_data(store, ["sub-01"], ["seen"])
    times = data.brains["sub-01"].times
    assert times is not None
    assert len(times) == 299
    held = data.stimuli[100:115]
    apart = data.apart_from(held)
    beside = int(times.purge_s // 4)
    assert 8 < beside < 20, "an autocorrelation of .9 a clip lasts longer than a response"
    assert sorted(set(data.stimuli) - set(apart.stimuli)) == data.stimuli[100 - beside : 115 + beside]
    order = order_of(store, "sub-01", "seen", [f"c{index:04d}" for index in range(310, 320)])
    assert order is not None
    assert order.start_s.tolist() == [4.0 * index for index in range(310, 320)]


def test_stimuli_without_times_are_exchangeable_and_say_so(
    home: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = write_arrays(tmp_path / "recordings", rng, clips=False)
    targets = {"patches": {"extractor": "given"}}
    study = load_study(write_study(home, folder, targets=targets, roles={"z": "patches"}))
    store = make_stores(study)
    found = diagnose_time(store, ["sub-01"], ["patches"], None, allowed=False, seed=0)
    assert (found["count"], found["dense"]) == (None, False)
    assert order_of(store, "sub-01", "patches", store.target("patches").values("test")[1]) is None
    assert read_training_data(store, ["sub-01"], ["patches"]).brains["sub-01"].times is None


def test_cross_validation_of_walks_is_at_chance(home: Path, tmp_path: Path) -> None:
    evaluation = {"folds": 4, "fold_repeats": 1, "metrics": ["two_way", "correlation"]}
    walks = write_walks(tmp_path / "walks", 5, clips=200)
    study = study_of(home, arrays(walks, **{**LATER, "length_s": 200}), evaluation=evaluation)
    make_stores(study)
    rows = scores_of(study)["cross_validation"]["targets"]["z"]["rows"]
    assert rows["reconstruction"][TWO_WAY]["value"] == pytest.approx(0.5, abs=0.12)
    assert rows["shuffled_brain"][TWO_WAY]["value"] == pytest.approx(0.5, abs=0.12)


@pytest.fixture
def song5(shared_data: Path) -> Path:
    if not (shared_data / "song5").is_dir():
        pytest.skip("the real data of song5 are not here")
    return shared_data / "song5"


def test_random_clips_of_real_episodes_are_refused(home: Path, tmp_path: Path, song5: Path) -> None:
    study = study_of(home, arrays(write_sitcom(song5, tmp_path / "sitcom", ["sub-001"]), **RANDOM))
    make_stores(study)
    with pytest.raises(ConfigError, match="follow each other in time"):
        fit(study)


def test_an_unseen_episode_is_decoded_from_real_brains_and_a_shifted_one_is_not(
    home: Path, tmp_path: Path, song5: Path
) -> None:
    found = {}
    for name, shift in (("true", 0), ("shifted", 40)):
        folder = write_sitcom(song5, tmp_path / name, ["sub-001", "sub-002"], shift=shift)
        study = study_of(home, arrays(folder, by="segment", test=["sitcomep2"]), study=name, **TWO_METRICS)
        make_stores(study)
        scores = scores_of(study)
        assert scores["diagnoses"]["time"]["count"] == 0
        found[name] = rows_of(scores)
    assert found["true"]["ridge"] > 0.54
    assert found["true"]["shuffled_brain"] == pytest.approx(0.5, abs=0.03)
    assert found["shifted"]["ridge"] == pytest.approx(found["shifted"]["shuffled_brain"], abs=0.04)


@pytest.fixture
def bars(shared_data: Path) -> Path:
    if not (shared_data / "bars-bids").is_dir():
        pytest.skip("the real data of bars-bids are not here")
    return shared_data / "bars-bids"


TESTED = [f"bar_{index:02d}" for index in range(1, 48, 4)]


def bars_study(home: Path, bars: Path, **changed: Any) -> Study:
    source = {
        "kind": "bids",
        "path": str(bars),
        "mask": "none",
        "split": {"by": "stimulus", "test": TESTED},
        "response": {"kind": "window", "start_s": 4.1, "stop_s": 6.3, "standardise": "zscore"},
    }
    pixels = {"extractor": "pixels", "frames": 1, "height": 12, "width": 12, "channels": "grey"}
    clips = {"frames": 1, "height": 12, "width": 12, "window_s": 1.0}
    return study_of(home, source, targets={"pixels": pixels}, roles={"z": "pixels"}, clips=clips, **changed)


def test_real_pictures_every_two_seconds_are_told_as_dense_and_allowed_by_a_setting(home: Path, bars: Path) -> None:
    study = bars_study(home, bars)
    store = make_stores(study)
    with pytest.raises(ConfigError, match="95 of 95 test trials lie within 12 s"):
        fit(study)
    allowed = bars_study(home, bars, **ALLOWED)
    scores = scores_of(allowed)
    time = scores["diagnoses"]["time"]
    assert (time["dense"], time["allowed"]) == (True, True)
    rows = {row: entries["pixels_centred.two_way"]["value"] for row, entries in scores["targets"]["z"]["rows"].items()
            if "pixels_centred.two_way" in entries}  # fmt: skip
    assert rows["ridge"] > 0.6
    assert rows["shuffled_brain"] == pytest.approx(0.5, abs=0.06)
    order = order_of(store, "sub-01", "pixels", TESTED, dense=True)
    assert order is not None
    assert order_of(store, "sub-01", "pixels", TESTED) is None, "repeated in other orders"
