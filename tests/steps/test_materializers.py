"""References are kept as JSON, and shown as a page."""

import html
from pathlib import Path

import pytest

from core.files import write_bytes
from studies.runs import GroupRef, ReconstructionRef


@pytest.fixture
def materializer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The materializer with an artifact store that is a plain folder."""
    from materializers.references import ReferenceMaterializer

    class Folder:
        def open(self, path: str, mode: str):
            return Path(path).open(mode)

    monkeypatch.setattr(ReferenceMaterializer, "artifact_store", Folder(), raising=False)
    made = ReferenceMaterializer.__new__(ReferenceMaterializer)
    made.uri = str(tmp_path)
    return made


def group(**changed: object) -> GroupRef:
    content = {"kind": "responses", "name": "sub-01", "path": "data/x", "digest": "d", "shapes": {}, "fresh": False}
    return GroupRef.model_validate({**content, **changed})


def test_a_reference_comes_back(materializer, tmp_path: Path) -> None:
    materializer.save(group())
    assert materializer.load(GroupRef) == group()
    assert {path.name for path in tmp_path.iterdir()} == {"reference.json"}


def test_it_is_shown_as_a_table_and_a_reconstruction_with_its_gallery(materializer, home: Path, tmp_path: Path) -> None:
    shown = materializer.save_visualizations(group(name="<b>"))
    assert "&lt;b&gt;" in Path(next(iter(shown))).read_text()
    write_bytes(home / "outputs" / "x" / "r" / "sheet.png", b"png")
    write_bytes(home / "outputs" / "x" / "r" / "gallery.html", b"<!doctype html>")
    run = ReconstructionRef(study="x", run="r", folder="outputs/x/r", digest="d", note="", fresh=False)
    kinds = {Path(path).name: kind.value for path, kind in materializer.save_visualizations(run).items()}
    assert kinds == {"reference.html": "html", "gallery.html": "html", "sheet.png": "image"}
    assert materializer.extract_metadata(run)["folder"] == "outputs/x/r"


def test_a_store_is_shown_with_its_pictures_and_attributes(materializer, home: Path) -> None:
    write_bytes(home / "outputs" / "x" / "stores" / "responses-sub-01-d.png", b"png")
    there, lost = "outputs/x/stores/responses-sub-01-d.png", "outputs/x/stores/lost.png"
    reference = group(
        shapes={"train/betas": [30, 5]},
        attributes={"nan_voxels": {"train": 2}},
        dvc_state="changed since dvc.lock",
        pictures=[there, lost],
    )
    page, *pictures = materializer.save_visualizations(reference)
    for words in ("[30, 5]", "nan_voxels", "changed since dvc.lock", "<code>d</code>"):
        assert words in html.unescape(Path(page).read_text())
    assert [Path(picture).read_bytes() for picture in pictures] == [b"png"]
