"""Loads parts of models in the hub's folder layout, and picks the device they work on; see `models.hub`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.utils import logging

from core.errors import ModelError
from models.hub import WEIGHTLESS

T = TypeVar("T")


def load(cls: type[T], folder: Path, part: str, **settings: Any) -> T:
    """Load one part by its `from_pretrained`, in evaluation mode, refusing pickled weights.

    Raises
    ------
    ModelError
        The part's files are damaged or belong to another class.
    """
    read: Callable[..., T] = cls.from_pretrained  # type: ignore[attr-defined]
    if part not in WEIGHTLESS:
        settings |= {"use_safetensors": True}
    try:
        with without_bars():
            loaded = read(folder / part, local_files_only=True, **settings)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{folder / part}: cannot be read as {cls.__name__} ({reason}); fetch or train it again"
        ) from error
    if isinstance(loaded, torch.nn.Module):
        loaded.eval().requires_grad_(False)
    return loaded


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


def pick_device(device: str) -> torch.device:
    """Return the device named, or for "auto" the GPU where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device 'cuda': this machine shows no GPU to torch; set device: auto or cpu")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
