"""Several routes in one study: all are scored, one is chosen on held-out training stimuli, never on the test set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.checkout import project_root as home_folder
from core.errors import ConfigError, StoreError
from core.files import read_json
from core.seeds import rng_for
from core.times import Times
from evaluation.statistics.selection import halves
from feature_store import Store
from models.decoders.build import load_encoder, load_regressor
from models.registry.client import client
from studies.decoding.predictions import predict_test, stimuli_trained_on
from studies.decoding.training_data import TrainingData, read_training_data
from studies.registry.register import register_training
from studies.runs import TrainingRef
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import Study, load_study
from studies.training import routes
from studies.training.fit import fit
from studies.training.routes import (
    BY_EARLIER,
    CHOSEN_APART,
    CHOSEN_ON_THE_SAME,
    NOT_CHOSEN,
    Choice,
    Validation,
    blocks_in_time,
    choice_among,
    choose_route,
    preferred,
    validation_summary,
)

from ..conftest import write_arrays
from .conftest import write_study
from .routes_source import HARDLY_TRAINED, MBM, MLP, make_stores, write_bent

RIDGE: dict[str, Any] = {}
BLIND: dict[str, Any] = {"regressor": HARDLY_TRAINED}
"""A route that knows nothing."""


def study_of(home: Path, source: Path, named: dict[str, Any], *, target: str = "bent", **training: Any) -> Study:
    content = {"targets": {target: {"extractor": "given"}}, "roles": {"z": target}}
    return load_study(write_study(home, source, **content, training={"routes": named, **training}))


def pixels_of(home: Path, source: Path, named: dict[str, Any], **training: Any) -> Study:
    return load_study(write_study(home, source, training={"routes": named, **training}))


def scores_of(made: TrainingRef) -> dict[str, Any]:
    content: dict[str, Any] = read_json(home_folder() / made.folder / "scores.json")
    return content


@pytest.fixture
def bent(tmp_path: Path, rng: np.random.Generator) -> Path:
    return write_bent(tmp_path / "bent", rng)


def test_the_route_that_is_better_on_held_out_stimuli_is_the_one_that_is_registered(home: Path, bent: Path) -> None:
    study = study_of(home, bent, {"ridge": RIDGE, "mlp": {"regressor": MLP}, "blind": BLIND})
    make_stores(study)
    made = fit(study)
    scored, folder = scores_of(made), home_folder() / made.folder
    selection, role = scored["selection"], scored["targets"]["z"]
    assert (selection["chosen"], selection["criterion"], selection["n"]) == ("mlp", "correlation", 24)
    assert set(selection["routes"]) == {"ridge", "mlp", "blind"}
    assert "difference" not in selection["routes"]["ridge"]
    assert selection["routes"]["mlp"]["difference"]["ci95"][0] > 0
    assert selection["routes"]["mlp"]["difference"]["p_adjusted"] < 0.001
    assert selection["routes"]["mlp"]["value"] > 0.8 > 0.3 > selection["routes"]["ridge"]["value"]
    reported = selection["reported"]
    assert (reported["routes"], reported["baseline"], reported["n"]) == (["mlp", "mlp"], "ridge", 24)
    assert reported["how"] == CHOSEN_APART
    assert reported["value"] == pytest.approx(selection["routes"]["mlp"]["value"]), "either half chooses it"
    assert reported["difference"]["ci95"][0] > 0
    assert reported["difference"]["p"] < 0.01
    kept = read_json(folder / "validation.json")
    assert (kept["route"], kept["routes"], kept["reported"]["routes"]) == ("mlp", 3, ["mlp", "mlp"])
    assert kept["reported"]["values"] == kept["values"]

    assert (role["routes"], role["chosen"], role["baseline"]) == (["ridge", "mlp", "blind"], "mlp", "ridge")
    controls = {"category", "nuisance", "mean_predictor", "shuffled_brain"}
    assert set(role["rows"]) == {"ridge", "mlp", "blind", *controls, "noise_ceiling"}
    assert set(role["comparisons"]) == {*controls}
    for row in ("ridge", "mlp", "blind", "mean_predictor", "shuffled_brain"):
        entry = role["rows"][row]["bent.two_way"]
        assert entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]
    assert role["rows"]["mlp"]["bent.two_way"]["ci95"][0] > role["rows"]["ridge"]["bent.two_way"]["ci95"][1]
    assert set(role["differences"]) == {"mlp", "blind"}
    assert role["differences"]["mlp"]["bent.two_way"]["ci95"][0] > 0
    assert set(role["controls"]) == {"ridge", "mlp", "blind"}
    shuffled = role["controls"]["mlp"]["shuffled_brain"]
    assert shuffled == role["rows"]["shuffled_brain"], "the controls of the chosen one stand among the rows"
    assert shuffled != role["controls"]["ridge"]["shuffled_brain"]

    assert load_regressor(folder / "regressor-z").state()[0]["kind"] == "mlp"
    assert role["regressor"]["kind"] == "mlp"
    assert read_json(folder / "regressor-z" / "config.json")["record"] == {"route": "mlp"}
    assert fit(study) == made.model_copy(update={"fresh": True})


def test_what_trained_is_drawn_and_its_curves_are_registered(home: Path, arrays_folder: Path) -> None:
    longer = {**HARDLY_TRAINED, "steps": 30, "validate_every": 10}
    named = {"ridge": RIDGE, "mbm": {"encoder": MBM, "regressor": longer}}
    study = load_study(
        write_study(home, arrays_folder, roles={"z": "pixels", "align": "pixels"}, training={"routes": named})
    )
    make_stores(study)
    made = fit(study)
    folder = home_folder() / made.folder
    curves = read_json(folder / "curves.json")
    within = {"encoder/align", "encoder/mbm", "z/perceptron"}
    assert set(curves) == {f"mbm/{stage}" for stage in (*within, *(f"selection/{one}" for one in within))}
    assert len(curves["mbm/encoder/mbm"]["losses"]) == 12
    assert [at for at, _ in curves["mbm/z/perceptron"]["validation"]] == [10, 20, 30]
    told_of = scores_of(made)["pretraining"]
    assert (list(told_of), list(told_of["mbm"])) == (["mbm"], ["sub-01"])
    assert told_of["mbm"]["sub-01"]["variance"] > 0
    pictures = sorted((folder / "pictures").iterdir())
    assert [path.name for path in pictures] == ["curves.png", "held-out.png", "mbm-filled-in.png", "routes.png"]
    for path in pictures:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 100
            assert len(set(image.convert("L").resize((60, 60)).tobytes())) > 3, f"{path.name} shows something"

    registered = register_training(study, made)
    assert registered.record["route"] == scores_of(made)["selection"]["chosen"] == "ridge"
    history = client().get_metric_history(registered.mlflow_run, "mbm/encoder/mbm/loss")
    told = {point.step: point.value for point in history}
    assert [told[step] for step in sorted(told)] == pytest.approx(curves["mbm/encoder/mbm"]["losses"])
    assert sorted(told) == list(range(1, 13))
    looks = client().get_metric_history(registered.mlflow_run, "mbm/z/perceptron/validation")
    assert {point.step: point.value for point in looks} == dict(curves["mbm/z/perceptron"]["validation"])
    listed = {item.path for item in client().list_artifacts(registered.mlflow_run, "pictures")}
    assert listed == {f"pictures/{path.name}" for path in pictures}


@pytest.mark.parametrize("named", [{"ridge": RIDGE, "mlp": BLIND}, {"mlp": BLIND, "ridge": RIDGE}])
def test_ridge_is_kept_where_the_network_knows_less(home: Path, arrays_folder: Path, named: dict[str, Any]) -> None:
    study = pixels_of(home, arrays_folder, named)
    make_stores(study)
    made = fit(study)
    scored, folder = scores_of(made), home_folder() / made.folder
    assert scored["selection"]["chosen"] == scored["targets"]["z"]["chosen"] == "ridge"
    assert scored["targets"]["z"]["baseline"] == next(iter(named))
    assert load_regressor(folder / "regressor-z").state()[0]["kind"] == "ridge"
    assert load_encoder(folder / "encoder").state()[0]["kind"] == "standardise"


def test_the_order_of_the_routes_is_part_of_what_a_training_is_made_from(home: Path, arrays_folder: Path) -> None:
    """Of two routes that are as good the first is preferred, so another order is another training."""
    study = pixels_of(home, arrays_folder, {"one": RIDGE, "two": RIDGE})
    make_stores(study)
    assert scores_of(fit(study))["selection"]["chosen"] == "one"
    turned = pixels_of(home, arrays_folder, {"two": RIDGE, "one": RIDGE})
    made = fit(turned)
    assert not made.fresh
    assert scores_of(made)["selection"]["chosen"] == "two"


def test_the_encoder_that_is_kept_is_that_of_the_chosen_route(home: Path, arrays_folder: Path) -> None:
    study = pixels_of(home, arrays_folder, {"blind": BLIND, "pca": {"encoder": {"kind": "pca", "components": 20}}})
    make_stores(study)
    made = fit(study)
    encoder = load_encoder(home_folder() / made.folder / "encoder")
    assert encoder.state()[0]["kind"] == "pca"
    assert load_regressor(home_folder() / made.folder / "regressor-z").widths == (20, 36)


def test_a_route_must_be_better_by_the_margin() -> None:
    """The gain over `one` has the mean 0.2 and the standard error 0.1."""
    rng = np.random.default_rng(0)
    one, gain = rng.normal(size=100), rng.normal(size=100)
    two = one + 0.2 + (gain - gain.mean()) / gain.std(ddof=1)
    values = {"one": one, "two": two}
    assert preferred(values, 1.9) == "two"
    assert preferred(values, 2.1) == "one", "better by less than the margin"
    assert preferred({"two": two, "one": one}, 0.0) == "two"
    assert preferred({"one": one, "same": one.copy()}, 0.0) == "one", "of equal ones the first"
    better = one + 0.5
    assert preferred({"one": one, "two": two, "three": better}, 2.1) == "three", "what was passed over is no hurdle"
    assert preferred({"one": one, "three": better, "two": two}, 1.9) == "three"
    assert preferred({"one": one}, 1.0) == "one"


def test_what_is_reported_was_not_chosen_by_the_stimuli_that_score_it() -> None:
    """Each half of the stimuli suits another route: both are chosen where they shine and scored where they fail."""
    half = halves(60, seed=4)
    values = {"first": np.zeros(60), "one": np.where(half == 0, 1.0, -1.0), "two": np.where(half == 0, -1.0, 1.1)}
    choice = choice_among(values, 0.0, seed=4)
    assert choice.chosen == "two", "the best of all stimuli is what is registered"
    said = choice.summary("correlation", 0)
    assert said["routes"]["two"]["value"] > 0
    assert said["reported"]["routes"] == ["two", "one"]
    assert (said["reported"]["value"], said["reported"]["difference"]["value"]) == (-1.0, -1.0)
    again = choice_among(values, 0.0, seed=4).summary("correlation", 0)
    assert again == said


@pytest.mark.parametrize("routes", [2, 8])
def test_equal_routes_gain_nothing_over_the_first_one(routes: int) -> None:
    rng, gains, above = rng_for(0, "equal routes", routes), [], 0
    for study in range(200):
        difficulty = rng.normal(size=60)
        values = {str(index): difficulty + rng.normal(size=60) for index in range(routes)}
        gain, low, _ = choice_among(values, 0.0, seed=study).gain_over(values["0"])
        gains.append(gain)
        above += low > 0
    assert abs(np.mean(gains)) < 3.3 * np.std(gains) / np.sqrt(200)
    assert above <= 0.025 * 200


def test_neighbours_in_time_lie_in_one_half_and_make_one_block(rng: np.random.Generator) -> None:
    """Values that change slowly are no independent ones: halves and intervals are of blocks as long as they last."""
    n, times = 200, Times.of(["run"] * 200, np.arange(200.0))
    slow = np.repeat(rng.normal(size=20), 10)
    noise = rng.normal(size=(2, n))
    assert blocks_in_time({"one": noise[0], "two": noise[1]}, None) is None
    assert blocks_in_time({"one": noise[0]}, Times.of(["run"] * n, [np.nan] * n)) is None
    values = {"one": noise[0], "two": noise[0] + slow}
    blocks = blocks_in_time(values, times)
    assert blocks is not None
    assert len(set(blocks.tolist())) < n / 4
    choice, free = (choice_among(values, 0.0, seed=0, blocks=own) for own in (blocks, None))
    assert choice.apart is not None
    for block in set(blocks.tolist()):
        assert len(set(choice.apart.half[blocks == block].tolist())) == 1
    widths = [np.ptp(own.summary("correlation", 0)["routes"]["two"]["difference"]["ci95"]) for own in (choice, free)]
    assert widths[0] > 1.5 * widths[1]
    kept = replace(choice, validation=Validation([str(index) for index in range(n)], {"z": {"correlation": slow}}))
    record = kept.record(["sub-01"])
    assert record is not None
    assert record["blocks"] == blocks.tolist()
    width = [
        np.ptp(validation_summary(own)["z.correlation"]["ci95"]) for own in (record, {**record, "blocks": range(n)})
    ]
    assert width[0] > 1.5 * width[1]


def test_how_a_score_comes_about_is_told(rng: np.random.Generator) -> None:
    one = choice_among({"ridge": rng.normal(size=20)}, 1.0, seed=0)
    assert one.summary("correlation", 0)["reported"]["how"] == NOT_CHOSEN
    few = choice_among({"ridge": np.zeros(3), "pca": np.ones(3)}, 1.0, seed=0)
    assert few.summary("correlation", 0)["reported"]["how"] == CHOSEN_ON_THE_SAME
    assert Choice("ridge").summary("correlation", 0)["reported"] is None
    earlier = {"values": {"z": {"correlation": [0.25, 0.5, 0.75]}}}
    found = validation_summary(earlier)["z.correlation"]
    assert (found["value"], found["n"], found["how"]) == (0.5, 3, BY_EARLIER)
    both = {**earlier, "reported": {"values": {"z": {"correlation": [0.0, 0.25, 0.5]}}, "half": [0, 1, 0]}}
    apart, plain = (validation_summary(own)["z.correlation"] for own in (both, {**both["reported"], "routes": 1}))
    assert (apart["value"], apart["how"], plain["how"]) == (0.25, CHOSEN_APART, NOT_CHOSEN)
    widths = [np.ptp(own["ci95"]) for own in (apart, plain)]
    assert widths[0] == pytest.approx(np.sqrt(2) * widths[1])


def test_selection_never_looks_at_the_test_stimuli(home: Path, bent: Path) -> None:
    study = study_of(home, bent, {"ridge": RIDGE, "short": {"regressor": {**MLP, "steps": 40}}})
    make_stores(study)
    before = scores_of(fit(study))
    rng = np.random.default_rng(5)
    test = pd.read_csv(bent / "stimuli.csv")["split"] == "test"
    for name in ("bent", "straight"):
        values = np.load(bent / "targets" / f"{name}.npy")
        values[test] = rng.normal(size=values[test].shape) * 9
        np.save(bent / "targets" / f"{name}.npy", values)
    trials = pd.read_csv(bent / "sub-01" / "trials.csv")["stimulus_id"]
    responses = np.load(bent / "sub-01" / "responses.npy")
    shown = trials.isin(pd.read_csv(bent / "stimuli.csv")["stimulus_id"][test]).to_numpy()
    responses[shown] = rng.normal(size=responses[shown].shape) * 9
    np.save(bent / "sub-01" / "responses.npy", responses)
    make_stores(study)
    after = scores_of(fit(study))
    assert after["targets"]["z"]["rows"] != before["targets"]["z"]["rows"]
    assert after["selection"] == before["selection"]


def data_of(study: Study) -> TrainingData:
    """What a study's routes are trained on."""
    store, training = Store(study.store), study.training
    targets = list(study.roles.regressed().values())
    return read_training_data(store, store.names("responses"), targets, count=training.stimuli, seed=study.seed)


def trained_on(study: Study) -> set[str]:
    return stimuli_trained_on(Store(study.store), ["sub-01"], study.training.stimuli, study.seed)


def choose(study: Study) -> Choice:
    return choose_route(study.training, study.roles.regressed(), data_of(study), routes.Context(study.seed))


def spied(monkeypatch: pytest.MonkeyPatch, study: Study) -> tuple[Choice, list[TrainingData]]:
    """Choose a route, and return what routes were fitted on."""
    seen: list[TrainingData] = []
    real = routes.fit_route

    def spy(route: Any, roles: Any, data: TrainingData, context: Any) -> Any:
        seen.append(data)
        return real(route, roles, data, context)

    monkeypatch.setattr(routes, "fit_route", spy)
    return choose(study), seen


def test_repetitions_of_a_stimulus_are_held_out_together(
    home: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_arrays(tmp_path / "two", rng, subjects=("sub-01", "sub-02"), repeats=3, voxels=20)
    study = pixels_of(home, source, {"one": RIDGE, "two": RIDGE}, selection={"validation": 0.2})
    make_stores(study)
    choice, seen = spied(monkeypatch, study)
    assert (choice.chosen, choice.stimuli) == ("one", 8)
    assert len(seen) == 2
    for data in seen:
        assert len(data.stimuli) == 32
        assert set(data.stimuli) == set(seen[0].stimuli), "all routes are fitted on the same"
        for brain in data.brains.values():
            assert set(brain.stimuli) == set(data.stimuli), "all subjects hold out the same"
            assert all(brain.stimuli.count(name) == 3 for name in data.stimuli)
            assert all(int(name[1:]) < 40 for name in brain.stimuli), "none is of the test set"


def test_a_subject_who_saw_nothing_of_what_is_held_out_does_not_count(
    home: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_arrays(tmp_path / "two", rng, subjects=("sub-01", "sub-02"), voxels=20)
    study = pixels_of(home, source, {"one": RIDGE, "two": BLIND})
    make_stores(study)
    both, seen = spied(monkeypatch, study)
    trials = pd.read_csv(source / "sub-02" / "trials.csv")
    kept = trials["stimulus_id"].isin([*seen[0].stimuli, *(f"s{row:03d}" for row in range(40, 48))]).to_numpy()
    trials[kept].to_csv(source / "sub-02" / "trials.csv", index=False)
    np.save(source / "sub-02" / "responses.npy", np.load(source / "sub-02" / "responses.npy")[kept])
    make_stores(study)
    alone = choose(study)
    assert (alone.chosen, alone.stimuli) == ("one", 6)
    assert not np.allclose(alone.values["one"], both.values["one"])


@pytest.mark.parametrize("criterion", ["correlation", "two_way", "r2"])
def test_every_criterion_prefers_who_knows(
    home: Path, tmp_path: Path, rng: np.random.Generator, criterion: str
) -> None:
    source = write_arrays(tmp_path / "one", rng, voxels=60, clips=False)
    selection = {"criterion": criterion, "validation": 0.3}
    study = study_of(home, source, {"blind": BLIND, "ridge": RIDGE}, target="patches", selection=selection)
    make_stores(study)
    choice = choose(study)
    assert choice.chosen == "ridge"
    said = choice.summary(criterion, study.seed)
    assert (said["criterion"], said["n"]) == (criterion, 12)
    assert said["routes"]["ridge"]["difference"]["ci95"][0] > 0


def test_fewer_labels_are_what_the_study_asks_for(home: Path, arrays_folder: Path) -> None:
    np.save(arrays_folder / "sub-01" / "unlabelled.npy", np.ones((7, 60), np.float32))
    named = {"ridge": {"regressor": {"kind": "ridge", "repeats": "single"}}}
    study = pixels_of(home, arrays_folder, named, stimuli=15)
    store = make_stores(study)
    data = data_of(study)
    brain = data.brains["sub-01"]
    assert (len(data.stimuli), len(brain.stimuli), len(brain.responses)) == (15, 30, 30)
    assert brain.unlabelled is not None
    assert len(brain.unlabelled) == 7, "what has no label is not fewer"
    assert data_of(study).stimuli == data.stimuli
    other = study.model_copy(update={"seed": 1})
    assert data_of(other).stimuli != data.stimuli
    made = fit(study)
    folder = home_folder() / made.folder
    encoder, regressor = load_encoder(folder / "encoder"), load_regressor(folder / "regressor-z")
    predicted = predict_test(store, encoder, regressor, "sub-01", None, trained_on(study))
    assert np.allclose(predicted.mean[0], data.targets["pixels"].mean(data.stimuli))
    every = fit(study.model_copy(update={"training": study.training.model_copy(update={"stimuli": None})}))
    value = [scores_of(one)["targets"]["z"]["rows"]["ridge"]["pixels.correlation"]["value"] for one in (made, every)]
    assert value[0] < value[1], "who has fewer labels knows less"
    with pytest.raises(ConfigError, match=r"training.stimuli: 41 of 40 training stimuli; ask for at most as many"):
        fit(pixels_of(home, arrays_folder, named, stimuli=41))


def test_the_mean_is_that_of_what_was_seen(home: Path, arrays_folder: Path) -> None:
    """A target may hold stimuli that nobody saw; of fewer labels the same are drawn for the mean as for training."""
    trials = pd.read_csv(arrays_folder / "sub-01" / "trials.csv")
    kept = ~trials["stimulus_id"].isin([f"s{row:03d}" for row in range(10)]).to_numpy()
    trials[kept].to_csv(arrays_folder / "sub-01" / "trials.csv", index=False)
    np.save(arrays_folder / "sub-01" / "responses.npy", np.load(arrays_folder / "sub-01" / "responses.npy")[kept])
    for count in (None, 12):
        study = pixels_of(home, arrays_folder, {"ridge": RIDGE}, stimuli=count)
        store = make_stores(study)
        data = data_of(study)
        assert len(data.stimuli) == (count or 30)
        folder = home_folder() / fit(study).folder
        parts = load_encoder(folder / "encoder"), load_regressor(folder / "regressor-z")
        predicted = predict_test(store, *parts, "sub-01", None, trained_on(study))
        assert np.allclose(predicted.mean[0], data.targets["pixels"].mean(data.stimuli), atol=1e-4)


def test_a_training_stimulus_without_a_target_is_named(home: Path, arrays_folder: Path) -> None:
    study = pixels_of(home, arrays_folder, {"ridge": RIDGE})
    table = pd.read_csv(arrays_folder / "stimuli.csv")
    table[table["stimulus_id"] != "s017"].to_csv(arrays_folder / "stimuli.csv", index=False)
    extract(study, "pixels")
    table.to_csv(arrays_folder / "stimuli.csv", index=False)
    ingest(study, "sub-01")
    with pytest.raises(
        StoreError, match="1 training stimuli of responses/sub-01 are not among targets/pixels, such as"
    ):
        fit(study)


def test_recordings_without_a_stimulus_reach_the_encoder(home: Path, arrays_folder: Path) -> None:
    named = {"ridge": RIDGE, "pca": {"encoder": {"kind": "pca", "components": 10}}}
    study = pixels_of(home, arrays_folder, named)
    make_stores(study)
    without = scores_of(fit(study))["targets"]["z"]["rows"]
    rng = np.random.default_rng(0)
    np.save(arrays_folder / "sub-01" / "unlabelled.npy", rng.normal(size=(400, 60)).astype(np.float32))
    assert not ingest(study, "sub-01").fresh
    rows = scores_of(fit(study))["targets"]["z"]["rows"]
    assert rows["ridge"] == without["ridge"]
    assert rows["pca"] != without["pca"]


def test_every_fold_chooses_for_itself(home: Path, bent: Path) -> None:
    study = study_of(home, bent, {"ridge": RIDGE, "blind": BLIND, "mlp": {"regressor": {**MLP, "steps": 150}}})
    folded = study.model_copy(
        update={"evaluation": study.evaluation.model_copy(update={"folds": 3, "fold_repeats": 1})}
    )
    make_stores(folded)
    validated = scores_of(fit(folded))["cross_validation"]
    found = validated["targets"]["z"]
    assert (validated["folds"], validated["repeats"], validated["n"]) == (3, 1, 184)
    assert found["chosen"] == {"ridge": 0, "blind": 0, "mlp": 3}
    assert found["baseline"] == "ridge"
    assert set(found["differences"]) >= {"blind", "mlp"}
    assert found["differences"]["mlp"]["bent.two_way"]["ci95"][0] > 0
    assert set(found["rows"]) == {
        *("ridge", "blind", "mlp", "reconstruction"),
        *("mean_predictor", "shuffled_brain", "oracle"),
    }
    assert found["rows"]["reconstruction"] == found["rows"]["mlp"], "every fold is predicted by what it chose"


def test_baselines_are_scored_by_the_first_route_and_not_kept(home: Path, bent: Path) -> None:
    content = {
        "targets": {"bent": {"extractor": "given"}, "straight": {"extractor": "given"}},
        "roles": {"z": "bent"},
        "training": {"routes": {"ridge": RIDGE, "mlp": BLIND}, "baselines": ["straight"]},
    }
    study = load_study(write_study(home, bent, **content))
    make_stores(study)
    made = fit(study)
    baseline = scores_of(made)["targets"]["straight"]
    assert (baseline["routes"], baseline["chosen"]) == (["ridge"], None)
    assert baseline["rows"]["ridge"]["straight.two_way"]["value"] > 0.9
    assert set(made.digests) == {"encoder", "regressor-z"}
    assert not (home_folder() / made.folder / "regressor-straight").exists()


def test_two_roles_may_share_a_network(home: Path, bent: Path) -> None:
    content = {
        "targets": {"bent": {"extractor": "given"}, "straight": {"extractor": "given"}},
        "roles": {"z": "bent", "b": "straight"},
    }
    named = {"joint": {"regressor": MLP, "joint": True}}
    study = load_study(write_study(home, bent, **content, training={"routes": named}))
    make_stores(study)
    made = fit(study)
    folder, scored = home_folder() / made.folder, scores_of(made)
    assert set(read_json(folder / "curves.json")) == {"joint/joint/perceptron", "joint/selection/joint/perceptron"}
    assert set(made.digests) == {"encoder", "regressor-z", "regressor-b"}
    assert (scored["selection"]["chosen"], scored["selection"]["n"]) == ("joint", 24), "the only route is scored too"
    for role, target in (("z", "bent"), ("b", "straight")):
        assert scored["targets"][role]["rows"]["joint"][f"{target}.two_way"]["value"] > 0.8
    assert load_regressor(folder / "regressor-b").shape == (3,)


def test_no_roi_at_all_is_no_choice(home: Path, bent: Path) -> None:
    with pytest.raises(ConfigError, match="training.rois: found an empty list, expected at least 1"):
        study_of(home, bent, {"ridge": RIDGE}, rois=[])
