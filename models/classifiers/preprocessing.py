"""What the models that look at clips share: their frames in batches, prepared as each model's own processor does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import ModelError
from core.progress import report
from models.extractors.base import Clips, check_any_clips
from models.weights.load import load_beside

Floats = NDArray[np.float32]


def load_processor(cls: type, folder: Path, size: int) -> Any:
    """Load an image processor of transformers that works with Pillow.

    Raises
    ------
    ModelError
        Its settings are damaged, or it makes pictures of another size than the model is shown, (size, size).
    """
    processor: Any = load_beside(cls, folder)
    made = prepared(processor, [np.zeros((size, 2 * size, 3), np.uint8)]).shape[-2:]
    if made != (size, size):
        raise ModelError(
            f"{folder}/preprocessor_config.json: makes pictures of {made[0]} × {made[1]}, the model is shown "
            f"{size} × {size}; fetch both files from the same model"
        )
    return processor


def prepared(processor: Any, shown: list[Any]) -> torch.Tensor:
    """Return frames (height, width, 3), or lists of them, as the model's pixels, (n, …, 3, size, size) float32."""
    pixels: torch.Tensor = processor(shown, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    return pixels


def batches(count: int, batch: int, what: str) -> Iterator[slice]:
    """Yield which of `count` go through the network together, with progress."""
    for start in range(0, count, batch):
        report(what, start, count)
        yield slice(start, start + batch)
    report(what, count, count)


def of_frames(name: str, clips: Any, batch: int, width: int, look: Callable[[Clips], torch.Tensor]) -> Floats:
    """Return what a model says of every frame, (n, frame, width).

    Parameters
    ----------
    name : the model's, for errors and progress
    clips : uint8 (n, frame, height, width, 3)
    batch : frames that are looked at together
    width : numbers that are said of a frame
    look : of frames (m, height, width, 3), returns (m, width)

    Raises
    ------
    ModelError
        Not clips, or what is said of one is not finite.
    """
    check_any_clips(name, clips)
    frames = clips.reshape(-1, *clips.shape[2:])
    said = np.empty((len(frames), width), np.float32)
    for rows in batches(len(frames), batch, f"{name}: looking at frames"):
        said[rows] = look(frames[rows]).cpu().numpy()
    return finite(name, said).reshape(*clips.shape[:2], width)


def finite(name: str, values: Floats) -> Floats:
    """Return values as they are; raises `ModelError` where one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ModelError(f"{name}: says NaN or infinity; its weights are damaged, fetch them again")
    return values
