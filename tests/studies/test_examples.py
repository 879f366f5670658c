"""The example studies go from small simulated recordings to a gallery, as they are but for where the recordings lie."""

from pathlib import Path

import pytest

from core.checkout import project_root as home_folder
from core.files import read_json
from simulation.examples import Form, example_config, write_example
from studies.study import load_study

from .conftest import loop

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("form", ["bids", pytest.param("arrays", marks=pytest.mark.full)])
def test_an_example_study_decodes_above_chance(home: Path, tmp_path: Path, form: Form) -> None:
    config = example_config(0).model_copy(update={"n_train": 40, "n_test": 8, "voxels": 200, "subjects": 1})
    folder = write_example(form, tmp_path / form, config)
    made = loop(load_study(CONFIGS / f"{form}_example.yaml", [f"source.path={folder}", "evaluation.controls=[]"]))
    run = home_folder() / made.folder
    assert (run / "gallery.html").is_file()
    score = read_json(run / "metrics.json")["rows"]["reconstruction"]["pixels.two_way"]
    assert score["value"] > 0.6
