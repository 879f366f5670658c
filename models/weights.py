"""Models on disk: `config.json` beside `model.safetensors`, so that no model file can run code."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from core.errors import ModelError
from core.files import digest_folder, read_json, staged_folder, write_json
from models.tensor_files import Array, Stored, TensorFile, write_tensors

CONFIG = "config.json"
TENSORS = "model.safetensors"
LOADED_BYTES = 64 * 2**20
"""Files up to this size are read at once."""

Tensors = dict[str, Array]


def save_weights(folder: Path, config: dict[str, Any], tensors: Stored) -> str:
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
        write_tensors(building / TENSORS, tensors)
    return digest_folder(folder)


def load_weights(folder: Path) -> tuple[dict[str, Any], Stored]:
    """Read what `save_weights` wrote; the tensors of a large file are read when they are asked for.

    Raises
    ------
    ModelError
        The folder is not a model of this project, or its tensors are damaged.
    """
    file = folder / TENSORS
    try:
        config = read_json(folder / CONFIG)
        return config, load_file(file) if file.stat().st_size <= LOADED_BYTES else TensorFile(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: not a model of this project ({error}); expected {CONFIG} and {TENSORS}; train it again"
        ) from error


def writable(tensors: Stored) -> Tensors:
    """Return tensors that may be written to, as torch asks for; those of a file are read."""
    return {name: np.require(values, requirements="W") for name, values in tensors.items()}


def common(widths: list[int]) -> int:
    """Return the one width that all subjects have, or -1 where they differ."""
    return widths[0] if len(set(widths)) == 1 else -1


def prefixed(tensors: Stored, prefix: str) -> Tensors:
    """Return the tensors whose names begin with ``prefix.``, by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensors[name] for name in tensors if name.startswith(start)}
