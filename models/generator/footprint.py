"""What the networks take that a study loads: extractors, captioners, judges and generators; see `models.footprint`.

They are built from their `config.json` alone, which need not lie beside any weights.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers as hf

from models.captioners.settings import BlipCaptionerConfig
from models.classifiers.settings import ClipFramesConfig, FrameClassifierConfig, VideoClassifierConfig
from models.extractors.diffusion import decode_pictures
from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, ExtractorConfig, LatentsConfig, TextConfig
from models.footprint import Footprint, Run, trace
from models.generator.load import MotionDenoiser
from models.generator.settings import AnimateDiffConfig, GeneratorConfig
from models.weights.locate import settings_folder

JudgeConfig = ClipFramesConfig | FrameClassifierConfig | VideoClassifierConfig
ModelConfig = ExtractorConfig | BlipCaptionerConfig | JudgeConfig
Traced = tuple[Callable[[], torch.nn.Module], *tuple[Run, ...]]
"""What builds a network, and what is done with it."""


@lru_cache
def of_model(config: ModelConfig, root: Path, tokens: int = 0) -> Footprint | None:
    """Return what an extractor takes for a stimulus, or a captioner or a judge for a batch; None without a network.

    Of a captioner's batch, of predictions of so many image `tokens`, all words are counted at once: at most so much.

    Raises
    ------
    ModelError
        The model is not here, and its settings are not known.
    """
    where = partial(settings_folder, getattr(config, "weights", ""), root)
    match config:
        case LatentsConfig():
            traced = _latents(config, where("vae"))
        case TextConfig():
            text = hf.CLIPTextConfig.from_pretrained(where("text_encoder"))
            traced = lambda: hf.CLIPTextModel(text), lambda network: network(_ids(1, text))[0]
        case ClipStatesConfig():
            traced = _clip_states(config, hf.CLIPVisionConfig.from_pretrained(where()))
        case BlipStatesConfig():
            traced = _blip_states(config, hf.BlipConfig.from_pretrained(where()))
        case BlipCaptionerConfig():
            traced = _captioner(config, hf.BlipConfig.from_pretrained(where()), tokens)
        case ClipFramesConfig() | FrameClassifierConfig() | VideoClassifierConfig():
            traced = _judge(config, where())
        case _:
            return None
    return trace(*traced, computed=getattr(config, "dtype", "float32"))


def _of_diffusers(cls: Any, folder: Path) -> torch.nn.Module:
    network: torch.nn.Module = cls.from_config(cls.load_config(folder))
    return network


def _ids(rows: int, settings: Any) -> torch.Tensor:
    """Return captions as a text encoder takes them, as long as they may be."""
    return torch.zeros(rows, settings.max_position_embeddings, dtype=torch.long)


def _pictures(settings: Any, *rows: int, size: int | None = None) -> torch.Tensor:
    return torch.empty(*rows, 3, size or settings.image_size, size or settings.image_size)


def _latents(config: LatentsConfig, folder: Path) -> Traced:
    def encode(vae: Any) -> object:
        return vae.encode(torch.empty(config.frames, 3, config.height, config.width)).latent_dist.mean.float()

    return lambda: _of_diffusers(diffusers.AutoencoderKL, folder), encode


def _clip_states(config: ClipStatesConfig, settings: Any) -> Traced:
    cls = hf.CLIPVisionModelWithProjection if config.states == "pooled" else hf.CLIPVisionModel
    return lambda: cls(settings), lambda network: network(pixel_values=_pictures(settings, config.frames))[0]


def _blip_states(config: BlipStatesConfig, settings: Any) -> Traced:
    def look(network: Any) -> object:
        frames = _pictures(settings.vision_config, config.frames, size=config.image_size)
        return network(pixel_values=frames, interpolate_pos_encoding=True)[0]

    return lambda: hf.BlipForConditionalGeneration(settings).vision_model, look


def _captioner(config: BlipCaptionerConfig, settings: Any, tokens: int) -> Traced:
    rows = config.batch * config.beams

    def write(decoder: Any) -> object:
        states = torch.empty(rows, tokens, settings.text_config.encoder_hidden_size)
        words = torch.zeros(rows, config.max_tokens, dtype=torch.long)
        mask = torch.ones(rows, tokens, dtype=torch.long)
        return decoder(input_ids=words, encoder_hidden_states=states, encoder_attention_mask=mask)

    return lambda: hf.BlipForConditionalGeneration(settings).text_decoder, write


def _judge(config: JudgeConfig, folder: Path) -> Traced:
    if isinstance(config, ClipFramesConfig):
        vision, text = hf.CLIPVisionConfig.from_pretrained(folder), hf.CLIPTextConfig.from_pretrained(folder)
        return (
            lambda: torch.nn.ModuleList(
                [hf.CLIPVisionModelWithProjection(vision), hf.CLIPTextModelWithProjection(text)]
            ),
            lambda both: both[0](pixel_values=_pictures(vision, config.batch))[0],
            lambda both: both[1](input_ids=_ids(config.batch, text))[0],
        )
    if isinstance(config, FrameClassifierConfig):
        vit = hf.ViTConfig.from_pretrained(folder)
        return lambda: hf.ViTForImageClassification(vit), lambda judge: judge(_pictures(vit, config.batch))[0]
    mae = hf.VideoMAEConfig.from_pretrained(folder)
    mae.num_frames = config.frames or mae.num_frames
    rows = config.batch, mae.num_frames
    return lambda: hf.VideoMAEForVideoClassification(mae), lambda judge: judge(_pictures(mae, *rows))[0]


@lru_cache
def of_generator(config: GeneratorConfig, root: Path, latents: tuple[int, ...], clips: int) -> Footprint:
    """Return what a generator takes for so many clips of latents (frame, channel, height, width), rendered together.

    Raises
    ------
    ModelError
        The weights are not here, and their settings are not known.
    """
    folder, dtype = settings_folder(config.weights, root, "unet").parent, getattr(torch, config.dtype)
    text, twice = hf.CLIPTextConfig.from_pretrained(folder / "text_encoder"), 2 if config.guidance > 1 else 1

    def build() -> torch.nn.Module:
        vae = _of_diffusers(diffusers.AutoencoderKL, folder / "vae")
        parts = {"text": hf.CLIPTextModel(text), "vae": vae, "unet": _denoiser(config, root, folder / "unet")}
        return torch.nn.ModuleDict(parts)

    def denoise(parts: Any) -> object:
        current = torch.empty(clips, latents[1], latents[0], *latents[2:], dtype=dtype)
        states = torch.cat([parts["text"](_ids(clips, text))[0]] * twice)
        return parts["unet"](torch.cat([current] * twice), torch.tensor(1), states).sample

    def decode(parts: Any) -> object:
        return decode_pictures(parts["vae"], torch.empty(latents, dtype=dtype), config.decoded)

    return trace(build, denoise, decode, dtype=config.dtype)


def _denoiser(config: GeneratorConfig, root: Path, folder: Path) -> torch.nn.Module:
    if not isinstance(config, AnimateDiffConfig):
        return _of_diffusers(diffusers.UNet3DConditionModel, folder)
    adapter = _of_diffusers(diffusers.MotionAdapter, settings_folder(config.motion, root))
    adapter.to = lambda **_: adapter  # weights without values cannot be moved, nor need they be
    base = _of_diffusers(diffusers.UNet2DConditionModel, folder)
    return MotionDenoiser(diffusers.UNetMotionModel.from_unet2d(base, adapter, load_weights=False))
