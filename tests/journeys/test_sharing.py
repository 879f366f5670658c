"""A scientist makes the demo's stores and pushes them; another clones, pulls, verifies, and runs the demo on them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from core.files import digest_folder

from ..small_demo import make_small
from .conftest import Clone

pytestmark = [pytest.mark.servers, pytest.mark.full]


def groups_of(clone: Clone) -> dict[str, str]:
    """Return the digest of every group of the demo's store."""
    store = clone.folder / "data" / "demo" / "features.zarr"
    found = sorted(path.parent for path in store.glob("*/*/MANIFEST.json"))
    return {str(folder.relative_to(store)): digest_folder(folder) for folder in found}


@pytest.fixture(scope="module")
def first(clone: Callable[[], Clone], tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose demo is small, its stores made by `dvc repro`, committed and pushed."""
    made = clone()
    config = made.folder / "configs" / "demo.yaml"
    study = yaml.safe_load(config.read_text())
    make_small(study)
    config.write_text(yaml.safe_dump(study, sort_keys=False))
    (made.folder / "dvc.lock").unlink()
    remote = tmp_path_factory.mktemp("remote")
    made.type("dvc repro", f"dvc remote add -d lab {remote}", "dvc remote modify lab verify true", "dvc push")
    made.git("add", "-A")
    made.git("commit", "-qm", "a small demo")
    return made


@pytest.fixture(scope="module")
def second(first: Clone) -> Clone:
    """What another scientist clones from the first."""
    folder = first.folder.with_name("second")
    first.git("clone", "-q", str(first.folder), str(folder))
    return Clone(folder)


def test_a_clone_pulls_and_verifies_its_own_stores(first: Clone, second: Clone) -> None:
    assert groups_of(second) == {}
    *_, verified = second.type("dvc pull", "brain2video verify")
    assert "every byte is as published" in verified.said
    assert groups_of(second) == groups_of(first) != {}
    store = Path("data/demo/features.zarr/responses/sub-01")
    chunk = next(path for path in sorted((second.folder / store).rglob("c/*/*")) if path.is_file())
    content = chunk.read_bytes()
    chunk.chmod(0o644)
    chunk.unlink()  # a link to the cache: the other clone's and the cache's bytes stay
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (damaged,) = second.type("brain2video verify", code=2)
    assert str(chunk.relative_to(second.folder / store)) in damaged.said
    first.type("brain2video verify")
    shutil.rmtree(second.folder / store)
    *_, healed = second.type("dvc checkout", "brain2video verify")
    assert "every byte is as published" in healed.said


def test_after_the_demo_all_is_clean_and_repro_makes_nothing(second: Clone) -> None:
    second.type("dvc pull")
    before = groups_of(second)
    _, status, dvc, repro = second.type("brain2video demo", "brain2video status", "dvc status", "dvc repro")
    assert second.git("status", "--porcelain") == ""
    assert "up to date" in dvc.said
    assert "up to date" in repro.said
    assert groups_of(second) == before
    for alarm in ("changed", "does not fit", "out of date", "not registered"):
        assert alarm not in status.said, status.said
    videos = list((second.folder / "outputs" / "demo" / "latest" / "videos").glob("*.mp4"))
    assert len(videos) >= 12
