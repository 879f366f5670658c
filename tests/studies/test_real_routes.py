"""What routes gain on real brains: through the project's own functions, everything chosen in the training folds."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.checkout import project_root as home_folder
from core.files import read_json
from evaluation.config import EvaluationConfig
from studies.study import Study, TrainingConfig, load_study
from studies.training.cross_validation import CrossValidation
from studies.training.fit import fit

from .routes_source import make_stores

BENCHMARK = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "routes.py"))
"""The studies and routes of the table in docs/training.md."""

CENTRED = "pixels_centred.two_way"
WITHIN = "pixels.two_way_within_class"


def load(home: Path, content: dict[str, Any], routes: dict[str, Any]) -> Study:
    path = home / "study.yaml"
    path.write_text(yaml.safe_dump({**content, "training": {"routes": routes}}))
    return load_study(path)


def folds(home: Path, content: dict[str, Any], route: str, count: int, repeats: int, metric: str) -> float:
    """Cross-validate one route; nothing of a fold is seen before it is predicted."""
    study = load(home, content, {"route": BENCHMARK["ROUTES"][route]})
    store = make_stores(study)
    evaluation = EvaluationConfig(metrics=(metric,), fold_repeats=repeats)
    training = TrainingConfig(routes=study.training.routes)
    subjects = store.names("responses")
    scored = CrossValidation(count, training, evaluation, (), 0).run(
        store, subjects, study.roles.regressed(), study.spaces
    )
    return float(scored["targets"]["z"]["rows"]["reconstruction"][metric]["value"])


@pytest.mark.full
@pytest.mark.parametrize(("route", "least"), [("variance matching", 0.86), ("fraction chosen, matched", 0.88)])
def test_digits_within_their_class(home: Path, shared_data: Path, route: str, least: float) -> None:
    assert folds(home, BENCHMARK["digits"](shared_data), route, 10, 10, WITHIN) > least


@pytest.mark.full
def test_bars(home: Path, shared_data: Path) -> None:
    assert folds(home, BENCHMARK["bars"](shared_data), "variance matching", 6, 4, CENTRED) >= 0.71


@pytest.mark.full
def test_captions_of_clips_from_one_person_and_from_five(home: Path, shared_data: Path) -> None:
    single, group = BENCHMARK["ROUTES"], BENCHMARK["GROUP"]
    routes = {
        "ridge": single["ridge"],
        "matched": single["variance matching"],
        "pooled": group["pooled"],
        "pooled_matched": group["pooled, variance matching"],
    }
    study = load(home, BENCHMARK["captions"](shared_data), routes)
    make_stores(study)
    role = read_json(home_folder() / fit(study).folder / "scores.json")["targets"]["b"]
    values = {name: role["rows"][name]["captions_centred.two_way"]["value"] for name in routes}
    assert values["matched"] >= 0.853
    assert values["pooled"] >= 0.905
    assert values["pooled_matched"] >= 0.915
    assert role["differences"]["pooled_matched"]["captions_centred.two_way"]["ci95"][0] > 0
