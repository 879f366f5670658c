"""Trains the small world's models one after the other, and writes them as one folder in the hub's layouts."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import ModelError
from core.files import staged_folder, write_json
from core.seeds import seed_for
from models.training.checkpoints import Checkpoints
from models.weights.load import without_bars
from zoo.models.config import ZooConfig
from zoo.models.corpus import Corpus, Draw
from zoo.models.text import Phrasings, tokens_of, train_text_encoder, train_tokenizer
from zoo.models.text_to_video import train_text_to_video
from zoo.models.vae import encode_frames, train_vae
from zoo.models.vision import TrainedVision, train_blip, train_clip

TEXT_TO_VIDEO, CLIP, BLIP = "text_to_video", "clip", "blip"
"""Folders of the zoo."""
TRAINING = "training.json"
"""Settings, steps, losses (means over parts of a stage) and versions of the libraries."""


def train_zoo(config: ZooConfig, draw: Draw, destination: Path, *, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train autoencoder, text encoder, denoiser, CLIP and BLIP, and publish them as one folder, or nothing at all.

    Equal settings give equal bytes on one machine with one number of threads, whether or not it was interrupted.
    Weights are rounded to float16 as soon as they are trained: later stages are trained on what is shipped.

    Parameters
    ----------
    config : ZooConfig
    draw : callable
        ``draw(n, seed)`` returns a corpus of n fresh clips.
    destination : Path
        The folder to write: `text_to_video` in the layout of a diffusers pipeline, `clip` and `blip` each with its
        files beside each other, `training.json`; replaced if it is there.
    checkpoints : Path, optional
        A folder for what an interrupted training goes on from.

    Returns
    -------
    dict
        What `training.json` holds.

    Raises
    ------
    ModelError
        The clips are not of a form that the models can halve as often as their settings say, a stage diverged, or the
        checkpoints are of other settings.
    """
    corpus = draw(config.clips, seed_for(config.seed, "zoo", "train"))
    _check(config, corpus)
    seed, kept = config.seed, checkpoints_of(config, corpus, checkpoints)
    with torch.random.fork_rng(devices=[]):
        tokenizer = train_tokenizer(corpus.every_caption, config.text.tokens)
        text_encoder, text_losses = train_text_encoder(config.text, tokenizer, corpus, seed, kept.of("corpus", "text"))
        vae = train_vae(config.vae, corpus.clips.reshape(-1, *corpus.clips.shape[2:]), seed, kept.of("corpus", "vae"))
        means = encode_frames(vae.vae, corpus.clips.reshape(-1, *corpus.clips.shape[2:]))
        latents = means.unflatten(0, corpus.clips.shape[:2]) * vae.vae.config.scaling_factor
        empty = tokens_of(tokenizer, [""])
        phrasings = Phrasings(tokenizer, corpus)
        known = kept.of("corpus", "text", "vae", "text_to_video")
        video = train_text_to_video(config.text_to_video, latents, phrasings, text_encoder, empty, seed, known)
        known = kept.of("corpus", "text", "clip")
        clip = train_clip(config.clip, config.text, tokenizer, text_encoder, corpus, seed, known)
        blip = train_blip(config.blip, corpus, config.text.tokens, seed, kept.of("corpus", "text", "blip"))
    losses = {"text": text_losses, "vae": vae.losses, "text_to_video": video.losses, **clip.losses, **blip.losses}
    summary = {
        "config": config.model_dump(mode="json"),
        "losses": {stage: _thinned(values) for stage, values in losses.items()},
        "steps": {stage: len(values) for stage, values in losses.items()},
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "threads": torch.get_num_threads(),
    }
    pipeline: dict[str, tuple[str, Any]] = {
        "vae": ("diffusers", vae.vae),
        "unet": ("diffusers", video.unet),
        "scheduler": ("diffusers", video.scheduler),
        "text_encoder": ("transformers", text_encoder),
        "tokenizer": ("transformers", tokenizer),
    }
    made = {f"{TEXT_TO_VIDEO}/{name}": part for name, (_, part) in pipeline.items()}
    made.update({CLIP: clip.model, BLIP: blip.model})
    summary["parts"] = {name: _described(part) for name, part in made.items()}
    with staged_folder(destination) as folder, without_bars():
        _write_pipeline(folder / TEXT_TO_VIDEO, pipeline)
        _write_vision(folder / CLIP, clip)
        _write_vision(folder / BLIP, blip)
        write_json(folder / TRAINING, summary)
    return summary


def checkpoints_of(config: ZooConfig, corpus: Corpus, folder: Path | None) -> Checkpoints:
    """Return where the stages keep what they go on from, each known by the settings it is made from."""
    drawn = {"seed": config.seed, "clips": config.clips, "shape": list(corpus.clips.shape)}
    stages = config.model_dump(mode="json", exclude={"seed", "clips", "checkpoint_every"})
    return Checkpoints(folder, config.checkpoint_every, {"corpus": drawn, **stages})


def _check(config: ZooConfig, corpus: Corpus) -> None:
    halvings = len(config.vae.widths) + len(config.text_to_video.widths) - 2
    height, width = corpus.clips.shape[2:4]
    if height != width or height % 2**halvings:
        raise ModelError(
            f"train-zoo: clips are {height} × {width}; the models halve them {halvings} times, "
            f"so they must be square with a side that {2**halvings} divides"
        )
    for name, stage in (("clip", config.clip), ("blip", config.blip)):
        if height % stage.patch:
            raise ModelError(f"train-zoo: {name}.patch is {stage.patch}, which does not divide a side of {height}")


def _described(part: Any) -> dict[str, Any]:
    weights = sum(weight.numel() for weight in part.parameters()) if isinstance(part, torch.nn.Module) else 0
    return {"class": type(part).__name__, "weights": weights}


def _thinned(losses: list[float], most: int = 200) -> list[float]:
    """Return a curve as at most so many means over equal parts."""
    return [round(float(part.mean()), 5) for part in np.array_split(np.asarray(losses), min(most, len(losses)))]


def _write_pipeline(folder: Path, parts: dict[str, tuple[str, Any]]) -> None:
    index = {name: [library, type(part).__name__] for name, (library, part) in parts.items()}
    for name, (_, part) in parts.items():
        (part.half() if isinstance(part, torch.nn.Module) else part).save_pretrained(folder / name)
    write_json(
        folder / "model_index.json",
        {"_class_name": "TextToVideoSDPipeline", "_diffusers_version": version("diffusers"), **index},
    )


def _write_vision(folder: Path, trained: TrainedVision) -> None:
    trained.model.half().save_pretrained(folder)
    for beside in trained.beside:
        beside.save_pretrained(folder)
