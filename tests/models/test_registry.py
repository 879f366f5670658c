"""The registry: sets are registered whole, promoted whole, refused when mixed or edited; no pickle anywhere."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest

from core.errors import RegistryError
from core.files import digest_folder
from models.decoders.build import save_part
from models.decoders.rows import BrainRows
from models.encoders.linear import Standardise
from models.encoders.settings import StandardiseConfig
from models.registry import production
from models.registry import register as registering
from models.registry.client import client, versions_of
from models.registry.history import CLICKED
from models.registry.production import (
    aliased,
    fetch,
    history,
    note_production,
    promoter,
    read_artifact,
    resolve,
    set_production,
)
from models.registry.register import register
from models.registry.sets import (
    PREVIOUS,
    ModelSet,
    TrainedSet,
    find_registered,
    run_of_versions,
    set_of_run,
    set_to_promote,
)
from models.regressors.ridge import Ridge, fit_ridge

PARTS = ["encoder", "regressor-z"]


def trained(folder: Path, run: str, fingerprint: str, offset: float = 0) -> TrainedSet:
    rng = np.random.default_rng(0)
    responses, targets = rng.normal(size=(12, 5)), rng.normal(size=(12, 4)) + offset
    names = [str(index) for index in range(12)]
    encoder = Standardise.fit(StandardiseConfig(), {"sub-01": BrainRows(responses, names)})
    features = encoder.encode("sub-01", responses)
    ridge = Ridge("latents", (2, 2), {"sub-01": fit_ridge(features, targets, names, [1.0])})
    folders = {part: folder / run / part for part in PARTS}
    digests = {
        "encoder": save_part(folders["encoder"], encoder),
        "regressor-z": save_part(folders["regressor-z"], ridge),
    }
    (folder / run / "scores.json").write_text("{}")
    return TrainedSet(
        study="demo",
        run=run,
        folders=folders,
        digests=digests,
        examples={
            "encoder": (responses[:1], features[:1]),
            "regressor-z": (features[:1], ridge.predict("sub-01", features[:1])),
        },
        record={
            "fingerprint": fingerprint,
            "subjects": ["sub-01"],
            "stores": {"responses/sub-01": "0" * 64, "targets/latents": "1" * 64},
            "targets": {"z": {"name": "latents", "extractor": "latents", "revision": "2" * 64}},
            "git_commit": "3" * 40,
        },
        validation={"z.correlation": {"value": 0.631, "ci95": [0.62, 0.643], "n": 150, "how": "on other stimuli"}},
        metrics={"z.two_way": 0.9, "z.bad": float("nan")},
        artifacts=[folder / run / "scores.json"],
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, quick_mlflow: None) -> Iterator[tuple[Path, list[ModelSet]]]:
    """A registry with two trainings; read and promoted by the whole module."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/store/mlflow.db")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        yield folder, [register(trained(folder, f"run{i}", f"f{i}", offset=i)) for i in (1, 2)]


def promote(chosen: ModelSet, replaced: ModelSet | None = None) -> ModelSet:
    """Put a set into production, whatever is there."""
    found = aliased("demo", PARTS)
    expected = {part: None if version is None else int(version.version) for part, version in found.items()}
    set_production(chosen, replaced, expected=expected, why="test")
    return resolve("demo", PARTS)


def test_versions_of_a_set_agree_and_know_where_they_come_from(registry: tuple[Path, list[ModelSet]]) -> None:
    folder, (one, two) = registry
    assert one.versions == {"encoder": 1, "regressor-z": 1}
    assert two.versions == {"encoder": 2, "regressor-z": 2}
    tags = client().get_model_version("demo-regressor-z", "2").tags
    assert tags["training_run"] == "run2"
    assert tags["encoder_digest"] == two.digests["encoder"]
    assert read_artifact(two, "scores.json") == b"{}"
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]


def test_what_was_registered_is_found_by_its_fingerprint(registry: tuple[Path, list[ModelSet]]) -> None:
    _, (one, _) = registry
    assert find_registered("demo", PARTS, "f1") == one
    assert find_registered("demo", PARTS, "other") is None
    assert find_registered("demo", [*PARTS, "regressor-b"], "f1") is None


def test_promotion_moves_the_whole_set_and_reconstruction_gets_it(registry: tuple[Path, list[ModelSet]]) -> None:
    _, (one, two) = registry
    assert promote(two) == two
    chosen = promote(one, replaced=two)
    assert chosen == one
    assert resolve("demo", PARTS, PREVIOUS) == two
    encoder, regressors = fetch(chosen)
    features = encoder.encode("sub-01", np.zeros((3, 5)))
    assert regressors["z"].predict("sub-01", features).shape == (3, 2, 2)


def test_mlflow_itself_loads_a_part_without_pickle(registry: tuple[Path, list[ModelSet]]) -> None:
    model = mlflow.pyfunc.load_model("models:/demo-encoder/1")
    assert model.predict(np.zeros((2, 5), np.float32), params={"subject": "sub-01"}).shape == (2, 5)
    regressor = mlflow.pyfunc.load_model("models:/demo-regressor-z/1")
    assert regressor.predict(np.zeros((3, 5), np.float32)).shape == (3, 2, 2)
    signature = regressor.metadata.signature
    assert [spec.shape for spec in (*signature.inputs, *signature.outputs)] == [(-1, 5), (-1, 2, 2)]
    given = regressor.input_example
    assert regressor.predict(given).shape == (1, 2, 2)
    with pytest.raises(mlflow.MlflowException, match="shape"):
        model.predict(np.zeros((2, 4), np.float32))


def test_an_empty_alias_is_one_line(registry: tuple[Path, list[ModelSet]]) -> None:
    with pytest.raises(RegistryError, match="no version of demo-encoder, demo-regressor-z has the alias 'nobody'"):
        resolve("demo", PARTS, alias="nobody")
    with pytest.raises(RegistryError, match="other: no training run is registered; run 'brain2video train'"):
        set_to_promote("other", PARTS)
    with pytest.raises(RegistryError, match="no training run 'run9' is registered; the newest are run2, run1"):
        set_to_promote("demo", PARTS, "run9")
    with pytest.raises(RegistryError, match="training run run1 has not all of encoder, regressor-b registered"):
        set_to_promote("demo", ["encoder", "regressor-b"], "run1")


def test_a_half_promoted_set_is_refused_with_the_command_that_completes_it(
    registry: tuple[Path, list[ModelSet]],
) -> None:
    _, (one, two) = registry
    promote(one)
    client().set_registered_model_alias("demo-encoder", "production", "2")
    told = "encoder v2 .training run2., regressor-z v1 .training run1.; of training run2 encoder v2, regressor-z v2 fit"
    with pytest.raises(RegistryError, match=f"{told} together: 'brain2video promote --run run2'; of training run1"):
        resolve("demo", PARTS)
    client().delete_registered_model_alias("demo-regressor-z", "production")
    with pytest.raises(RegistryError, match="encoder v2 .training run2., regressor-z none; of training run2"):
        resolve("demo", PARTS)
    assert promote(two) == two


def test_a_promotion_that_fails_midway_changes_nothing(
    registry: tuple[Path, list[ModelSet]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (one, two) = registry
    promote(one, replaced=one)
    real, calls = mlflow.MlflowClient.set_registered_model_alias, []

    def flaky(self: mlflow.MlflowClient, name: str, alias: str, version: str) -> None:
        calls.append(name)
        if len(calls) == 4:
            raise OSError("the server went away")
        real(self, name, alias, version)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", flaky)
    with pytest.raises(OSError, match="went away"):
        promote(two, replaced=two)
    monkeypatch.undo()
    assert resolve("demo", PARTS) == resolve("demo", PARTS, PREVIOUS) == one


@pytest.mark.parametrize("lost", ["the note of who promoted", "the name of who promotes"])
def test_a_promotion_that_cannot_be_recorded_changes_nothing(
    registry: tuple[Path, list[ModelSet]], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    _, (one, two) = registry
    promote(one, replaced=one)

    def gone(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found: 4711")

    if lost == "the note of who promoted":
        monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_tag", gone)
    else:  # as without an entry in passwd, where nothing has named the user
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
        monkeypatch.setattr(production.getpass, "getuser", gone)
    with pytest.raises(KeyError, match="uid not found"):
        promote(two, replaced=two)
    assert resolve("demo", PARTS) == resolve("demo", PARTS, PREVIOUS) == one


def test_whoever_comes_too_late_is_told(registry: tuple[Path, list[ModelSet]], monkeypatch: pytest.MonkeyPatch) -> None:
    _, (one, two) = registry
    promote(one)
    with pytest.raises(RegistryError, match="'production' has moved meanwhile, to encoder v1, regressor-z v1; look at"):
        set_production(two, None, expected={"encoder": 2, "regressor-z": 2}, why="late")
    assert resolve("demo", PARTS) == one

    real = mlflow.MlflowClient.set_registered_model_alias

    def interfered(self: mlflow.MlflowClient, name: str, alias: str, version: str) -> None:
        real(self, name, alias, version)
        if name == "demo-regressor-z":  # somebody on another host, who knows nothing of this host's lock
            real(self, "demo-encoder", alias, "1")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", interfered)
    with pytest.raises(RegistryError, match="somebody else promoted at the same time: 'production' is on encoder v1"):
        promote(two)
    monkeypatch.undo()
    with pytest.raises(RegistryError, match="do not make one set"):
        resolve("demo", PARTS)


def test_when_and_why_something_went_into_production(registry: tuple[Path, list[ModelSet]]) -> None:
    _, (one, two) = registry
    promote(two)
    last = history("demo", PARTS)[-1]
    assert (last.run, last.why, last.by) == ("run2", "test", promoter())
    for part in PARTS:
        client().set_registered_model_alias(f"demo-{part}", "production", "1")
    current, known = note_production("demo", PARTS)
    assert (current, known[-1].run) == (one, "run1")
    assert (known[-1].by, known[-1].why) == ("", CLICKED), "a click in the UI leaves no name"
    promote(one)


def test_a_version_tells_its_training(registry: tuple[Path, list[ModelSet]]) -> None:
    assert run_of_versions("demo", PARTS, {"encoder": 2}) == "run2"
    with pytest.raises(RegistryError, match="encoder v2 is of training run2, regressor-z v1 is of training run1; name"):
        run_of_versions("demo", PARTS, {"encoder": 2, "regressor-z": 1})
    with pytest.raises(RegistryError, match="demo-encoder: has no version 7; there are 2, 1"):
        run_of_versions("demo", PARTS, {"encoder": 7})
    with pytest.raises(RegistryError, match="has no part 'my model'; its parts are encoder, regressor-z"):
        run_of_versions("demo", PARTS, {"my model": 1})


def test_what_a_person_reads_in_the_ui(registry: tuple[Path, list[ModelSet]]) -> None:
    _, (_, two) = registry
    version = client().get_model_version("demo-regressor-z", "2")
    for words in (
        "training `run2`",
        "| z.correlation | .631 [.620, .643] |",
        "150 held-out",
        "`responses/sub-01`",
        "Scores: on other",
    ):
        assert words in version.description
    told = {
        "subjects": "sub-01",
        "target": "latents",
        "git_commit": "3" * 40,
        "validation.z.correlation": ".631 [.620, .643]",
        "validation.how": "on other stimuli",
    }
    assert told.items() <= version.tags.items()
    run = client().get_run(two.mlflow_run)
    assert run.data.metrics["validation.z.correlation"] == 0.631
    seen = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
    assert seen == {"responses/sub-01": "0" * 36, "targets/latents": "1" * 36}


def test_a_deleted_version_is_no_production(registry: tuple[Path, list[ModelSet]]) -> None:
    folder, (one, _) = registry
    gone = register(trained(folder, "run8", "f8"))
    promote(gone)
    client().delete_model_version("demo-regressor-z", str(gone.versions["regressor-z"]))
    with pytest.raises(RegistryError, match=r"encoder v3 .training run8., regressor-z none; none of these trainings"):
        resolve("demo", PARTS)
    client().delete_model_version("demo-encoder", str(gone.versions["encoder"]))
    with pytest.raises(RegistryError, match="no version of demo-encoder, demo-regressor-z has the alias 'production'"):
        resolve("demo", PARTS)
    assert set_of_run("demo", PARTS, "run8") is None
    promote(one)


def test_an_edited_artifact_is_refused(registry: tuple[Path, list[ModelSet]]) -> None:
    folder, (_, two) = registry
    chosen = promote(two)
    for path in (folder / "store").rglob("regressor-z/config.json"):
        sound = path.read_text()
        path.write_text(sound.replace('"latents"', '"latentz"'))
    with pytest.raises(RegistryError, match="demo-regressor-z v2: its files are not those that were registered"):
        fetch(chosen)
    for path in (folder / "store").rglob("regressor-z/config.json"):
        path.write_text(path.read_text().replace('"latentz"', '"latents"'))
    production.fetch(chosen)


def test_files_that_are_gone_or_pickled_are_refused(registry: tuple[Path, list[ModelSet]]) -> None:
    folder, (_, two) = registry
    chosen = promote(two)
    for weights in (folder / "store").rglob("regressor-z/model.safetensors"):
        weights.rename(weights.with_name("model.pkl"))
    with pytest.raises(
        RegistryError, match=r"v2: holds no model.safetensors, found .*model.pkl.*; no other file is loaded"
    ):
        fetch(chosen)
    for pickled in (folder / "store").rglob("regressor-z/model.pkl"):
        pickled.rename(pickled.with_name("model.safetensors"))
    model = next(path.parent for path in (folder / "store").rglob("MLmodel") if digest_of(path.parent, chosen))
    model.rename(model.with_name("away"))
    with pytest.raises(
        RegistryError, match="demo-regressor-z v2: its files cannot be had .*; restore them, or promote"
    ):
        fetch(chosen)
    model.with_name("away").rename(model)
    fetch(chosen)


def digest_of(model: Path, chosen: ModelSet) -> bool:
    """Whether a logged model is the set's regressor."""
    data = model / "data" / "regressor-z"
    return data.is_dir() and digest_folder(data) == chosen.digests["regressor-z"]


def test_a_version_that_training_did_not_register_is_refused(registry: tuple[Path, list[ModelSet]]) -> None:
    folder, (one, _) = registry
    (folder / "foreign").mkdir()
    (folder / "foreign" / "model.pkl").write_bytes(b"cos\nsystem\n")
    version = client().create_model_version("demo-encoder", str(folder / "foreign"))
    promote(one)
    client().set_registered_model_alias("demo-encoder", "production", version.version)
    with pytest.raises(RegistryError, match=r"encoder v\d .training unknown., regressor-z v1 .*promote --run run1"):
        resolve("demo", PARTS)
    client().delete_model_version("demo-encoder", version.version)


def test_a_registration_that_fails_leaves_no_version(
    registry: tuple[Path, list[ModelSet]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = registry
    real = mlflow.MlflowClient.create_model_version

    def flaky(self: mlflow.MlflowClient, name: str, *args: object, **kwargs: object) -> object:
        if name == "demo-regressor-z":
            raise OSError("the server went away")
        return real(self, name, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", flaky)
    with pytest.raises(OSError, match="went away"):
        registering.register(trained(folder, "run3", "f3"))
    monkeypatch.undo()
    assert find_registered("demo", PARTS, "f3") is None
    assert [v.version for v in versions_of("demo-encoder")] == [2, 1]
