"""Leaks of a study: planted ones are found with both names, and the demo has none by how it is drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.checkout import project_root
from core.clips import write_clip
from core.progress import listening
from evaluation.diagnoses.leaks import THRESHOLD
from feature_store import Store
from feature_store.sources.base import SPLITS
from simulation.write import shown
from studies.scoring import SmallClips, find_leaks
from studies.study import Study, load_study

from ..evaluation.test_leaks import moving
from .conftest import write_study
from .routes_source import make_stores

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
CLIPS = {"frames": 4, "height": 16, "width": 16, "window_s": 3.0}
PIXELS = {"extractor": "pixels", "frames": 1, "height": 6, "width": 6, "channels": "grey"}


def found(study: Study, *, test: list[str] | None = None, train: list[str] | None = None) -> dict:
    target = Store(study.store).target(str(study.roles.z))
    ours, theirs = ([str(name) for name in target.stimuli(split)["stimulus"]] for split in SPLITS[::-1])
    source = study.source.build(project_root())
    return find_leaks(SmallClips(source, study.clips), target, test or ours, train or theirs)


@pytest.fixture
def planted(home: Path, arrays_folder: Path, rng: np.random.Generator) -> Study:
    """Moving clips; the training clip s007 is the test clip s042 in another file, and shares its caption's words."""
    table = pd.read_csv(arrays_folder / "stimuli.csv")
    drawn = {name: moving(rng) for name in table["stimulus_id"]}
    for name, clip in drawn.items():
        write_clip(arrays_folder / "stimuli" / f"{name}.mp4", clip, 8.0, min_side=64)
    copy = np.stack([np.asarray(Image.fromarray(frame).resize((48, 48))) for frame in drawn["s042"]])
    write_clip(arrays_folder / "stimuli" / "s007.mp4", (copy * 0.95).astype(np.uint8), 8.0, min_side=48)
    table["file"] = [f"{name}.mp4" for name in table["stimulus_id"]]
    table.loc[7, "caption"] = "Picture S042!"
    table.to_csv(arrays_folder / "stimuli.csv", index=False)
    study = load_study(write_study(home, arrays_folder, clips=CLIPS, targets={"pixels": PIXELS}))
    make_stores(study)
    return study


def test_a_planted_leak_is_found_with_both_names(planted: Study) -> None:
    reports: list[str] = []
    with listening(lambda what, done, total, note: reports.append(f"{what} {done}/{total}")):
        leaks = found(planted)
    clips = leaks["clips"]
    assert (clips["count"], clips["threshold"]) == (1, THRESHOLD)
    assert [(one["test"], one["train"]) for one in clips["examples"]] == [("s042", "s007")]
    assert clips["nearest"] == clips["examples"][0]["distance"] < 0.8 * THRESHOLD
    assert leaks["captions"] == {"count": 1, "examples": ["picture s042"]}
    assert leaks["stimuli"] == {"count": 0, "examples": []}
    assert {"looking for test clips seen twice 8/8", "looking for training clips seen twice 40/40"} <= set(reports)


def test_only_the_stimuli_that_are_used_are_looked_at(planted: Study) -> None:
    unused = found(planted, train=["s000", "s001", "s002"])
    assert unused["clips"]["count"] == unused["captions"]["count"] == 0
    assert unused["clips"]["nearest"] > 1.5 * THRESHOLD
    own = found(planted, train=["s000", "s040"], test=["s040", "s041"])
    assert own["stimuli"] == {"count": 1, "examples": ["s040"]}
    assert own["clips"]["nearest"] == pytest.approx(0, abs=1e-6)


def test_still_images_are_clips(study: Study) -> None:
    make_stores(study)
    leaks = found(study)
    assert leaks["clips"]["count"] == 0
    assert leaks["clips"]["nearest"] > THRESHOLD
    assert "note" not in leaks["clips"]


def test_where_there_is_nothing_to_compare_it_is_said(home: Path, arrays_folder: Path) -> None:
    table = pd.read_csv(arrays_folder / "stimuli.csv")
    table.assign(file="", caption="").to_csv(arrays_folder / "stimuli.csv", index=False)
    given = {"patches": {"extractor": "given"}}
    study = load_study(write_study(home, arrays_folder, targets=given, roles={"z": "patches"}))
    make_stores(study)
    leaks = found(study)
    nothing = {"count": None, "threshold": THRESHOLD, "nearest": None, "examples": [], "note": "no clips"}
    assert leaks["clips"] == nothing
    assert leaks["captions"] == {"count": None, "examples": [], "note": "no captions"}
    some = table.assign(file=[name if row % 2 else "" for row, name in enumerate(table["file"])])
    some.to_csv(arrays_folder / "stimuli.csv", index=False)
    assert found(study)["clips"]["note"] == "24 of 48 stimuli have no clip"


def test_no_combination_of_the_demo_s_test_clips_was_shown_in_training() -> None:
    config = load_study(CONFIG).simulation
    assert config is not None
    combinations, _ = shown(config)
    train, test = combinations[: config.n_train], combinations[config.n_train :]
    assert (len(set(train)), len(set(test))) == (400, 48), "none is drawn twice"
    assert not set(train) & set(test)
    assert not {one.captions()[0] for one in train} & {one.captions()[0] for one in test}
