"""A reconstruction in MLflow: a run of its own below the training it came from, with what one looks at."""

from pathlib import Path

import pytest

from core.errors import ServerError
from models.registry.client import client
from models.registry.register import register
from models.registry.runs import log_reconstruction

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
