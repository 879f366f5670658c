"""Trains the small world's own models, autoencoder first, and writes them as one folder in the hub's layout."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import ModelError
from core.files import staged_folder, write_bytes, write_json
from core.seeds import seed_for
from models.extractors.weights import without_bars
from models.generator.config import ZooConfig
from models.generator.zoo_text_to_video import TrainedTextToVideo, train_text_to_video
from models.generator.zoo_vae import TrainedVae, encode_frames, reconstruction_psnr, train_vae

Draw = Callable[[int, int], tuple[NDArray[np.uint8], list[str]]]
"""Gives n fresh clips (n, frame, height, width, 3) and one caption each, from n and a seed."""

CARD = """---
library_name: diffusers
license: apache-2.0
pipeline_tag: text-to-video
---
# The small world's text-to-video model

Clips of {frames} frames, {height} × {width} pixels, of one coloured shape that moves over a background, from a caption.
Trained from nothing on {clips} drawn clips with `brain2video train-zoo`, so that Brain2Video can be tried and tested
without a download. It knows nothing else of the world and is good for nothing else.

| part | class |
|---|---|
| `vae` | AutoencoderKL, {latents} latents a frame, held-out PSNR {psnr:.1f} dB |
| `unet` | UNet3DConditionModel, velocity prediction, {weights:,} weights |
| `text_encoder`, `tokenizer` | CLIPTextModel and CLIPTokenizer, {vocabulary} tokens, trained with the denoiser |
| `scheduler` | DPMSolverMultistepScheduler |

An example of a caption: "{caption}". Settings, steps and losses: `training.json`.
"""


def train_zoo(config: ZooConfig, draw: Draw, destination: Path) -> dict[str, Any]:
    """Train the autoencoder, the text encoder and the denoiser, and publish them as one folder, or nothing at all.

    Equal settings give equal bytes on one machine with one number of threads.

    Parameters
    ----------
    config : ZooConfig
    draw : callable
        ``draw(n, seed)`` returns clips uint8 (n, frame, height, width, 3) and n captions; called for the training
        clips and for the held-out ones, with different seeds.
    destination : Path
        The folder to write, in the hub's layout, with a model card and `training.json`; replaced if it is there.

    Returns
    -------
    dict
        What `training.json` holds: settings, losses by stage, `psnr_db` of held-out frames, versions.

    Raises
    ------
    ModelError
        The clips are not of a form that the autoencoder can halve as often as its settings say.
    """
    clips, captions = draw(config.clips, seed_for(config.seed, "zoo", "train"))
    held_out, _ = draw(config.held_out, seed_for(config.seed, "zoo", "held out"))
    _check(config, clips, captions)
    with torch.random.fork_rng(devices=[]):
        trained_vae = train_vae(config.vae, clips.reshape(-1, *clips.shape[2:]), config.seed)
        latents = _latents(trained_vae, clips)
        trained = train_text_to_video(config.text_to_video, latents, captions, config.seed)
    summary = {
        "config": config.model_dump(mode="json"),
        "losses": {"vae": trained_vae.losses, **trained.losses},
        "psnr_db": reconstruction_psnr(trained_vae.vae, held_out.reshape(-1, *held_out.shape[2:])),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    card = CARD.format(
        frames=clips.shape[1],
        height=clips.shape[2],
        width=clips.shape[3],
        clips=len(clips),
        latents=" × ".join(map(str, latents.shape[2:])),
        psnr=summary["psnr_db"],
        weights=sum(weight.numel() for weight in trained.unet.parameters()),
        vocabulary=len(trained.tokenizer),
        caption=captions[0],
    )
    _publish(destination, trained_vae, trained, summary, card)
    return summary


def _check(config: ZooConfig, clips: NDArray[np.uint8], captions: list[str]) -> None:
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3 or len(clips) != len(captions):
        raise ModelError(
            f"train-zoo: expected clips as uint8 (n, frame, height, width, 3) with n captions, found {clips.dtype} "
            f"{clips.shape} with {len(captions)} captions"
        )
    halvings = len(config.vae.widths) + len(config.text_to_video.widths) - 2
    height, width = clips.shape[2:4]
    if height != width or height % 2**halvings:
        raise ModelError(
            f"train-zoo: clips are {height} × {width}; the models halve them {halvings} times, "
            f"so they must be square with a side that {2**halvings} divides"
        )


def _latents(trained: TrainedVae, clips: NDArray[np.uint8]) -> torch.Tensor:
    means = encode_frames(trained.vae, clips.reshape(-1, *clips.shape[2:]))
    return means.unflatten(0, clips.shape[:2]) * trained.vae.config.scaling_factor


def _publish(
    destination: Path, trained_vae: TrainedVae, trained: TrainedTextToVideo, summary: dict[str, Any], card: str
) -> None:
    parts = {
        "vae": ("diffusers", trained_vae.vae),
        "unet": ("diffusers", trained.unet),
        "scheduler": ("diffusers", trained.scheduler),
        "text_encoder": ("transformers", trained.text_encoder),
        "tokenizer": ("transformers", trained.tokenizer),
    }
    index = {name: [library, type(part).__name__] for name, (library, part) in parts.items()}
    with staged_folder(destination) as folder, without_bars():
        for name, (_, part) in parts.items():
            part.save_pretrained(folder / name)
        write_json(
            folder / "model_index.json",
            {"_class_name": "TextToVideoSDPipeline", "_diffusers_version": version("diffusers"), **index},
        )
        write_json(folder / "training.json", summary)
        write_bytes(folder / "README.md", card.encode())
