"""Recordings in the forms that one's own have: to a gallery in one try, and five breakages, each told in one line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.files import read_json

from .conftest import Clone

pytestmark = pytest.mark.servers
PLACES = {"arrays": "data/arrays_example/recordings", "bids": "data/bids_example/dataset"}


@dataclass(frozen=True)
class Lab:
    """A clone in which an example study has run once."""

    clone: Clone
    form: str
    checked: str

    @property
    def outputs(self) -> Path:
        """Where the study's results lie."""
        return self.clone.folder / "outputs" / f"{self.form}_example"


@pytest.fixture(scope="module", params=["arrays", pytest.param("bids", marks=pytest.mark.full)])
def lab(request: pytest.FixtureRequest, clone: Callable[[], Clone]) -> Lab:
    """What a new user types, in one go."""
    form, made = request.param, clone()
    config = f"configs/{form}_example.yaml"
    simulated, checked, _ = made.type(
        f"brain2video simulate {PLACES[form]} --form {form}",
        f"brain2video check -c {config}",
        f"brain2video run -c {config}",
    )
    assert f"next: brain2video run -c {config}" in simulated.said
    return Lab(made, form, checked.said)


def test_the_example_reaches_a_gallery_above_chance(lab: Lab) -> None:
    assert (lab.outputs / "latest" / "gallery.html").is_file()
    rows = read_json(lab.outputs / "latest" / "metrics.json")["rows"]
    low, _ = rows["reconstruction"]["pixels.two_way"]["ci95"]
    assert low > 0.6
    assert abs(rows["shuffled_brain"]["pixels.two_way"]["value"] - 0.5) < 0.15
    for words in ("sub-01", "shown 2 ×", "voxels", "split", "clips are read at", "target pixels"):
        assert words in lab.checked, lab.checked


@pytest.mark.full
def test_five_breakages_are_one_line_each(lab: Lab) -> None:
    if lab.form != "arrays":
        pytest.skip("the arrays' files are the ones that are broken")
    config = "-c configs/arrays_example.yaml"
    recordings = lab.clone.folder / PLACES["arrays"]
    misspelled, absent, unknown = lab.clone.type(
        f"brain2video train {config} --set training.rotes=1",
        f"brain2video run {config} --set source.path=data/nowhere",
        f"brain2video reconstruct {config} --subject sub-07",
        code=2,
    )
    for outcome, words in ((misspelled, "'routes'"), (absent, "data/nowhere"), (unknown, "sub-07")):
        assert len(outcome.errors) == 1, outcome.said
        assert words in outcome.errors[0]
        assert "Traceback" not in outcome.said

    chunk = next((lab.clone.folder / "data/arrays_example/features.zarr/responses/sub-02").rglob("c/*/*"))
    content = chunk.read_bytes()
    chunk.chmod(0o644)
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (damaged,) = lab.clone.type(f"brain2video verify {config}", code=2)
    assert f"{chunk.parent.name}/{chunk.name}" in damaged.said
    responses = recordings / "sub-01" / "responses.npy"
    values = np.load(responses)
    np.save(responses, values[:-1])
    (short,) = lab.clone.type(f"brain2video responses {config}", code=2)
    assert "responses.npy" in "".join(short.errors), short.said
    assert "Traceback" not in short.said
    np.save(responses, values)
    lab.clone.type(f"brain2video run {config}", f"brain2video verify {config}")
    assert chunk.read_bytes() == content, "what was damaged is healed by running again"
