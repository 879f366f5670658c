"""Loads video generators whose parts lie in the layout of a diffusers pipeline.

Text-to-video models of ModelScope's form, zeroscope and the small world's own among them, and AnimateDiff: a
text-to-image denoiser with a motion adapter between its layers (Guo et al. 2024).
"""

from dataclasses import dataclass
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


def load_text_to_video(
    weights: str, root: Path, rendering: Rendering, *, device: Device, dtype: Precision, revision: str
) -> LatentDiffusion:
    """Load a text-to-video model of a folder or of the hub; see `TextToVideoConfig.build`."""
    parts = _load_parts(weights, root, device, dtype)
    unet = load(UNet3DConditionModel, parts.folder, "unet", torch_dtype=parts.dtype).to(parts.device)
    parts.check(unet)
    return LatentDiffusion(config=rendering, unet=unet, revision=revision, **parts.around())


def load_animatediff(
    weights: str, motion: str, root: Path, rendering: Rendering, *, device: Device, dtype: Precision, revision: str
) -> LatentDiffusion:
    """Load a text-to-image model and join its denoiser with a motion adapter; see `AnimateDiffConfig.build`."""
    parts, adapter_folder = _load_parts(weights, root, device, dtype), locate_files(motion, root, MOTION)
    base = load(UNet2DConditionModel, parts.folder, "unet", torch_dtype=parts.dtype)
    adapter = load_folder(MotionAdapter, adapter_folder, torch_dtype=parts.dtype)
    try:
        unet = MotionDenoiser(UNetMotionModel.from_unet2d(base, adapter).to(parts.device, parts.dtype))
    except FAULTS as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{adapter_folder}: a motion adapter that does not fit the denoiser of {parts.folder} ({reason}); name two "
            "of the same family"
        ) from error
    unet.eval().requires_grad_(False)
    parts.check(unet)
    return LatentDiffusion(config=rendering, unet=unet, revision=revision, **parts.around())


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


@dataclass(frozen=True)
class Parts:
    """The parts around a denoiser, and where the denoiser is to be loaded from and to."""

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
                f"text encoder gives {wanted}, the autoencoder {self.vae.config.latent_channels}; fix the folder"
            )


def _load_parts(weights: str, root: Path, device_name: Device, precision: Precision) -> Parts:
    """Load everything but the denoiser."""
    folder = locate(weights, root, TEXT_TO_VIDEO)
    device, dtype = pick_device(device_name), getattr(torch, precision)
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
