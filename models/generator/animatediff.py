"""AnimateDiff: a text-to-image denoiser with a motion adapter between its layers (Guo et al. 2024)."""

from pathlib import Path
from typing import Any

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

from core.errors import ModelError
from models.generator.base import LatentDiffusion
from models.generator.parts import load_parts
from models.generator.settings import AnimateDiffConfig
from models.weights.load import FAULTS, load, load_folder
from models.weights.locate import MOTION, locate_files


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


def load_animatediff(config: AnimateDiffConfig, root: Path) -> LatentDiffusion:
    """Load the parts that the settings name and join denoiser and adapter; see `AnimateDiffConfig.build`."""
    parts, adapter_folder = load_parts(config, root), locate_files(config.motion, root, MOTION)
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
    return LatentDiffusion(config=config, unet=unet, revision=config.revision(root), **parts.around())
