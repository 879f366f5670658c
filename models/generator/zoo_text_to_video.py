"""Trains the small world's denoiser and its text encoder: first on single frames, then on videos."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet3DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from core.progress import track
from core.seeds import rng_for, seed_for
from models.generator.config import TextToVideoStage
from models.generator.muon import Muon
from models.generator.zoo_text import new_text_encoder, train_tokenizer

WARM_UP = 20
"""Steps until the full rate is reached."""


@dataclass(frozen=True)
class TrainedTextToVideo:
    """A denoiser with the text encoder, the tokenizer and the scheduler it goes with, and how it came about."""

    unet: UNet3DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DPMSolverMultistepScheduler
    losses: dict[str, list[float]] = field(default_factory=dict)
    """Squared error of the velocity at every step, by stage."""


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Return the sampler: DPM-Solver++ of second order, deterministic, for velocity-predicting networks."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def new_unet(stage: TextToVideoStage, channels: int, size: int) -> UNet3DConditionModel:
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
        cross_attention_dim=stage.text_width,
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
    stage: TextToVideoStage, latents: torch.Tensor, captions: list[str], seed: int
) -> TrainedTextToVideo:
    """Train a denoiser and a text encoder together, to predict the velocity of noised latents under their captions.

    Parameters
    ----------
    stage : TextToVideoStage
    latents : Tensor, shape (clip, frame, channel, height, width), of unit variance
    captions : one a clip
    seed : int
    """
    torch.manual_seed(seed_for(seed, "text_to_video"))
    tokenizer = train_tokenizer(captions, stage.tokens)
    unet = new_unet(stage, latents.shape[2], latents.shape[-1]).train()
    text_encoder = new_text_encoder(stage, tokenizer).train()
    trainer = _Trainer(stage, unet, text_encoder, tokenizer, latents, captions, seed)
    with without_time(unet):
        frame_losses = trainer.run("training on frames", stage.frame_steps, stage.frame_batch, single=True)
    video_losses = trainer.run("training on videos", stage.video_steps, stage.video_batch, single=False)
    losses = {"frames": frame_losses, "videos": video_losses}
    return TrainedTextToVideo(unet.eval(), text_encoder.eval(), tokenizer, trainer.scheduler, losses)


class _Trainer:
    def __init__(
        self,
        stage: TextToVideoStage,
        unet: UNet3DConditionModel,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        latents: torch.Tensor,
        captions: list[str],
        seed: int,
    ) -> None:
        self.stage, self.unet, self.text_encoder, self.latents = stage, unet, text_encoder, latents
        settings = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        self.tokens = tokenizer(captions, **settings).input_ids
        self.empty = tokenizer([""], **settings).input_ids
        self.scheduler = new_scheduler()
        self.rng = rng_for(seed, "text_to_video", "batches")
        self.weights = [*unet.parameters(), *text_encoder.parameters()]
        self.optimiser = Muon(self.weights, lr=stage.lr, lr_adam=stage.lr_adam)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate)

    def _rate(self, step: int) -> float:
        """Return a short warm-up and one cosine over both stages: a restart would undo what the frames have taught."""
        total = max(1, self.stage.frame_steps + self.stage.video_steps)
        return float(min(1, (step + 1) / WARM_UP) * (0.52 + 0.48 * np.cos(np.pi * min(1, step / total))))

    def run(self, what: str, steps: int, batch: int, *, single: bool) -> list[float]:
        """Train for some steps; return their losses."""
        losses = []
        for _ in track(range(steps), what):
            losses.append(self._step(*self._draw(batch, single=single)))
            self.schedule.step()
        return losses

    def _draw(self, batch: int, *, single: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents as (batch, channel, frame, height, width) and the tokens of their captions, some empty."""
        rows = self.rng.integers(0, len(self.latents), batch)
        clean = self.latents[rows]
        if single:
            clean = clean[torch.arange(batch), self.rng.integers(0, clean.shape[1], batch)][:, None]
        dropped = torch.from_numpy(self.rng.random(batch) < self.stage.dropped)
        return clean.transpose(1, 2), torch.where(dropped[:, None], self.empty, self.tokens[rows])

    def _step(self, clean: torch.Tensor, tokens: torch.Tensor) -> float:
        last = self.scheduler.config.num_train_timesteps - 1
        times = torch.from_numpy((last * self.rng.random(len(clean)) ** self.stage.time_power).astype(np.int64))
        kept = self.scheduler.alphas_cumprod[times].view(-1, 1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        states = self.text_encoder(tokens)[0]
        loss = torch.nn.functional.mse_loss(self.unet(noisy, times, states).sample, velocity)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimiser.step()
        return float(loss.item())
