"""Loads the parts that every generator has, from a folder in the layout of a diffusers pipeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

from core.errors import ModelError
from core.files import read_json
from models.generator.settings import DiffusionConfig
from models.weights.load import load, pick_device
from models.weights.locate import TEXT_TO_VIDEO, locate


@dataclass(frozen=True)
class Parts:
    """What stands around a denoiser, and where the denoiser is to be loaded from and to."""

    folder: Path
    device: torch.device
    dtype: torch.dtype
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: Any

    def around(self) -> dict[str, Any]:
        """Return the parts as `LatentDiffusion` names them."""
        names = ("vae", "text_encoder", "tokenizer", "scheduler")
        return {name: getattr(self, name) for name in names}

    def check(self, unet: Any) -> None:
        """Raise where a denoiser does not fit the parts around it."""
        found, wanted = unet.config.cross_attention_dim, self.text_encoder.config.hidden_size
        if found != wanted or unet.config.in_channels != self.vae.config.latent_channels:
            raise ModelError(
                f"{self.folder}: the denoiser takes states {found} wide and {unet.config.in_channels} channels, the "
                f"text encoder gives {wanted}, the autoencoder {self.vae.config.latent_channels}; mend the folder"
            )


def load_parts(config: DiffusionConfig, root: Path) -> Parts:
    """Load everything but the denoiser; see `TextToVideoConfig.build`."""
    folder = locate(config.weights, root, TEXT_TO_VIDEO)
    device, dtype = pick_device(config.device), getattr(torch, config.dtype)
    return Parts(
        folder=folder,
        device=device,
        dtype=dtype,
        vae=load(AutoencoderKL, folder, "vae", torch_dtype=dtype).to(device),
        text_encoder=load(CLIPTextModel, folder, "text_encoder", dtype=dtype).to(device),
        tokenizer=load(CLIPTokenizer, folder, "tokenizer"),
        scheduler=load(_scheduler_class(folder / "scheduler"), folder, "scheduler"),
    )


def _scheduler_class(folder: Path) -> type[Any]:
    path = folder / "scheduler_config.json"
    name = read_json(path).get("_class_name", "") if path.is_file() else ""
    found = getattr(diffusers, name, None)
    if not name.endswith("Scheduler") or found is None:
        raise ModelError(f"{path}: names no scheduler of diffusers (found '{name}'); fetch or train the model again")
    return found  # type: ignore[no-any-return]
