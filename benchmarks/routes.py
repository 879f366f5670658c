"""What routes gain over plain ridge on real recordings: ``python benchmarks/routes.py [--data ../shared/data]``.

Prints two-way identification of each route and its paired difference to plain ridge with the 95 % interval over
stimuli: the table of docs/training.md. Everything is chosen inside the training stimuli, by the documented defaults.
The data are other people's and are not part of this project; sets that are not there are passed over.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

MATCHED: dict[str, Any] = {"kind": "ridge", "variance_matching": 0.5}
IDENTIFICATION: dict[str, Any] = {"kind": "ridge", "criterion": "identification"}
SELECTED: dict[str, Any] = {"kind": "standardise", "voxels": {"fraction": [1.0, 0.5, 0.3, 0.1]}}
WEIGHTED = "voxels by reliability ^ .5"
ROUTES: dict[str, dict[str, Any]] = {
    "ridge": {},
    "variance matching": {"regressor": MATCHED},
    "variance matching, e = 1": {"regressor": {**MATCHED, "variance_matching": 1.0}},
    "30 % of the voxels": {"encoder": {"kind": "standardise", "voxels": {"fraction": 0.3}}},
    "fraction chosen, matched": {"encoder": SELECTED, "regressor": MATCHED},
    "identification": {"regressor": IDENTIFICATION},
    "identification, e chosen": {"regressor": {**IDENTIFICATION, "variance_matching": [0.0, 0.5, 1.0]}},
    "penalty per target": {"regressor": {"kind": "ridge", "penalty_per": "target"}},
    WEIGHTED: {"encoder": {"kind": "standardise", "reliability": 0.5}},
    "penalty per component": {"regressor": {"kind": "ridge", "components": 0.999, "penalty_per": "target"}},
}
GROUP: dict[str, dict[str, Any]] = {
    "pooled": {"pooled": True},
    "pooled, variance matching": {"pooled": True, "regressor": MATCHED},
}
GREY: dict[str, Any] = {"extractor": "pixels", "frames": 1, "channels": "grey"}


def digits(data: Path) -> dict[str, Any]:
    """Return the study of one person who saw handwritten sixes and nines."""
    return {
        "study": "digits69",
        "source": {"kind": "digits69", "path": str(data / "digits69" / "digit69_28x28.mat")},
        "clips": {"frames": 1, "height": 28, "width": 28, "window_s": 1.0},
        "targets": {"pixels": {**GREY, "height": 28, "width": 28}},
        "roles": {"z": "pixels"},
    }


def bars(data: Path) -> dict[str, Any]:
    """Return the study of one person who saw 48 pictures of bars, eight times each."""
    return {
        "study": "bars",
        "source": {
            "kind": "bids",
            "path": str(data / "bars-bids"),
            "split": {"by": "stimulus", "test": [f"bar_{number:02d}" for number in range(0, 48, 4)]},
            "response": {"kind": "window", "start_s": 4.1, "stop_s": 6.3},
        },
        "clips": {"frames": 1, "height": 16, "width": 16, "window_s": 1.0},
        "targets": {"pixels": {**GREY, "height": 16, "width": 16}},
        "roles": {"z": "pixels"},
    }


def captions(data: Path) -> dict[str, Any]:
    """Return the study of five people who saw the same 1,102 clips."""
    return {
        "study": "captions",
        "source": {"kind": "arrays", "path": str(data / "bmd_tsne5")},
        "targets": {"captions": {"extractor": "given"}},
        "roles": {"b": "captions"},
        "evaluation": {"metrics": ["two_way", "correlation"], "permutations": 2},
    }


def main() -> None:
    """Print a table for each set of recordings that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--sets", nargs="+", default=["digits69", "bars-bids", "bmd_tsne5"])
    parser.add_argument("--routes", nargs="+", help="only these, beside ridge; all by default")
    given = parser.parse_args()
    for name in given.sets:
        if not (given.data / name).exists():
            print(f"{name}: not in {given.data}")
            continue
        with tempfile.TemporaryDirectory() as home:
            os.environ["BRAIN2VIDEO_HOME"] = home
            _measure(name, given.data, Path(home), given.routes)


def _measure(name: str, data: Path, home: Path, wanted: list[str] | None) -> None:
    chosen = {key: route for key, route in (ROUTES | GROUP).items() if key == "ridge" or not wanted or key in wanted}
    routes = {key: route for key, route in chosen.items() if key in ROUTES}
    if name == "bmd_tsne5":  # of two coordinates a region: there is nothing to select, and no repetition
        content, metric = captions(data), "captions_centred.two_way"
        routes = {key: route for key, route in chosen.items() if key != WEIGHTED and "voxels" not in str(route)}
        rows, differences = _given_split(_study(home, content, routes), metric)
        title = "given split, mean of five people"
    elif name == "digits69":
        metric, title = "pixels.two_way_within_class", "within class, 10 × 10 folds"
        routes.pop(WEIGHTED, None)
        rows, differences = _folds(_study(home, digits(data), routes), 10, 10, metric)
    else:
        metric, title = "pixels_centred.two_way", "6 folds × 4"
        rows, differences = _folds(_study(home, bars(data), routes), 6, 4, metric)
    print(f"\n{name}: {metric}, {title}")
    for key, label in labels(rows):
        low, high = rows[key][metric]["ci95"]
        line = f"  {label:<28}{rows[key][metric]['value']:.3f} [{low:.3f}, {high:.3f}]"
        if key in differences:
            entry = differences[key][metric]
            line += f"   {entry['value']:+.3f} [{entry['ci95'][0]:+.3f}, {entry['ci95'][1]:+.3f}]"
        print(line, flush=True)


def labels(rows: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the routes' names in a study and in words."""
    words = {_key(label): label for label in (*ROUTES, *GROUP)}
    return [(key, words[key]) for key in words if key in rows]


def _key(label: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in label.lower()).strip("_")


def _study(home: Path, content: dict[str, Any], routes: dict[str, Any]) -> Any:
    import yaml

    from studies.stores.responses import ingest, subjects_of
    from studies.stores.targets import extract
    from studies.study import load_study

    path = home / "study.yaml"
    named = {_key(label): route for label, route in routes.items()}
    path.write_text(yaml.safe_dump({**content, "training": {"routes": named}}, sort_keys=False))
    study = load_study(path)
    for subject in subjects_of(study.source):
        ingest(study, subject)
    for target in study.targets:
        extract(study, target)
    return study


def _given_split(study: Any, metric: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from core.checkout import project_root
    from core.files import read_json
    from studies.training.fit import fit

    role = read_json(project_root() / fit(study).folder / "scores.json")["targets"]["b"]
    assert metric
    return role["rows"], role["differences"]


def _folds(study: Any, folds: int, repeats: int, metric: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from evaluation.config import EvaluationConfig
    from feature_store import Store
    from studies.training.cross_validation import CrossValidation

    evaluation = EvaluationConfig(metrics=(metric,), fold_repeats=repeats)
    store = Store(study.store)
    run = CrossValidation(folds, study.training, evaluation, (), study.seed).run(
        store, store.names("responses"), study.roles.regressed(), study.spaces
    )
    role = run["targets"]["z"]
    return role["rows"], role["differences"]


if __name__ == "__main__":
    main()
