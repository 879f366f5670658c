"""Trains the small world's autoencoder: pictures to latents an eighth of their values, and back."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from core.seeds import rng_for, seed_for
from models.extractors.latents import to_pictures
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from models.training.loop import fit
from models.training.muon import Muon
from zoo.models.config import VaeStage
from zoo.models.half import round_to_half

LOG_VARIANCE = -6.0
"""Where the posterior's log-variance starts: at 0 the noise would drown the latents before they carry anything."""


@dataclass(frozen=True)
class TrainedVae:
    """An autoencoder whose `scaling_factor` brings its latents to unit variance, and how it came about."""

    vae: AutoencoderKL
    losses: list[float]
    """Squared error, for pictures in [-1, 1], and a little divergence, at every step."""


def new_vae(stage: VaeStage, size: int) -> AutoencoderKL:
    """Return an untrained autoencoder for square pictures of `size` pixels."""
    levels = len(stage.widths)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=stage.widths,
        layers_per_block=1,
        latent_channels=stage.channels,
        norm_num_groups=stage.groups,
        sample_size=size,
    )
    with torch.no_grad():
        vae.quant_conv.weight[stage.channels :] = 0
        vae.quant_conv.bias[stage.channels :] = LOG_VARIANCE
    return vae


def train_vae(
    stage: VaeStage, frames: NDArray[np.uint8], seed: int, checkpoints: Checkpoints = NO_CHECKPOINTS
) -> TrainedVae:
    """Train an autoencoder on single frames: squared error plus a little divergence, Muon, a cosine to nearly zero.

    Parameters
    ----------
    stage : VaeStage
    frames : ndarray, shape (n, height, width, 3), uint8
    seed : int
    checkpoints : Checkpoints
    """
    torch.manual_seed(seed_for(seed, "vae"))
    vae = new_vae(stage, frames.shape[1]).train()

    def loss(step: int) -> torch.Tensor:
        rows = rng_for(seed, "vae", "batches", step).integers(0, len(frames), stage.batch)
        pictures = to_pictures(frames[rows])
        posterior = vae.encode(pictures).latent_dist
        error = torch.nn.functional.mse_loss(vae.decode(posterior.sample()).sample, pictures)
        return error + stage.kl * posterior.kl().mean()

    optimiser = Muon(vae.parameters(), lr=stage.lr, lr_adam=stage.lr_adam)
    what = "training the autoencoder"
    losses = fit("vae", what, vae, optimiser, loss, stage.steps, seed=seed, checkpoints=checkpoints).losses
    round_to_half(vae.eval())
    spread = encode_frames(vae, frames[:: max(1, len(frames) // 1024)]).std().item()
    vae.register_to_config(scaling_factor=1 / spread)
    return TrainedVae(vae, losses)


@torch.no_grad()  # type: ignore[untyped-decorator]
def encode_frames(vae: AutoencoderKL, frames: NDArray[np.uint8], batch: int = 32) -> torch.Tensor:
    """Return the posterior's means, unscaled, shape (n, channel, height, width)."""
    starts = range(0, len(frames), batch)
    return torch.cat([vae.encode(to_pictures(frames[at : at + batch])).latent_dist.mean for at in starts])
