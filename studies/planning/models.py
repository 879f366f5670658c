"""What the plan knows of models without loading any: bytes of their files, shapes of what they give, what they compute.

Shapes and sizes are read from a model's own `config.json` where its folder is here. What is not here is declared below,
for the weights that the shipped studies name. Bytes of the hub's files are the hub's own figures or, to the byte, the
parameters of the architecture times the bytes of the published type (they agree to the hub's three digits);
`brain2video download weights --dry-run` asks the hub itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.checkout import project_root
from core.config import nearest
from core.errors import ConfigError
from core.files import read_json
from feature_store.sources.base import Source
from models.extractors.settings import (
    BlipStatesConfig,
    ClipStatesConfig,
    ExtractorConfig,
    GivenConfig,
    LatentsConfig,
    PixelsConfig,
    TextConfig,
)
from models.weights.download import choose
from models.weights.locate import DOWNLOADED
from studies.stores.download import published_weights
from studies.study import Study

Settings = dict[str, Any]

ZEROSCOPE, BLIP, CLIP, VIT, VIDEO_MAE = (
    "cerspense/zeroscope_v2_576w",
    "Salesforce/blip-image-captioning-base",
    "openai/clip-vit-large-patch14",
    "google/vit-base-patch16-224",
    "MCG-NJU/videomae-base-finetuned-kinetics",
)
FILES: dict[str, dict[str, int]] = {
    ZEROSCOPE: {
        "vae/diffusion_pytorch_model.bin": 2 * 83_653_863,
        "unet/diffusion_pytorch_model.bin": 2 * 1_411_233_860,
        "text_encoder/pytorch_model.bin": 2 * 340_387_840,
    },
    BLIP: {"model.safetensors": 4 * 247_414_076},
    CLIP: {"model.safetensors": 4 * 427_616_513},
    VIT: {"model.safetensors": 4 * 86_567_656},
    VIDEO_MAE: {"model.safetensors": 4 * 86_534_800},
}
"""Weights on the hub, in bytes; settings and vocabularies beside them, some megabytes at most, are not counted."""

_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 16}
DECLARED: dict[str, dict[str, Settings]] = {
    ZEROSCOPE: {
        "vae": {"latent_channels": 4, "block_out_channels": [128, 256, 512, 512]},
        "text_encoder": {"max_position_embeddings": 77, "hidden_size": 1024},
    },
    BLIP: {"vision_config": {**_BASE, "image_size": 384}},
    CLIP: {
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "patch_size": 14,
            "image_size": 224,
            "projection_dim": 768,
        }
    },
    VIT: {"vision_config": {**_BASE, "image_size": 224}},
    VIDEO_MAE: {"vision_config": {**_BASE, "image_size": 224}},
}
"""What of the published models' settings decides the shape of what they give, and how much they compute."""

UNET_AT = (24, 40, 72)
UNET_FLOPS = 21.395e12
"""One forward of zeroscope's denoiser (1,411 M parameters) for one clip at these latents."""
SMALL_UNET_AT, SMALL_UNET_FLOPS = (8, 8, 8), 0.728e9
"""The same of the small world's (1.8 M parameters)."""
ENCODE_FLOPS, DECODE_FLOPS = 777.98e9 / (320 * 576), 1760.8e9 / (320 * 576)
"""Of Stable Diffusion's autoencoder (83.7 M parameters), for each pixel of a frame."""
SMALL_ENCODE_FLOPS, SMALL_DECODE_FLOPS = 96.6e6 / 32**2, 240.0e6 / 32**2
"""Of the small world's. All counted by torch's `FlopCounterMode` on the architectures, two for a multiply-add."""
SMALL_WIDTH = 64
"""An autoencoder whose widest block is this narrow counts as one of the small world's size."""


@dataclass(frozen=True)
class Weights:
    """Weights that a study names and that are to be fetched.

    Attributes
    ----------
    name : on the hub
    size : bytes of the files that are read, None where the plan knows no such model
    there : whether they lie in `data/weights`
    pickled : whether the model has pickled weights alone, so that fetching needs `--allow-pickled`
    """

    name: str
    size: int | None
    there: bool
    pickled: bool


def weights_of(study: Study) -> list[Weights]:
    """Return the hub's models that a study names, with what is known of their size; nothing is asked of the hub."""
    made = []
    for name, wanted in published_weights(study).items():
        there = (project_root() / DOWNLOADED / name).is_dir()
        files, pickled = choose(name, FILES[name], wanted) if name in FILES else ({}, [])
        made.append(Weights(name, sum(files.values()) if files else None, there, bool(pickled)))
    return made


def settings_of(weights: str, part: str) -> Settings:
    """Return a model's settings: a part of a pipeline's folder (``"vae"``), or a section of its `config.json`.

    Raises
    ------
    ConfigError
        The weights are not here, and the plan knows nothing of a model of that name.
    """
    for folder in (
        project_root() / weights,
        project_root() / DOWNLOADED / weights,
        Path(__file__).parents[2] / weights,
    ):
        for file in (folder / part / "config.json", folder / "config.json"):
            if file.is_file():
                content: Settings = read_json(file)
                found: Settings = content.get(part, content)
                return found
    if part in DECLARED.get(weights, {}):
        return DECLARED[weights][part]
    raise ConfigError(
        f"{weights}: these weights are not here, and the plan knows only {', '.join(DECLARED)}"
        f"{nearest(weights, list(DECLARED))}; fetch them with 'brain2video download weights', or name others"
    )


def target_shape(study: Study, name: str, source: Source | None) -> tuple[tuple[int, ...], str]:
    """Return the shape of one stimulus's values of a target, and their type; raises as `settings_of`."""
    config = study.targets[name]
    if isinstance(config, GivenConfig):
        values = None if source is None else source.target(config.file or name)
        if values is None:
            raise ConfigError(
                f"targets.{name}: embeddings made elsewhere ('given'), and their file is not here to tell their shape; "
                "set source.path to the folder that has it, or leave the target out with --set"
            )
        return tuple(values.shape[1:]), "float32"
    return _made_shape(config), "float16"


def _made_shape(config: ExtractorConfig) -> tuple[int, ...]:
    if isinstance(config, PixelsConfig):
        return (config.frames, 3 if config.channels == "rgb" else 1, config.height, config.width)
    if isinstance(config, LatentsConfig):
        vae = settings_of(config.weights, "vae")
        shrink = 2 ** (len(vae["block_out_channels"]) - 1)
        return (config.frames, vae["latent_channels"], config.height // shrink, config.width // shrink)
    if isinstance(config, TextConfig):
        text = settings_of(config.weights, "text_encoder")
        return (text["max_position_embeddings"], text["hidden_size"])
    assert isinstance(config, ClipStatesConfig | BlipStatesConfig)
    vision = settings_of(config.weights, "vision_config")
    tokens, width = _tokens(vision, config.image_size if isinstance(config, BlipStatesConfig) else None)
    if isinstance(config, ClipStatesConfig) and config.states == "pooled":
        tokens, width = 1, vision["projection_dim"]
        return (config.frames, width) if config.over_frames == "concatenate" else (width,)
    return (tokens * (config.frames if config.over_frames == "concatenate" else 1), width)


def _tokens(vision: Settings, size: int | None) -> tuple[int, int]:
    return ((size or vision["image_size"]) // vision["patch_size"]) ** 2 + 1, int(vision["hidden_size"])


def transformer_flops(tokens: int, width: int, layers: int, inner: int) -> float:
    """Return the products of one forward of a transformer: projections, feed-forward and attention."""
    return 2.0 * tokens * layers * (4 * width**2 + 2 * width * inner) + 4.0 * tokens**2 * width * layers


def vision_flops(weights: str, image_size: int | None = None) -> float:
    """Return what a vision transformer computes for one picture."""
    vision = settings_of(weights, "vision_config")
    tokens, width = _tokens(vision, image_size)
    return transformer_flops(tokens, width, vision["num_hidden_layers"], vision.get("intermediate_size", 4 * width))


def extract_flops(config: ExtractorConfig) -> float:
    """Return what an extractor computes for one stimulus."""
    if isinstance(config, LatentsConfig):
        return _encode(config.weights) * config.frames * config.height * config.width
    if isinstance(config, ClipStatesConfig):
        return config.frames * vision_flops(config.weights)
    if isinstance(config, BlipStatesConfig):
        return config.frames * vision_flops(config.weights, config.image_size)
    if isinstance(config, TextConfig):
        text = settings_of(config.weights, "text_encoder")
        width = int(text["hidden_size"])
        return 5 * transformer_flops(
            text["max_position_embeddings"], width, text.get("num_hidden_layers", 23), 4 * width
        )
    return 0.0


def _is_small(weights: str) -> bool:
    return bool(max(settings_of(weights, "vae")["block_out_channels"]) <= SMALL_WIDTH)


def _encode(weights: str) -> float:
    return SMALL_ENCODE_FLOPS if _is_small(weights) else ENCODE_FLOPS


def decode_flops(weights: str) -> float:
    """Return what an autoencoder computes to decode one pixel of a frame."""
    return SMALL_DECODE_FLOPS if _is_small(weights) else DECODE_FLOPS


def denoise_flops(weights: str, latents: tuple[int, ...]) -> float:
    """Return what one forward of a text-to-video denoiser computes for one clip of latents (frame, channel, h, w).

    Scaled from a size that was counted by the number of places; a denoiser of another make is taken for zeroscope's.
    """
    counted, at = (SMALL_UNET_FLOPS, SMALL_UNET_AT) if _is_small(weights) else (UNET_FLOPS, UNET_AT)
    return counted * float(np.prod([latents[0], *latents[2:]])) / float(np.prod(at))
