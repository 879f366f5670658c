"""Group decoders: trained on several people's responses to the same stimuli, and named as such wherever they appear."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brain2video.cli.tables.scores import show_training
from core.checkout import project_root as home_folder
from core.errors import ConfigError
from core.files import read_json
from core.subjects import group_of
from feature_store import Store
from models.decoders.build import load_encoder, load_regressor
from models.registry.client import client
from models.regressors.ridge import fit_ridge
from models.regressors.settings import RidgeConfig
from studies.decoding.training_data import read_training_data
from studies.reconstruction.checks import NewFile
from studies.reconstruction.new import reconstruct_file
from studies.reconstruction.provenance import read_provenance
from studies.reconstruction.reproduce import reproduce
from studies.reconstruction.run import reconstruct
from studies.registry.production import require_trained_on, resolve_production
from studies.registry.promote import promote_run
from studies.registry.register import register_training
from studies.study import Study, TrainingConfig, load_study
from studies.training.fit import fit
from studies.training.routes import choose_route, comparable

from ..conftest import write_arrays
from .conftest import write_study
from .routes_source import MBM, make_stores

SUBJECTS = ("sub-01", "sub-02", "sub-03")
GROUP = group_of(SUBJECTS)
SINGLE_FIRST: dict[str, Any] = {"ridge": {}, "pooled": {"pooled": True}}
POOLED: dict[str, Any] = {
    "pooled": {"pooled": True},
    "matched": {"pooled": True, "regressor": {"kind": "ridge", "variance_matching": 0.5}},
}


@pytest.fixture
def source(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = write_arrays(tmp_path / "recordings", rng, train=40, test=12, voxels=20, subjects=SUBJECTS)
    for subject in SUBJECTS:  # noise that a single person's voxels cannot overcome
        file = folder / subject / "responses.npy"
        values = np.load(file)
        np.save(file, (values + 3 * rng.normal(size=values.shape)).astype(np.float32))
    return folder


def study_of(home: Path, source: Path, routes: dict[str, Any], **training: Any) -> Study:
    evaluation = {"metrics": ["two_way", "correlation"], "permutations": 2}
    return load_study(write_study(home, source, training={"routes": routes, **training}, evaluation=evaluation))


def test_a_group_decoder_is_ridge_on_all_voxels_and_is_reported_beside_single_subjects(
    home: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(home, source, SINGLE_FIRST)
    store = make_stores(study)
    made = fit(study)
    folder = home_folder() / made.folder
    scored = read_json(folder / "scores.json")
    role = scored["targets"]["z"]
    assert role["group_decoders"] == {"pooled": list(SUBJECTS)}
    rows = {name: role["rows"][name]["pixels_centred.two_way"]["value"] for name in ("ridge", "pooled")}
    assert rows["pooled"] > rows["ridge"] + 0.02
    difference = role["differences"]["pooled"]["pixels_centred.two_way"]
    assert difference["value"] == pytest.approx(rows["pooled"] - rows["ridge"])
    assert scored["selection"]["chosen"] == "ridge", "a group decoder does not replace decoders of single subjects"
    assert load_encoder(folder / "encoder").subjects == list(SUBJECTS)
    show_training(study.study, folder, scored)
    assert "group decoder of 3 subjects (sub-01, sub-02, sub-03)" in " ".join(capsys.readouterr().out.split())

    features, truth = {}, {}
    for split in ("train", "test"):
        parts = [store.responses(subject).values(split, repeats="mean") for subject in SUBJECTS]
        names = sorted(parts[0][1])
        features[split] = np.concatenate([v[[n.index(x) for x in names]] for v, n in parts], axis=1)
        values, order = store.target("pixels").values(split)
        truth[split] = values[:][[order.index(x) for x in names]].reshape(len(names), -1).astype(np.float32)
    trials = np.concatenate([store.responses(subject).values("train")[0].std(0) for subject in SUBJECTS])
    rows_of_train = [str(row) for row in range(len(truth["train"]))]
    fitted = fit_ridge(features["train"] / trials, truth["train"], rows_of_train, RidgeConfig().alphas)
    predicted = fitted.predict(features["test"] / trials) - fitted.offset
    r = np.corrcoef(predicted, truth["test"] - fitted.offset)[: len(predicted), len(predicted) :]
    n = len(r)
    two_way = (np.diag(r)[:, None] > r).sum() / (n * (n - 1))
    assert rows["pooled"] == pytest.approx(two_way, abs=0.02)


def test_scores_centred_on_other_training_means_are_not_subtracted(home: Path, source: Path) -> None:
    folder = source / "sub-02"
    trials = pd.read_csv(folder / "trials.csv")
    kept = ~trials["stimulus_id"].isin(["s000", "s001", "s002"]).to_numpy()
    trials[kept].to_csv(folder / "trials.csv", index=False)
    np.save(folder / "responses.npy", np.load(folder / "responses.npy")[kept])
    study = study_of(home, source, SINGLE_FIRST)
    make_stores(study)
    role = read_json(home_folder() / fit(study).folder / "scores.json")["targets"]["z"]
    assert set(role["differences"]["pooled"]) == {"pixels.two_way", "pixels.correlation"}
    assert any(note.startswith("pooled: trained on other stimuli than the first route") for note in role["notes"])


def test_a_group_is_registered_reconstructed_and_reproduced_as_a_group(home: Path, source: Path) -> None:
    study = study_of(home, source, POOLED)
    store = make_stores(study)
    made = fit(study)
    chosen = register_training(study, made)
    assert chosen.record["subjects"] == [GROUP]
    version = client().get_model_version("small-encoder", "1")
    assert version.tags["subjects"] == GROUP
    assert "group decoder of 3: sub-01 (20 voxels), sub-02 (20 voxels), sub-03 (20 voxels)" in version.description
    assert read_json(home_folder() / made.folder / "validation.json")["subjects"] == [GROUP]

    promote_run(study)
    production = resolve_production(study)
    require_trained_on(production, store, GROUP, ["pixels"])
    run = reconstruct(study, production)
    folder = home_folder() / run.folder
    metrics = read_json(folder / "metrics.json")
    assert metrics["subject"] == GROUP
    assert metrics["group_decoder"] == list(SUBJECTS)
    assert metrics["notes"][0].startswith("group decoder of 3 subjects (sub-01, sub-02, sub-03): every stimulus")
    assert "noise_ceiling" in metrics["rows"], "repetitions of all members make halves"
    page = (folder / "gallery.html").read_text()
    assert "small: group decoder of 3 subjects (sub-01, sub-02, sub-03)" in page
    video = sorted((folder / "videos").glob("*.mp4"))[0]
    assert read_provenance(video).title.endswith("reconstructed from group decoder of 3 subjects "
                                                 "(sub-01, sub-02, sub-03)")  # fmt: skip
    assert reproduce(video, folder.parent / "again.mp4").identical

    one = load_study(home / "configs" / "small.yaml", ["reconstruction.subject=sub-02"])
    with pytest.raises(ConfigError, match=r"group decoder of 3 .* and not from sub-02 alone; leave the subject out"):
        reconstruct(one, production)
    file = home / "new.npy"
    np.save(file, np.zeros((2, 20), np.float32))
    with pytest.raises(ConfigError, match=r"holds one subject's responses, and .* group decoder of 3 subjects"):
        reconstruct_file(study, NewFile(path=file), production)


def test_a_saved_group_predicts_as_it_did(home: Path, source: Path) -> None:
    study = study_of(home, source, {"matched": POOLED["matched"]})
    store = make_stores(study)
    folder = home_folder() / fit(study).folder
    encoder, regressor = load_encoder(folder / "encoder"), load_regressor(folder / "regressor-z")
    values, _ = store.responses(GROUP).values("test")
    assert regressor.subjects == [GROUP]
    assert regressor.predict(GROUP, encoder.encode(GROUP, values)).shape == (24, *regressor.shape)


def test_routes_are_chosen_among_those_of_the_first_ones_kind(home: Path, source: Path) -> None:
    study = study_of(home, source, {"pooled": {"pooled": True}, "ridge": {}, "light": {"pooled": True}})
    assert list(comparable(study.training.routes)) == ["pooled", "light"]
    assert list(comparable(TrainingConfig().routes)) == ["ridge"]
    make_stores(study)
    data = read_training_data(Store(study.store), [*SUBJECTS, GROUP], ["pixels"])
    choice = choose_route(study.training, {"z": "pixels"}, data, _context())
    assert set(choice.values) == {"pooled", "light"}


def test_folds_are_of_the_kind_of_the_first_route(home: Path, source: Path) -> None:
    study = load_study(
        write_study(
            home,
            source,
            training={"routes": {"pooled": {"pooled": True}, "ridge": {}}},
            evaluation={"folds": 4, "fold_repeats": 1, "metrics": ["two_way"]},
        )
    )
    make_stores(study)
    folds = read_json(home_folder() / fit(study).folder / "scores.json")["cross_validation"]
    assert folds["skipped"] == {"ridge": "decodes single subjects, unlike the first route"}
    assert folds["targets"]["z"]["rows"]["reconstruction"]["pixels_centred.two_way"]["value"] > 0.7


def test_a_group_of_one_and_a_network_of_several_brains_are_refused(
    home: Path, source: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    alone = study_of(home, write_arrays(tmp_path / "alone", rng), SINGLE_FIRST)
    make_stores(alone)
    with pytest.raises(ConfigError, match="a group decoder needs at least 2 subjects, found 1"):
        fit(alone)
    with pytest.raises(ConfigError, match="a group decoder reads several brains as one, which masked brain modelling"):
        study_of(home, source, {"mbm": {"pooled": True, "encoder": {**MBM, "alignment": None}}})


def _context() -> Any:
    from models.training.loop import Context

    return Context(0)
