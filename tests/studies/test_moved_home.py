"""A home that was copied or moved works where it lies now, heals what was damaged, and leaves the old place alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import RegistryError
from core.files import digest_folder, read_json
from core.progress import listening
from models.registry.client import client
from models.registry.production import fetch, read_artifact, resolve
from models.registry.sets import ModelSet
from studies.reconstruction.run import reconstruct
from studies.registry.production import resolve_production
from studies.registry.promote import promote_run
from studies.registry.register import register_training
from studies.status.status import production_status, runs_status
from studies.study import Study, load_study
from studies.training.fit import fit

from ..conftest import use_home
from .conftest import Looped


@pytest.fixture
def moved(looped: Looped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Study, Path]]:
    """A copy of a home in which a study has run, and the first home, which must not change."""
    old, new = looped.study.outputs.parents[1], tmp_path / "an other's home"
    before = digest_folder(old)
    shutil.copytree(old, new, symlinks=True)
    use_home(new, monkeypatch)
    yield load_study(new / "configs" / "small.yaml"), old
    assert digest_folder(old) == before


def train(study: Study) -> ModelSet:
    return register_training(study, fit(study))


def levels(study: Study) -> set[tuple[str, str]]:
    return {
        (line.what, line.state) for line in [*runs_status(study), *production_status(study)] if line.level != "good"
    }


def test_a_moved_home_uses_its_own_models_and_writes_to_its_own_store(moved: tuple[Study, Path]) -> None:
    study, old = moved
    heard: list[str] = []
    with listening(lambda what, done, total, note: heard.append(what)):
        chosen = resolve(study.study, study.parts)
    assert [what for what in heard if "was moved from" in what], "it is said"
    fetch(chosen)
    assert read_artifact(chosen, "scores.json")
    assert reconstruct(study, resolve_production(study)).fresh, "nothing is made again"
    other = study.model_copy(update={"seed": 1})
    trained = train(other)
    assert str(old) not in client().get_run(trained.mlflow_run).info.artifact_uri
    promote_run(other, trained.run, force=True)
    assert resolve(study.study, study.parts).run == trained.run


@pytest.mark.parametrize(
    "name",
    [
        "scores.json",
        "encoder/model.safetensors",
        pytest.param("curves.json", marks=pytest.mark.full),
        pytest.param("pictures", marks=pytest.mark.full),
    ],
)
def test_a_training_that_lost_a_file_is_made_again_and_is_the_registered_one(
    moved: tuple[Study, Path], name: str
) -> None:
    study, _ = moved
    folder = (study.outputs / "training" / "latest").resolve()
    target = folder / name if name != "encoder/model.safetensors" else next((folder / "encoder").glob("*.safetensors"))
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    before = resolve(study.study, study.parts)
    assert train(study) == before
    assert target.exists()
    assert (study.outputs / "training" / "latest").resolve() == folder
    assert levels(study) == set()
    assert fit(study).fresh


@pytest.mark.parametrize("name", ["metrics.json", "gallery.html"])
def test_a_reconstruction_that_lost_a_file_is_made_again(moved: tuple[Study, Path], name: str) -> None:
    study, _ = moved
    folder = (study.outputs / "latest").resolve()
    (folder / name).unlink()
    again = reconstruct(study, resolve_production(study))
    assert not again.fresh
    assert (study.outputs / "latest").resolve().name == again.run
    assert (folder / name).is_file()
    assert reconstruct(study, resolve_production(study)).fresh
    assert levels(study) == set()


def test_a_training_whose_record_is_damaged_is_made_again_and_not_called_unregistered(
    moved: tuple[Study, Path],
) -> None:
    study, _ = moved
    ((study.outputs / "training" / "latest").resolve() / "training.json").write_text("{")
    before = resolve(study.study, study.parts)
    assert train(study) == before, "a set of the same files is registered"
    assert levels(study) == set()


def test_registered_files_that_were_lost_are_registered_again(moved: tuple[Study, Path]) -> None:
    study, _ = moved
    before = resolve(study.study, study.parts)
    fetch(before)  # from this home's store
    store = study.outputs.parents[1] / "mlflow" / "store" / "artifacts"
    for file in store.rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(RegistryError, match=r"restore them, or promote another version"):
        fetch(before)
    again = train(study)
    assert again.versions["encoder"] > before.versions["encoder"]
    assert again.digests == before.digests
    assert promote_run(study).accepted
    fetch(resolve(study.study, study.parts))
    assert read_json((study.outputs / "training" / "latest").resolve() / "training.json")["digests"] == again.digests
