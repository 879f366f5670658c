"""The public API: the example of docs/api.md as it stands there, quick to import, old import paths answered."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import brain2video
from core.environment import MOVED
from core.files import read_json

CHECKOUT = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {
    "study": "demo",
    "simulation": {"world": "easy", "n_train": 12, "n_test": 4, "subjects": 1, "voxels": 138, "seed": 1},
    "source": {
        "kind": "bold_moments",
        "path": "data/demo/bold-moments",
        "subjects": [1],
        "counts": {"train": 12, "test": 4},
    },
    "clips": {"frames": 4, "height": 16, "width": 16, "window_s": 3.0},
    "targets": {"pixels": {"extractor": "pixels", "frames": 4, "height": 16, "width": 16}},
    "roles": {"z": "pixels"},
}


def test_the_documented_example_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "configs").mkdir()
    (home / "configs" / "demo.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.chdir(home)
    blocks = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs" / "api.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    folder = home / names["run"].folder
    assert (folder / "gallery.html").is_file()
    assert len(names["stimuli"]) == 4
    assert np.all(names["values"] == 1.0)
    assert names["made"].clips.shape == (3, 4, 16, 16, 3)
    scored = names["evaluation"].metrics["rows"]["reconstruction"]["pixels.two_way"]["value"]
    assert 0.0 <= scored <= 1.0
    assert read_json(folder / "metrics.json")["n_test"] == 4


def test_every_documented_name_is_there_and_no_other() -> None:
    table = re.findall(r"^\| (.*?) \|", (CHECKOUT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
    documented = {name for row in table for name in re.findall(r"\b([A-Za-z_]+)\b(?=\(|`)", row)}
    assert set(brain2video.__all__) - {"Study"} <= documented
    for name in brain2video.__all__:
        assert getattr(brain2video, name) is not None
    assert set(brain2video.__all__) <= set(dir(brain2video))
    with pytest.raises(AttributeError, match="no attribute 'reconstrukt'"):
        brain2video.reconstrukt  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, brain2video; print({'torch', 'zenml', 'mlflow', 'dvc', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("old", MOVED)
def test_an_old_import_path_is_answered_with_the_new_one(old: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=re.escape(f"{old} is now '{MOVED[old]}'")):
        __import__(old)
    new = MOVED[old]
    exec(new if new.startswith("from ") else f"import {new}", {})


def test_an_unknown_module_is_unknown() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'studies.nonsense'"):
        __import__("studies.nonsense")
