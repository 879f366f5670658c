"""What the networks take that a study loads: extractors, captioners, judges and generators; see `models.footprint`.

They are built from their `config.json` alone, which need not lie beside any weights.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers as hf

from models.captioners.settings import BlipCaptionerConfig
from models.classifiers.settings import ClipFramesConfig, FrameClassifierConfig, VideoClassifierConfig
from models.extractors.diffusion import decode_pictures
from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, ExtractorConfig, LatentsConfig, TextConfig
from models.footprint import Footprint, trace
from models.generator.load import MotionDenoiser
from models.generator.settings import AnimateDiffConfig, GeneratorConfig
from models.weights.locate import settings_folder

ModelConfig = ExtractorConfig | BlipCaptionerConfig | ClipFramesConfig | FrameClassifierConfig | VideoClassifierConfig


@lru_cache
def of_model(config: ModelConfig, root: Path, tokens: int = 0) -> Footprint | None:
    """Return what an extractor takes for a stimulus, or a captioner or a judge for a batch; None without a network.

    Of a captioner's batch, of predictions of so many image `tokens`, all words are counted at once: at most so much.

    Raises
    ------
    ModelError
        The model is not here, and its settings are not known.
    """
    match config:
        case LatentsConfig():
            frames, vae = (config.frames, 3, config.height, config.width), settings_folder(config.weights, root, "vae")
            return trace(
                lambda: _of_diffusers(diffusers.AutoencoderKL, vae),
                lambda network: network.encode(torch.empty(frames)).latent_dist.mean.float(),
                computed=config.dtype,
            )
        case TextConfig():
            text = hf.CLIPTextConfig.from_pretrained(settings_folder(config.weights, root, "text_encoder"))
            return trace(
                lambda: hf.CLIPTextModel(text), lambda network: network(_ids(1, text))[0], computed=config.dtype
            )
        case ClipStatesConfig() | BlipStatesConfig():
            return _key_frames(config, settings_folder(config.weights, root))
        case BlipCaptionerConfig():
            return _captioner(config, settings_folder(config.weights, root), tokens)
        case ClipFramesConfig() | FrameClassifierConfig() | VideoClassifierConfig():
            return _judge(config, settings_folder(config.weights, root))
    return None


def _of_diffusers(cls: Any, folder: Path) -> torch.nn.Module:
    network: torch.nn.Module = cls.from_config(cls.load_config(folder))
    return network


def _ids(rows: int, settings: Any) -> torch.Tensor:
    """Return captions as a text encoder takes them, as long as they may be."""
    return torch.zeros(rows, settings.max_position_embeddings, dtype=torch.long)


def _pictures(settings: Any, *rows: int, size: int | None = None) -> torch.Tensor:
    return torch.empty(*rows, 3, size or settings.image_size, size or settings.image_size)


def _key_frames(config: ClipStatesConfig | BlipStatesConfig, folder: Path) -> Footprint:
    if isinstance(config, ClipStatesConfig):
        clip = hf.CLIPVisionConfig.from_pretrained(folder)
        cls = hf.CLIPVisionModelWithProjection if config.states == "pooled" else hf.CLIPVisionModel
        return trace(
            lambda: cls(clip),
            lambda network: network(pixel_values=_pictures(clip, config.frames))[0],
            computed=config.dtype,
        )
    blip = hf.BlipConfig.from_pretrained(folder)

    def look(network: Any) -> object:
        shown = _pictures(blip.vision_config, config.frames, size=config.image_size)
        return network(pixel_values=shown, interpolate_pos_encoding=True)[0]

    return trace(lambda: hf.BlipForConditionalGeneration(blip).vision_model, look, computed=config.dtype)


def _captioner(config: BlipCaptionerConfig, folder: Path, tokens: int) -> Footprint:
    settings, rows = hf.BlipConfig.from_pretrained(folder), config.batch * config.beams

    def write(decoder: Any) -> object:
        states = torch.empty(rows, tokens, settings.text_config.encoder_hidden_size)
        words = torch.zeros(rows, config.max_tokens, dtype=torch.long)
        mask = torch.ones(rows, tokens, dtype=torch.long)
        return decoder(input_ids=words, encoder_hidden_states=states, encoder_attention_mask=mask)

    return trace(lambda: hf.BlipForConditionalGeneration(settings).text_decoder, write, computed=config.dtype)


def _judge(config: ClipFramesConfig | FrameClassifierConfig | VideoClassifierConfig, folder: Path) -> Footprint:
    if isinstance(config, ClipFramesConfig):
        vision, text = hf.CLIPVisionConfig.from_pretrained(folder), hf.CLIPTextConfig.from_pretrained(folder)
        parts = (hf.CLIPVisionModelWithProjection, vision), (hf.CLIPTextModelWithProjection, text)
        return trace(
            lambda: torch.nn.ModuleList([cls(settings) for cls, settings in parts]),
            lambda both: both[0](pixel_values=_pictures(vision, config.batch))[0],
            lambda both: both[1](input_ids=_ids(config.batch, text))[0],
        )
    if isinstance(config, FrameClassifierConfig):
        vit = hf.ViTConfig.from_pretrained(folder)
        return trace(lambda: hf.ViTForImageClassification(vit), lambda one: one(_pictures(vit, config.batch))[0])
    mae = hf.VideoMAEConfig.from_pretrained(folder)
    mae.num_frames = config.frames or mae.num_frames
    shown = config.batch, mae.num_frames
    return trace(lambda: hf.VideoMAEForVideoClassification(mae), lambda one: one(_pictures(mae, *shown))[0])


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
