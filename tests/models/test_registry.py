"""The registry: sets are registered whole, promoted whole, refused when mixed or edited; no pickle anywhere."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest

from core.errors import RegistryError
from models.encoders.config import StandardiseConfig
from models.encoders.rows import BrainRows
from models.encoders.standardise import Standardise
from models.parts import save_part
from models.registry import production
from models.registry import register as registering
from models.registry.client import client
from models.registry.production import fetch, fetch_artifact, promote, resolve
from models.registry.register import find_registered, register
from models.registry.sets import ModelSet, TrainedSet
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
        widths={"encoder": (5, 5), "regressor-z": (5, 4)},
        record={"fingerprint": fingerprint, "subjects": ["sub-01"]},
        metrics={"z.two_way": 0.9, "z.bad": float("nan")},
        artifacts=[folder / run / "scores.json"],
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[ModelSet]]]:
    """A registry with two trainings; its database takes seconds to set up, so the module shares it."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/store/mlflow.db")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        yield folder, [register(trained(folder, f"run{i}", f"f{i}", offset=i)) for i in (1, 2)]


def test_versions_of_a_set_agree_and_know_where_they_come_from(registry: tuple[Path, list[ModelSet]]) -> None:
    folder, (one, two) = registry
    assert one.versions == {"encoder": 1, "regressor-z": 1}
    assert two.versions == {"encoder": 2, "regressor-z": 2}
    tags = client().get_model_version("demo-regressor-z", "2").tags
    assert tags["training_run"] == "run2"
    assert tags["encoder_digest"] == two.digests["encoder"]
    assert fetch_artifact(two, "scores.json").read_text() == "{}"
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]


def test_what_was_registered_is_found_by_its_fingerprint(registry: tuple[Path, list[ModelSet]]) -> None:
    _, (one, _) = registry
    assert find_registered("demo", PARTS, "f1") == one
    assert find_registered("demo", PARTS, "other") is None
    assert find_registered("demo", [*PARTS, "regressor-b"], "f1") is None


def test_promotion_moves_the_whole_set_and_reconstruction_gets_it(registry: tuple[Path, list[ModelSet]]) -> None:
    _, (one, two) = registry
    assert promote("demo", PARTS) == two
    assert promote("demo", PARTS, "run1") == one
    chosen = resolve("demo", PARTS)
    assert chosen == one
    encoder, regressors = fetch(chosen)
    features = encoder.encode("sub-01", np.zeros((3, 5)))
    assert regressors["z"].predict("sub-01", features).shape == (3, 2, 2)


def test_mlflow_itself_loads_a_part_without_pickle(registry: tuple[Path, list[ModelSet]]) -> None:
    model = mlflow.pyfunc.load_model("models:/demo-encoder/1")
    assert model.predict(np.zeros((2, 5), np.float32), params={"subject": "sub-01"}).shape == (2, 5)
    with pytest.raises(mlflow.MlflowException, match="shape"):
        model.predict(np.zeros((2, 4), np.float32))


def test_an_empty_alias_is_one_line(registry: tuple[Path, list[ModelSet]]) -> None:
    with pytest.raises(RegistryError, match="no version of demo-encoder, demo-regressor-z has the alias 'nobody'"):
        resolve("demo", PARTS, alias="nobody")
    with pytest.raises(RegistryError, match="other: no training run is registered; run 'brain2video train'"):
        promote("other", PARTS)
    with pytest.raises(RegistryError, match="no training run 'run9' is registered; the newest are run2, run1"):
        promote("demo", PARTS, "run9")


def test_a_half_promoted_set_is_refused_with_the_command_that_completes_it(
    registry: tuple[Path, list[ModelSet]],
) -> None:
    promote("demo", PARTS, "run1")
    client().set_registered_model_alias("demo-encoder", "production", "2")
    with pytest.raises(RegistryError, match="encoder v2 .*run2.*regressor-z v1 .*run1.*'brain2video promote --run"):
        resolve("demo", PARTS)
    promote("demo", PARTS, "run2")
    assert resolve("demo", PARTS).run == "run2"


def test_a_promotion_that_fails_midway_changes_nothing(
    registry: tuple[Path, list[ModelSet]], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote("demo", PARTS, "run1")
    real, calls = mlflow.MlflowClient.set_registered_model_alias, []

    def flaky(self: mlflow.MlflowClient, name: str, alias: str, version: str) -> None:
        calls.append(name)
        if len(calls) == 2:
            raise OSError("the server went away")
        real(self, name, alias, version)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", flaky)
    with pytest.raises(OSError, match="went away"):
        promote("demo", PARTS, "run2")
    monkeypatch.undo()
    assert resolve("demo", PARTS).run == "run1"


def test_an_edited_artifact_is_refused(registry: tuple[Path, list[ModelSet]]) -> None:
    folder, _ = registry
    chosen = promote("demo", PARTS, "run2")
    for path in (folder / "store").rglob("regressor-z/config.json"):
        sound = path.read_text()
        path.write_text(sound.replace('"latents"', '"latentz"'))
    with pytest.raises(RegistryError, match="demo-regressor-z v2: its files are not those that were registered"):
        fetch(chosen)
    for path in (folder / "store").rglob("regressor-z/config.json"):
        path.write_text(path.read_text().replace('"latentz"', '"latents"'))
    production.fetch(chosen)


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
    assert [v.version for v in registering.versions_of("demo-encoder")] == [2, 1]
