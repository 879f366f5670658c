"""Checks that the weights which a study names are here, without loading or fetching any."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from core.errors import ModelError
from models.weights.locate import DOWNLOADED
from models.weights.tensor_file import TENSORS
from studies.stores.download import Named


def folder_of(weights: str, root: Path) -> Path | None:
    """Return where a model's weights are, None where they are not here."""
    return next((folder for folder in (root / weights, root / DOWNLOADED / weights) if folder.is_dir()), None)


def faults_of_weights(named: Iterable[Named], root: Path) -> Iterator[ModelError]:
    """Yield a fault where a folder of weights is absent and no model of the hub, or lacks a file."""
    for weights, files in dict.fromkeys((name, tuple(files)) for name, files in named):
        folder = folder_of(weights, root)
        if folder is None:
            if weights.count("/") != 1 or weights.startswith("."):
                yield ModelError(
                    f"weights '{weights}': no folder {root / weights}, and no model of the hub; name either"
                )
            continue
        needed = [file for file in files if file.endswith((".safetensors", "config.json"))]
        missing = [file for file in needed if not any(folder.glob(file.replace("/*.json", "/config.json")))]
        if missing:
            lacks = f"{folder} has no {', '.join(missing)}"
            yield ModelError(f"weights '{weights}': {lacks}; fetch them again, or name others")


def faults_of_folder(key: str, folder: Path) -> Iterator[ModelError]:
    """Yield a fault where a folder that a setting names holds no model of this project."""
    if not (folder / TENSORS).is_file():
        yield ModelError(f"{key}: {folder} holds no {TENSORS}; name the folder of a model that this project trained")
