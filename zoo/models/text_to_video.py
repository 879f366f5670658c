"""Trains the small world's denoiser: first on single frames, then on videos."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, UNet3DConditionModel
from transformers import CLIPTextModel

from core.seeds import rng_for, seed_for
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from models.training.loop import fit
from models.training.muon import Muon
from zoo.models.config import TextToVideoStage
from zoo.models.half import round_to_half
from zoo.models.text import Phrasings


@dataclass(frozen=True)
class TrainedTextToVideo:
    """A denoiser with the scheduler it goes with, and how it came about."""

    unet: UNet3DConditionModel
    scheduler: DPMSolverMultistepScheduler
    losses: list[float]
    """Squared error of the velocity at every step, frames first."""


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Return the sampler: DPM-Solver++ of second order, deterministic, for velocity-predicting networks."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def new_unet(stage: TextToVideoStage, channels: int, size: int, text_width: int) -> UNet3DConditionModel:
    """Return an untrained denoiser whose layers over time begin as identities.

    diffusers starts its temporal convolutions at zero but not its temporal attention; with both at zero, what single
    frames have taught holds for videos from their first step.
    """
    levels = len(stage.widths)
    unet = UNet3DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("CrossAttnDownBlock3D",) * levels,
        up_block_types=("CrossAttnUpBlock3D",) * levels,
        block_out_channels=stage.widths,
        layers_per_block=1,
        norm_num_groups=stage.groups,
        cross_attention_dim=text_width,
        attention_head_dim=stage.heads,
    )
    for name, module in unet.named_modules():
        if name.endswith("proj_out") and ("temp_attentions" in name or "transformer_in" in name):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # far too few steps to overfit
    return unet


class _Skip(torch.nn.Module):  # type: ignore[misc]
    """Stands in for a layer over time: hands its input on, as a layer or in a transformer's tuple."""

    def __init__(self, *, wrapped: bool) -> None:
        super().__init__()
        self.wrapped = wrapped

    def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> Any:
        return (hidden,) if self.wrapped else hidden


@contextmanager
def without_time(unet: UNet3DConditionModel) -> Iterator[None]:
    """Take the layers over time out for the length of a ``with`` block, which halves the cost on frames."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    lists = [(block, name) for block in blocks for name in ("temp_convs", "temp_attentions") if hasattr(block, name)]
    kept = [(block, name, getattr(block, name)) for block, name in lists]
    transformer_in = unet.transformer_in
    try:
        unet.transformer_in = _Skip(wrapped=True)
        for block, name, layers in kept:
            wrapped = name == "temp_attentions"
            setattr(block, name, torch.nn.ModuleList(_Skip(wrapped=wrapped) for _ in layers))
        yield
    finally:
        unet.transformer_in = transformer_in
        for block, name, layers in kept:
            setattr(block, name, layers)


def train_text_to_video(
    stage: TextToVideoStage,
    latents: torch.Tensor,
    phrasings: Phrasings,
    text_encoder: CLIPTextModel,
    empty: torch.Tensor,
    seed: int,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> TrainedTextToVideo:
    """Train a denoiser to predict the velocity of noised latents under the states of their captions.

    Parameters
    ----------
    stage : TextToVideoStage
    latents : Tensor, shape (clip, frame, channel, height, width), of unit variance
    phrasings : Phrasings
    text_encoder : CLIPTextModel
        Stays as it is.
    empty : Tensor, shape (1, token)
        Tokens of the empty caption.
    seed : int
    checkpoints : Checkpoints
    """
    torch.manual_seed(seed_for(seed, "text_to_video"))
    unet = new_unet(stage, latents.shape[2], latents.shape[-1], text_encoder.config.hidden_size).train()
    scheduler = new_scheduler()
    last = scheduler.config.num_train_timesteps - 1

    def loss(step: int) -> torch.Tensor:
        rng = rng_for(seed, "text_to_video", "batches", step)
        single = step < stage.frame_steps
        rows = rng.integers(0, len(latents), stage.frame_batch if single else stage.video_batch)
        clean = latents[rows]
        if single:
            clean = clean[torch.arange(len(rows)), rng.integers(0, clean.shape[1], len(rows))][:, None]
        dropped = torch.from_numpy(rng.random(len(rows)) < stage.dropped)
        with torch.no_grad():
            states = text_encoder(torch.where(dropped[:, None], empty, phrasings.draw(rows, rng)))[0]
        times = torch.from_numpy(rng.integers(0, last + 1, len(rows)))
        with without_time(unet) if single else nullcontext():
            return _velocity_error(unet, scheduler, clean.transpose(1, 2), times, states)

    optimiser = Muon(unet.parameters(), lr=stage.lr, lr_adam=stage.lr_adam)
    steps, what = stage.frame_steps + stage.video_steps, "training the denoiser"
    history = fit("text_to_video", what, unet, optimiser, loss, steps, seed=seed, checkpoints=checkpoints, clip=1.0)
    round_to_half(unet.eval())
    return TrainedTextToVideo(unet, scheduler, history.losses)


def _velocity_error(
    unet: UNet3DConditionModel, scheduler: Any, clean: torch.Tensor, times: torch.Tensor, states: torch.Tensor
) -> torch.Tensor:
    """Return the squared error of the velocity predicted for clean latents (clip, channel, frame, h, w) noised."""
    kept = scheduler.alphas_cumprod[times].view(-1, 1, 1, 1, 1)
    noise = torch.randn_like(clean)
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    return torch.nn.functional.mse_loss(unet(noisy, times, states).sample, velocity)
