"""Models on disk: `config.json` beside `model.safetensors`, so that no model file can run code."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from core.errors import ModelError
from core.files import digest_folder, read_json, staged_folder, write_json

CONFIG = "config.json"
TENSORS = "model.safetensors"

Tensors = dict[str, NDArray[Any]]


def save_weights(folder: Path, config: dict[str, Any], tensors: Tensors) -> str:
    """Write a model's config and tensors as one folder, atomically, and return the folder's digest.

    Parameters
    ----------
    folder : Path
        Replaced as a whole if it is there.
    config : JSON-able dict
    tensors : name to array
    """
    with staged_folder(folder) as building:
        write_json(building / CONFIG, config)
        save_file({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, building / TENSORS)
    return digest_folder(folder)


def load_weights(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """Read what `save_weights` wrote.

    Raises
    ------
    ModelError
        The folder is not a model of this project, or its tensors are damaged.
    """
    try:
        return read_json(folder / CONFIG), load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: not a model of this project ({error}); expected {CONFIG} and {TENSORS}; train it again"
        ) from error


def common(widths: list[int]) -> int:
    """Return the one width that all subjects have, or -1 where they differ."""
    return widths[0] if len(set(widths)) == 1 else -1


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors whose names begin with ``prefix.``, by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
