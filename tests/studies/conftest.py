"""A study of the test's own arrays, decoded directly."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from studies.study import Study, load_study

STUDY: dict[str, Any] = {
    "study": "small",
    "clips": {"frames": 1, "height": 6, "width": 6, "window_s": 1.0},
    "targets": {"pixels": {"extractor": "pixels", "frames": 1, "height": 6, "width": 6, "channels": "grey"}},
    "roles": {"z": "pixels"},
}


def write_study(home: Path, source: Path, **changed: Any) -> Path:
    """Write a study's YAML into the test's home."""
    content = {**STUDY, "source": {"kind": "arrays", "path": str(source)}, **changed}
    path = home / "configs" / "small.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def study(home: Path, arrays_folder: Path) -> Study:
    return load_study(write_study(home, arrays_folder))
