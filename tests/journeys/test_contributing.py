"""CONTRIBUTING.md, followed to the letter in a clone: a metric and an encoder that work at once."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from core.files import read_json

from ..conftest import write_arrays
from ..studies.conftest import STUDY
from .conftest import Clone

BLOCK = re.compile(
    r"^In `(?P<file>[^`]+)`(?:, before `(?P<before>[^`]+)`)?:\n\n```python\n(?P<code>.*?)```$", re.M | re.S
)
REPLACED = re.compile(r"^In `(?P<file>[^`]+)`, replace `(?P<old>[^`]+)` with `(?P<new>[^`]+)`\.$", re.M)

pytestmark = pytest.mark.servers


def follow(page: Path, folder: Path) -> int:
    """Make every change that a page shows, and return how many there were."""
    text = page.read_text()
    changes = 0
    for block in BLOCK.finditer(text):
        file, code, before = folder / block["file"], block["code"], block["before"]
        if before is None:
            file.write_text(f"{file.read_text()}\n\n{code}" if file.exists() else code)
        else:
            content = file.read_text()
            assert content.count(before) == 1, f"{before} in {file}"
            file.write_text(content.replace(before, code + before))
        changes += 1
    for change in REPLACED.finditer(text):
        file = folder / change["file"]
        content = file.read_text()
        assert content.count(change["old"]) == 1, f"{change['old']} in {file}"
        file.write_text(content.replace(change["old"], change["new"]))
        changes += 1
    return changes


def test_a_metric_and_an_encoder_are_added_as_the_page_shows(clone: Callable[[], Clone], tmp_path: Path) -> None:
    ours = clone()
    assert follow(ours.folder / "CONTRIBUTING.md", ours.folder) == 6
    source = write_arrays(tmp_path / "recordings", np.random.default_rng(5))
    routes = {name: {"encoder": {"kind": name}, "regressor": {"kind": "ridge"}} for name in ("standardise", "clipped")}
    content = {
        **STUDY,
        "source": {"kind": "arrays", "path": str(source)},
        "training": {"routes": routes},
    }
    (ours.folder / "configs" / "small.yaml").write_text(yaml.safe_dump(content))
    ours.type("brain2video run -c configs/small.yaml")
    outputs = ours.folder / "outputs" / "small"
    rows = read_json(outputs / "training" / "latest" / "scores.json")["targets"]["z"]["rows"]
    assert {"standardise", "clipped"} <= set(rows)
    errors = {name: rows[name]["pixels.relative_error"]["value"] for name in ("clipped", "mean_predictor")}
    assert errors["clipped"] < errors["mean_predictor"]
    shown = read_json(outputs / "latest" / "metrics.json")["rows"]
    assert "pixels.relative_error" in shown["reconstruction"]
