"""Loads parts of models in the hub's folder layout, and picks the device they work on; see `models.weights.locate`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging

from core.errors import ModelError
from core.files import read_json
from models.weights.locate import WEIGHTLESS, Device, Precision

T = TypeVar("T")
M = TypeVar("M", bound=torch.nn.Module)

FAULTS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    SafetensorError,
    StrictDataclassError,
)
"""What the libraries raise over files that are damaged or belong to something else."""


def load(cls: type[T], folder: Path, part: str, **settings: Any) -> T:
    """Load one part by its `from_pretrained`, in evaluation mode, refusing pickled weights.

    Raises `ModelError`: the part's files are damaged or belong to another class.
    """
    if part in WEIGHTLESS:
        return load_beside(cls, folder / part)
    return load_folder(cls, folder / part, **settings)


def load_folder(cls: type[T], folder: Path, **settings: Any) -> T:
    """Load a model by its own folder, in evaluation mode, refusing pickled weights.

    Weights that the class has no place for are left; a checkpoint of a whole CLIP is read as its vision model.

    Raises `ModelError`: the files are damaged, or hold no weights for a part of the model, which would then be random.
    """
    loaded: Any
    loaded, info = _read(cls, folder, use_safetensors=True, output_loading_info=True, **settings)
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{folder}: holds no weights for {len(missing)} parameters of {cls.__name__}, {missing[0]} among them; "
            "name a model that has them"
        )
    model: T = loaded.eval().requires_grad_(False)
    return model


def load_model(cls: type[M], folder: Path) -> M:
    """Load a model of transformers whose files lie beside each other, in float32; raises as `load_folder`."""
    return load_folder(cls, folder, dtype=torch.float32)


def load_beside(cls: type[T], folder: Path) -> T:
    """Load what lies beside a model's weights and has none of its own: an image processor or a tokenizer.

    Raises `ModelError`: its files are damaged or belong to another class.
    """
    loaded: T = _read(cls, folder)
    return loaded


def load_settings(cls: type[T], folder: Path, *kinds: str) -> T:
    """Load a model's settings, or those of its part that the class is for, from `config.json` alone.

    Raises `ModelError`: the file is damaged, or describes none of the `kinds` of model, by its `model_type`.
    """
    settings: T = _read(cls, folder)
    if (found := read_json(folder / "config.json").get("model_type")) not in kinds:
        raise ModelError(f"{folder}/config.json: describes a model of type '{found}'; name one of {' or '.join(kinds)}")
    return settings


def _read(cls: type, folder: Path, **settings: Any) -> Any:
    read: Callable[..., Any] = cls.from_pretrained  # type: ignore[attr-defined]
    try:
        with without_bars():
            return read(folder, local_files_only=True, **settings)
    except FAULTS as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: cannot be read as {cls.__name__} ({reason}); fetch or train it again") from error


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off the terminal for the length of a ``with`` block."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def pick_device(device: Device) -> torch.device:
    """Return the device named, or for "auto" the GPU where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device 'cuda': this machine shows no GPU to torch; set device: auto or cpu")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def autocast(device: torch.device, dtype: Precision) -> torch.autocast:
    """Return a context in which products are computed in a precision; float32 changes nothing."""
    return torch.autocast(device.type, dtype=getattr(torch, dtype), enabled=dtype != "float32")
