"""Loads video generators whose parts lie in the layout of a diffusers pipeline.

Text-to-video models of ModelScope's form, zeroscope and the small world's own among them, and AnimateDiff: a
text-to-image denoiser with a motion adapter between its layers (Guo et al. 2024).
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel, UNet3DConditionModel, UNetMotionModel
from transformers import CLIPTextModel, CLIPTokenizer

from core.errors import ModelError
from core.files import read_json
from models.generator.base import LatentDiffusion, Rendering
from models.weights.load import FAULTS, load, load_folder, pick_device
from models.weights.locate import MOTION, TEXT_TO_VIDEO, Device, Precision, locate, locate_files


def load_generator(
    weights: str,
    root: Path,
    rendering: Rendering,
    *,
    motion: str | None,
    device: Device,
    dtype: Precision,
    revision: str,
) -> LatentDiffusion:
    """Load a model of a folder or of the hub, with a motion adapter where one is named; see `DiffusionConfig.build`."""
    folder, where, precision = locate(weights, root, TEXT_TO_VIDEO), pick_device(device), getattr(torch, dtype)
    vae = load(AutoencoderKL, folder, "vae", torch_dtype=precision).to(where)
    text_encoder = load(CLIPTextModel, folder, "text_encoder", dtype=precision).to(where)
    tokenizer = load(CLIPTokenizer, folder, "tokenizer")
    scheduler = load(_scheduler_class(folder / "scheduler"), folder, "scheduler")
    if motion is None:
        unet: Any = load(UNet3DConditionModel, folder, "unet", torch_dtype=precision).to(where)
    else:
        unet = _with_motion(folder, locate_files(motion, root, MOTION), precision).to(where, precision)
    states, wanted = unet.config.cross_attention_dim, text_encoder.config.hidden_size
    if states != wanted or unet.config.in_channels != vae.config.latent_channels:
        raise ModelError(
            f"{folder}: the denoiser takes states {states} wide and {unet.config.in_channels} channels, the text "
            f"encoder gives {wanted}, the autoencoder {vae.config.latent_channels}; fix the folder"
        )
    return LatentDiffusion(rendering, vae, unet, text_encoder, tokenizer, scheduler, revision)


def _with_motion(folder: Path, adapter_folder: Path, dtype: torch.dtype) -> "MotionDenoiser":
    base = load(UNet2DConditionModel, folder, "unet", torch_dtype=dtype)
    adapter = load_folder(MotionAdapter, adapter_folder, torch_dtype=dtype)
    try:
        unet = MotionDenoiser(UNetMotionModel.from_unet2d(base, adapter))
    except FAULTS as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{adapter_folder}: a motion adapter that does not fit the denoiser of {folder} ({reason}); name two "
            "of the same family"
        ) from error
    unet.eval().requires_grad_(False)
    return unet


class MotionDenoiser(torch.nn.Module):  # type: ignore[misc]
    """A `UNetMotionModel` called as a `UNet3DConditionModel` is: with a clip's states once, not once a frame."""

    def __init__(self, unet: UNetMotionModel) -> None:
        super().__init__()
        self.unet = unet
        self.config = unet.config

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """What it works in."""
        return self.unet.dtype

    def forward(self, sample: torch.Tensor, time: torch.Tensor, states: torch.Tensor) -> Any:
        """Return what is predicted of noisy latents (clip, channel, frame, h, w) and states (clip, token, width)."""
        return self.unet(sample, time, states.repeat_interleave(sample.shape[2], dim=0))


def _scheduler_class(folder: Path) -> type[Any]:
    path = folder / "scheduler_config.json"
    name = read_json(path).get("_class_name", "") if path.is_file() else ""
    scheduler: type[Any] | None = getattr(diffusers, name, None)
    if not name.endswith("Scheduler") or scheduler is None:
        raise ModelError(f"{path}: names no scheduler of diffusers (found '{name}'); fetch or train the model again")
    return scheduler
