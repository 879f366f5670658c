"""A real brain: the digits study reaches the scores that plain ridge is known to reach."""

from pathlib import Path

from core.checkout import project_root as home_folder
from core.files import read_json
from studies.study import load_study

from .conftest import loop

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "digits69.yaml"


def test_digits_are_reconstructed_from_a_real_brain(home: Path, shared_data: Path) -> None:
    path = shared_data / "digits69" / "digit69_28x28.mat"
    made = loop(load_study(CONFIG, [f"source.path={path}"]))
    metrics = read_json(home_folder() / made.folder / "metrics.json")
    ours = metrics["rows"]["reconstruction"]
    assert ours["pixels.correlation"]["value"] >= 0.77
    assert ours["pixels.two_way"]["value"] >= 0.92
    folds = metrics["cross_validation"]["targets"]["z"]["rows"]
    assert folds["reconstruction"]["pixels.two_way"]["value"] >= 0.90
    assert folds["reconstruction"]["pixels.two_way_within_class"]["value"] >= 0.83
    assert 0.45 <= folds["shuffled_brain"]["pixels.two_way"]["value"] <= 0.55
