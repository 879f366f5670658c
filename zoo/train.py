"""Trains the small world's own models on freshly drawn clips that no study shows, and publishes them as one folder."""

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.checkout import project_root
from core.code import code_digest
from core.errors import ModelError
from core.files import digest_json, publish_folder, read_json, staged_folder, write_bytes, write_json
from core.seeds import seed_for
from models.training.checkpoints import Checkpoints
from models.weights.load import without_bars
from zoo.card import curves_png, model_card
from zoo.corpus import Corpus, Draw, train_judge
from zoo.score import score_zoo
from zoo.settings import BLIP, CLIP, JUDGE, TEXT_TO_VIDEO, SmallWorldConfig, ZooConfig
from zoo.text_to_video import (
    Phrasings,
    encode_frames,
    tokens_of,
    train_text_encoder,
    train_text_to_video,
    train_tokenizer,
    train_vae,
)
from zoo.vision import TrainedVision, train_blip, train_clip

STAMP = "made_from.json"
CARD, PICTURES = "README.md", "pictures"
TRAINING = "training.json"
"""Settings, steps, losses (means over parts of a stage) and versions of the libraries."""


def train_zoo(config: SmallWorldConfig, destination: Path) -> Path:
    """Train the models and their judge, score them, and publish all as one folder, unless it is there already.

    The clips come from the pool of combinations that neither training nor test stimuli of any study use; the scores
    from the pool of test stimuli. What is half done lies in a folder beside the destination; run again, it goes on.

    Raises
    ------
    ModelError
        The destination holds something that this did not train, which is never replaced, or a stage cannot be trained.
    """
    fingerprint = fingerprint_of(config)
    if _is_there(destination, fingerprint):
        return destination
    _check_replaceable(destination)
    work = destination.with_name(f".{destination.name}.training")
    made, checkpoints = work / "models", work / "checkpoints"
    train_models(config.zoo, lambda n, seed: config.draw("zoo", n, seed), made, checkpoints=checkpoints)
    shown = config.draw("zoo", config.judge.clips, seed_for(config.judge.seed, "judge", "clips"))
    train_judge(config.judge, shown.clips, shown.labels, shown.attributes).save(made / JUDGE)
    score(config, made)
    write_json(made / STAMP, {"fingerprint": fingerprint, "settings": config.model_dump(mode="json")})
    publish_folder(made, destination)
    shutil.rmtree(work)
    return destination


def fingerprint_of(config: SmallWorldConfig) -> str:
    """Return the digest of the settings and of the code that the models are made by."""
    code = code_digest(train_zoo)
    return digest_json({"settings": config.model_dump(mode="json"), "code": code})


def _is_there(destination: Path, fingerprint: str) -> bool:
    stamp = destination / STAMP
    return stamp.is_file() and bool(read_json(stamp)["fingerprint"] == fingerprint)


def _check_replaceable(destination: Path) -> None:
    if destination.exists() and not destination.is_dir():
        raise ModelError(f"{destination}: is a file; name a folder for the models")
    if project_root().is_relative_to(destination.resolve()) or (
        destination.exists() and not (destination / STAMP).is_file() and any(destination.iterdir())
    ):
        raise ModelError(
            f"{destination}: holds something that was not trained here, which is never replaced; name another folder"
        )


def score(config: SmallWorldConfig, folder: Path, pictures: Path | None = None) -> dict[str, Any]:
    """Judge the models of a folder; scores and model card go into it, the contact sheets into `pictures`.

    Raises `ModelError`: the folder lacks a model, or one is damaged.
    """
    pictures = folder / PICTURES if pictures is None else pictures
    if not (folder / TRAINING).is_file():
        raise ModelError(f"{folder}: holds no {TRAINING}; name a folder that 'python -m zoo train' made")
    training, scores = read_json(folder / TRAINING), score_zoo(config, folder, pictures)
    write_bytes(pictures / "curves.png", curves_png(training["losses"]))
    there = os.path.relpath(pictures.resolve(), folder.resolve())
    write_bytes(folder / CARD, model_card(config, training, scores, there).encode())
    return scores


def train_models(
    config: ZooConfig, draw: Draw, destination: Path, *, checkpoints: Path | None = None
) -> dict[str, Any]:
    """Train autoencoder, text encoder, denoiser, CLIP and BLIP, and publish them as one folder, or nothing at all.

    Equal settings give equal bytes on one machine with one number of threads, whether or not it was interrupted.
    Weights are rounded to float16 as soon as they are trained: later stages are trained on what is shipped.

    Parameters
    ----------
    draw : ``draw(n, seed)`` returns a corpus of n fresh clips
    destination : the folder to write: `text_to_video` in the layout of a diffusers pipeline, `clip` and `blip` each
        with its files beside each other, `training.json`; replaced if it is there
    checkpoints : a folder for what an interrupted training goes on from

    Returns
    -------
    dict
        What `training.json` holds.

    Raises
    ------
    ModelError
        The clips are not of a form that the models can halve as often as their settings ask, a stage diverged, or the
        checkpoints are of other settings.
    """
    corpus = draw(config.clips, seed_for(config.seed, "zoo", "train"))
    _check_sizes(config, corpus)
    seed, kept = config.seed, checkpoints_of(config, corpus, checkpoints)
    with torch.random.fork_rng(devices=[]):
        tokenizer = train_tokenizer(corpus.every_caption, config.text.tokens)
        text_encoder, text_losses = train_text_encoder(config.text, tokenizer, corpus, seed, kept.of("corpus", "text"))
        frames = corpus.clips.reshape(-1, *corpus.clips.shape[2:])
        vae, vae_losses = train_vae(config.vae, frames, seed, kept.of("corpus", "vae"))
        means = encode_frames(vae, frames)
        latents = means.unflatten(0, corpus.clips.shape[:2]) * vae.config.scaling_factor
        empty = tokens_of(tokenizer, [""])
        phrasings = Phrasings(tokenizer, corpus)
        known = kept.of("corpus", "text", "vae", "text_to_video")
        video = config.text_to_video
        unet, scheduler, video_losses = train_text_to_video(video, latents, phrasings, text_encoder, empty, seed, known)
        known = kept.of("corpus", "text", "clip")
        clip = train_clip(config.clip, config.text, tokenizer, text_encoder, corpus, seed, known)
        blip = train_blip(config.blip, corpus, config.text.tokens, seed, kept.of("corpus", "text", "blip"))
    losses = {"text": text_losses, "vae": vae_losses, "text_to_video": video_losses, **clip.losses, **blip.losses}
    summary = {
        "config": config.model_dump(mode="json"),
        "losses": {stage: _thinned(values) for stage, values in losses.items()},
        "steps": {stage: len(values) for stage, values in losses.items()},
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "threads": torch.get_num_threads(),
    }
    pipeline: dict[str, tuple[str, Any]] = {
        "vae": ("diffusers", vae),
        "unet": ("diffusers", unet),
        "scheduler": ("diffusers", scheduler),
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


def _check_sizes(config: ZooConfig, corpus: Corpus) -> None:
    halvings = len(config.vae.widths) + len(config.text_to_video.widths) - 2
    height, width = corpus.clips.shape[2:4]
    if height != width or height % 2**halvings:
        raise ModelError(
            f"zoo: clips are {height} × {width}; the models halve them {halvings} times, "
            f"so they must be square with a side that {2**halvings} divides"
        )
    for name, stage in (("clip", config.clip), ("blip", config.blip)):
        if height % stage.patch:
            raise ModelError(f"zoo: {name}.patch is {stage.patch}, which does not divide a side of {height}")


def _described(part: Any) -> dict[str, Any]:
    weights = sum(weight.numel() for weight in part.parameters()) if isinstance(part, torch.nn.Module) else 0
    return {"class": type(part).__name__, "weights": weights}


def _thinned(losses: list[float], max_points: int = 200) -> list[float]:
    """Return a curve as the means over at most `max_points` equal parts."""
    return [round(float(part.mean()), 5) for part in np.array_split(np.asarray(losses), min(max_points, len(losses)))]


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
