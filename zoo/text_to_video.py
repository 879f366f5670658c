"""Trains the parts of the small world's text-to-video model: tokenizer, text encoder, autoencoder and denoiser.

The tokenizer has one token for each word; the autoencoder turns pictures into latents an eighth of their values; the
denoiser learns from single frames first, then from videos.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet3DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from core.seeds import rng_for, seed_for
from models.extractors.diffusion import to_pictures
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from models.training.loop import Muon, fit
from zoo.corpus import Corpus, round_to_half, teach_attributes
from zoo.settings import TextStage, TextToVideoStage, VaeStage

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
ALPHABET = string.ascii_lowercase + string.digits + "-,.'"
"""Any caption of these can be written with the vocabulary, letter by letter if need be."""


def train_tokenizer(captions: Iterable[str], tokens: int) -> CLIPTokenizer:
    """Return CLIP's tokenizer with merges learnt until every word of the captions is one token.

    Parameters
    ----------
    captions : strings; case does not count.
    tokens : length of a tokenised caption, padded with the end token
    """
    words = sorted({word for caption in captions for word in re.findall(r"[a-z]+", caption.lower())})
    merges = learn_merges(words)
    pieces = [*ALPHABET, *(letter + END_OF_WORD for letter in ALPHABET), *("".join(pair) for pair in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=tokens)


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Return byte-pair merges, commonest pair first and ties by the alphabet, until each word is one piece."""
    spelt = [[*word[:-1], word[-1] + END_OF_WORD] for word in words]
    merges = []
    while pairs := Counter(pair for pieces in spelt for pair in pairwise(pieces)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = [_merge(pieces, best) for pieces in spelt]
    return merges


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def text_config(stage: TextStage, tokenizer: CLIPTokenizer, projection: int) -> CLIPTextConfig:
    """Return the settings of a CLIP text encoder for a tokenizer's vocabulary."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=stage.width,
        intermediate_size=2 * stage.width,
        projection_dim=projection,
        num_hidden_layers=stage.layers,
        num_attention_heads=4,
        max_position_embeddings=stage.tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def new_text_encoder(stage: TextStage, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained CLIP text encoder for a tokenizer's vocabulary."""
    return CLIPTextModel(text_config(stage, tokenizer, stage.width))


def tokens_of(tokenizer: Any, captions: Iterable[str]) -> torch.Tensor:
    """Return the tokens of captions, all padded to the tokenizer's length: (caption, token)."""
    settings = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    tokens: torch.Tensor = tokenizer(list(captions), **settings).input_ids
    return tokens


class Phrasings:
    """The tokens of every caption of a corpus, to draw one for each of some clips."""

    def __init__(self, tokenizer: CLIPTokenizer, corpus: Corpus) -> None:
        self.tokens = tokens_of(tokenizer, corpus.every_caption)
        counts = np.asarray([len(captions) for captions in corpus.captions])
        self.counts, self.starts = counts, np.concatenate([[0], np.cumsum(counts)[:-1]])

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator) -> torch.Tensor:
        """Return the tokens (row, token) of one caption of each clip, any of its phrasings."""
        return self.tokens[self.starts[rows] + rng.integers(0, self.counts[rows])]


def train_text_encoder(
    stage: TextStage,
    tokenizer: CLIPTokenizer,
    corpus: Corpus,
    seed: int,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> tuple[CLIPTextModel, list[float]]:
    """Train a text encoder until the mean of its states reveals every attribute in any phrasing; return losses too."""
    torch.manual_seed(seed_for(seed, "text"))
    encoder = new_text_encoder(stage, tokenizer).train()
    phrasings = Phrasings(tokenizer, corpus)

    def features(rows: NDArray[np.intp], rng: np.random.Generator) -> torch.Tensor:
        return encoder(phrasings.draw(rows, rng))[0].mean(1)

    losses = teach_attributes(
        "text",
        "training the text encoder",
        encoder,
        features,
        stage.width,
        corpus,
        list(corpus.attributes),
        steps=stage.steps,
        batch=stage.batch,
        optimiser=lambda weights: torch.optim.AdamW(weights, lr=stage.lr, weight_decay=1e-4),
        seed=seed,
        checkpoints=checkpoints,
    )
    round_to_half(encoder.eval().requires_grad_(False))
    return encoder, losses


LOG_VARIANCE = -6.0
"""Where the posterior's log-variance starts: at 0 the noise would drown the latents before they carry anything."""


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
) -> tuple[AutoencoderKL, list[float]]:
    """Train an autoencoder whose latents have unit variance on single frames; return it and the loss of every step.

    Parameters
    ----------
    frames : (n, height, width, 3) uint8
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
    return vae, losses


@torch.no_grad()  # type: ignore[untyped-decorator]
def encode_frames(vae: AutoencoderKL, frames: NDArray[np.uint8], batch: int = 32) -> torch.Tensor:
    """Return the posterior's means, unscaled, shape (n, channel, height, width)."""
    starts = range(0, len(frames), batch)
    return torch.cat([vae.encode(to_pictures(frames[at : at + batch])).latent_dist.mean for at in starts])


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
) -> tuple[UNet3DConditionModel, DPMSolverMultistepScheduler, list[float]]:
    """Train a denoiser to predict the velocity of noised latents under captions; return it, its scheduler and losses.

    Parameters
    ----------
    latents : (clip, frame, channel, height, width) of unit variance
    text_encoder : not changed
    empty : (1, token) tokens of the empty caption
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
    return unet, scheduler, history.losses


def _velocity_error(
    unet: UNet3DConditionModel, scheduler: Any, clean: torch.Tensor, times: torch.Tensor, states: torch.Tensor
) -> torch.Tensor:
    """Return the squared error of the velocity predicted for clean latents (clip, channel, frame, h, w) noised."""
    kept = scheduler.alphas_cumprod[times].view(-1, 1, 1, 1, 1)
    noise = torch.randn_like(clean)
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    return torch.nn.functional.mse_loss(unet(noisy, times, states).sample, velocity)
