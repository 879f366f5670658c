"""Runs in MLflow: a training with its settings, scores and routes; below it its reconstructions."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from core.errors import ServerError
from models.registry.client import client
from models.registry.production import read_artifact
from models.registry.register import NOTE_ON_USE, description, register
from models.registry.runs import log_reconstruction
from models.registry.sets import ModelSet

from ..conftest import use_home
from .test_registry import trained


@pytest.fixture
def registered(home: Path, tmp_path: Path):
    return register(trained(tmp_path, "20260101-000000-aaaaaa", "f" * 64))


def test_it_is_a_run_with_scores_pictures_and_a_verdict(registered, tmp_path: Path) -> None:
    page = tmp_path / "gallery.html"
    page.write_text("<!doctype html><title>demo</title>")
    metrics = {"reconstruction.pixels.two_way": 0.93, "oracle.pixels.two_way": float("nan")}
    made = client().get_run(log_reconstruction(registered, "20260102-000000-bbbbbb", metrics, "above", [page]))
    assert made.info.status == "FINISHED"
    assert made.info.run_name == "20260102-000000-bbbbbb"
    assert made.data.metrics == {"reconstruction.pixels.two_way": 0.93}
    assert made.data.tags["kind"] == "reconstruction"
    assert made.data.tags["training"] == registered.run
    assert made.data.tags["mlflow.parentRunId"] == registered.mlflow_run
    assert made.data.tags["mlflow.note.content"] == "above"
    assert [one.path for one in client().list_artifacts(made.info.run_id)] == ["gallery.html"]


def test_one_that_cannot_be_logged_whole_is_marked_as_failed(registered, tmp_path: Path) -> None:
    with pytest.raises((ServerError, OSError)):
        log_reconstruction(registered, "r", {}, "", [tmp_path / "lost.html"])
    runs = client().search_runs([client().get_run(registered.mlflow_run).info.experiment_id])
    assert {run.info.run_name: run.info.status for run in runs}["r"] == "FAILED"


SETTINGS = {
    "seed": 0,
    "training": {
        "rois": None,
        "routes": {
            "ridge": {"encoder": {"kind": "standardise"}, "regressor": {"kind": "ridge", "alphas": [1.0, 10.0]}},
            "matched": {"encoder": {"kind": "standardise"}, "regressor": {"kind": "ridge", "variance_matching": 0.5}},
        },
        "selection": {"criterion": "correlation"},
    },
    "source": {"entities": {"rec(moco)": "a" * 7000}, "k" * 260: 1, "allowed": True, "empty": {}},
}
STARTED, FINISHED = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, 0, 0, 500_000, tzinfo=UTC)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, quick_mlflow: None) -> Iterator[ModelSet]:
    """A training of two routes with all that is logged; its run's pages are only read."""
    folder = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        use_home(folder / "home", patch)
        own = trained(folder, "20260101-000000-aaaaaa", "f" * 64)
        record = own.record | {"route": "ridge", "git_commit": "3" * 40 + "+changes", "zenml_run": "z1"}
        scores = {"test.z.two_way": 0.9}
        routes, controls = dict.fromkeys(("ridge", "matched"), scores), {"shuffled_brain": {"test.z.two_way": 0.5}}
        more = {"metrics": scores, "routes": routes, "controls": controls, "record": record}
        yield register(own.model_copy(update={**more, "settings": SETTINGS, "started": STARTED, "finished": FINISHED}))


def below(logged: ModelSet) -> dict[str, Run]:
    """Return the runs below a training, by route or control."""
    where = client().get_run(logged.mlflow_run).info.experiment_id
    found = client().search_runs([where], f"tags.`mlflow.parentRunId` = '{logged.mlflow_run}'")
    return {str(run.info.run_name).rpartition(" ")[2]: run for run in found}


def test_parameters_are_the_settings_by_dotted_key(logged: ModelSet) -> None:
    params = client().get_run(logged.mlflow_run).data.params
    assert params["training.routes.ridge.regressor.alphas"] == "[1.0, 10.0]"
    assert params["training.routes.matched.regressor.variance_matching"] == "0.5"
    assert (params["training.rois"], params["source.allowed"], params["source.empty"]) == ("null", "true", "{}")
    whole = yaml.safe_load(read_artifact(logged, "study.yaml"))
    assert whole == SETTINGS, "what MLflow's limits cut is in the artifact"
    cut = params["source.entities.rec_moco_"]
    assert len(cut) == 500
    assert cut.endswith("a … (cut; whole in the artifact study.yaml)")


def test_the_duration_is_the_training_s_whenever_it_is_registered(logged: ModelSet) -> None:
    run = client().get_run(logged.mlflow_run)
    assert (run.info.start_time, run.info.end_time) == (STARTED.timestamp() * 1000, FINISHED.timestamp() * 1000)
    assert run.info.end_time - run.info.start_time == 3_600_500
    assert run.info.status == "FINISHED"


def test_routes_and_controls_are_runs_below_the_training_with_the_same_metric_names(logged: ModelSet) -> None:
    parent, routes = client().get_run(logged.mlflow_run), below(logged)
    control = routes.pop("shuffled_brain")
    assert (control.data.metrics, control.data.tags["kind"]) == ({"test.z.two_way": 0.5}, "control")
    assert set(routes) == {"ridge", "matched"}
    assert {"test.z.two_way", "validation.z.correlation"} == set(parent.data.metrics)
    for route, run in routes.items():
        assert set(run.data.metrics) < set(parent.data.metrics)
        assert run.data.params["regressor.kind"] == "ridge", "as the compare page lines up two routes' settings"
        assert run.data.tags["kind"] == "route"
        assert run.data.tags["chosen"] == str(route == "ridge").lower()
        assert run.info.end_time == parent.info.end_time
    assert "which was registered" in routes["ridge"].data.tags["mlflow.note.content"]
    versions = client().search_model_versions("name = 'demo-encoder'")
    assert {version.run_id for version in versions} == {logged.mlflow_run}


def test_a_training_is_found_by_its_tags(logged: ModelSet) -> None:
    run = client().get_run(logged.mlflow_run)
    told = {
        "kind": "training",
        "study": "demo",
        "route": "ridge",
        "subjects": "sub-01",
        "target.z": "latents",
        "dataset.responses/sub-01": "0" * 64,
        "git_commit": "3" * 40 + "+changes",
        "mlflow.source.name": "brain2video train",
        "mlflow.source.git.commit": "3" * 40,
    }
    assert told.items() <= run.data.tags.items()
    version = client().get_model_version("demo-encoder", "1")
    assert {name: told[name] for name in ("study", "route", "subjects", "dataset.responses/sub-01")}.items() <= (
        version.tags.items()
    )
    query = "tags.kind = 'training' and tags.route = 'ridge' and tags.subjects LIKE '%sub-01%'"
    found = mlflow.search_runs(
        experiment_names=["demo"], filter_string=query, order_by=["metrics.`test.z.two_way` DESC"]
    )
    assert list(found["run_id"]) == [logged.mlflow_run]
    assert found["metrics.test.z.two_way"].item() == 0.9


def test_notes_tell_where_to_click_and_a_person_s_own_note_stays(logged: ModelSet, tmp_path: Path) -> None:
    run = client().get_run(logged.mlflow_run)
    assert f"brain2video promote --run {logged.run}" in run.data.tags["mlflow.note.content"]
    where = run.info.experiment_id
    note = client().get_experiment(where).tags["mlflow.note.content"]
    for words in ("tick two trainings", "alias `production`", "not the blue", "--rollback"):
        assert words in note
    assert "**Promote:**" in note[:90], "the page shows the first line alone until it is unfolded"
    client().set_experiment_tag(where, "mlflow.note.content", "ours")
    log_reconstruction(logged, "r", {}, "", [])
    assert client().get_experiment(where).tags["mlflow.note.content"] == "ours"


def test_a_description_fits_the_databases_however_many_stores_there_are(tmp_path: Path) -> None:
    own = trained(tmp_path, "run", "f")
    stores = {f"responses/sub-{number:03d}": "0" * 64 for number in range(200)}
    words = description(own.model_copy(update={"record": own.record | {"stores": stores}}), "encoder", "m")
    assert len(words) <= 5000
    assert words.endswith(NOTE_ON_USE)
    assert "| z.correlation | .631 [.620, .643] |" in words
