"""`configs/bold_moments.yaml` from end to end: the published classes and layouts, scaled down; at true clip size too.

Names and sizes of the weights are all that differs from the real run, and how many clips and voxels there are.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessorPil,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from core.clips import ClipConfig, read_clip
from core.files import read_json
from evaluation.config import CONTROLS_BY_NAME
from evaluation.statistics.scores import ROWS, TIME_ONLY
from feature_store import Store
from models.weights.locate import DOWNLOADED
from simulation.world import ATTRIBUTES, GRAMMAR, SimulationConfig
from simulation.write import simulate
from studies.stores.download import published_weights
from studies.study import Study, load_study
from zoo.settings import TextStage
from zoo.text_to_video import new_text_encoder, train_tokenizer

from .conftest import loop

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "bold_moments.yaml"
WORDS = sorted({word for of in ATTRIBUTES.values() for words in of for word in words.split()})
NORMAL = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
DATA = SimulationConfig(n_train=6, n_test=2, subjects=1, train_repeats=1, test_repeats=2, voxels=138, world="full")


def save_zeroscope(folder: Path) -> None:
    """Save what `cerspense/zeroscope_v2_576w` consists of: four levels, the last without attention, 77 tokens."""
    unet = UNet3DConditionModel(
        sample_size=32,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=16,
        attention_head_dim=1,
    )
    levels = 4
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(2,) * levels,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=512,
        scaling_factor=0.18215,
    )
    tokenizer = train_tokenizer([*GRAMMAR, " ".join(WORDS)], 77)
    encoder = new_text_encoder(TextStage(width=16, layers=1, tokens=77), tokenizer)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    parts = {"unet": unet, "vae": vae, "text_encoder": encoder, "tokenizer": tokenizer, "scheduler": scheduler}
    for name, part in parts.items():
        part.save_pretrained(folder / name)


def save_blip(folder: Path) -> None:
    """Save what `Salesforce/blip-image-captioning-base` consists of: patches of 16 on 384 pixels."""
    vocabulary = ["[PAD]", "[DEC]", "[SEP]", "[CLS]", "[UNK]", "[MASK]", *WORDS]
    text = {**SMALL, "vocab_size": len(vocabulary), "max_position_embeddings": 64}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    vision = {**SMALL, "image_size": 384, "patch_size": 16}
    config = BlipConfig(vision_config=vision, text_config={**text, **ids, "initializer_range": 0.5})
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 384, "width": 384}, **NORMAL).save_pretrained(folder)
    BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)}).save_pretrained(folder)


def save_clip(folder: Path) -> None:
    """Save what OpenAI's CLIPs consist of: patches of 14 or 32, as the folder's name has it, on 224 pixels."""
    vision = {**SMALL, "image_size": 224, "patch_size": int(folder.name[-2:]), "projection_dim": 12}
    text = {**SMALL, "vocab_size": 50, "max_position_embeddings": 77}
    text |= {"vocab_size": 600, "eos_token_id": 599, "projection_dim": 12}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=12)).save_pretrained(folder)
    train_tokenizer([*GRAMMAR, " ".join(WORDS)], 77).save_pretrained(folder)
    crop = {"height": 224, "width": 224}
    CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size=crop, **NORMAL).save_pretrained(folder)


def save_judges(weights: Path) -> None:
    """Save what the classifiers of frames and of videos consist of: 224 pixels in patches of 16, 16 frames."""
    settings = {**SMALL, "image_size": 224, "patch_size": 16, "num_labels": 60}
    vit = weights / "google" / "vit-base-patch16-224"
    videomae = weights / "MCG-NJU" / "videomae-base-finetuned-kinetics"
    ViTForImageClassification(ViTConfig(**settings)).save_pretrained(vit)
    ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(vit)
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1}
    VideoMAEForVideoClassification(VideoMAEConfig(**settings, **decoder)).save_pretrained(videomae)
    VideoMAEImageProcessorPil().save_pretrained(videomae)


TRUE_SIZE, SMALL_SIZE = (24, 320, 576), (6, 64, 96)
"""Frames, height and width: the study's own, and one that takes seconds."""


@pytest.fixture(params=[SMALL_SIZE, pytest.param(TRUE_SIZE, marks=pytest.mark.full)], ids=["small", "true size"])
def size(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    """Of the clips."""
    return tuple(request.param)


@pytest.fixture
def study(home: Path, size: tuple[int, int, int]) -> Study:
    """The study of the YAML, with weights where `brain2video download weights` puts them, and a small dataset."""
    torch.manual_seed(0)
    weights = home / DOWNLOADED
    save_zeroscope(weights / "cerspense" / "zeroscope_v2_576w")
    save_blip(weights / "Salesforce" / "blip-image-captioning-base")
    for name in ("clip-vit-large-patch14", "clip-vit-base-patch32"):
        save_clip(weights / "openai" / name)
    save_judges(weights)
    counts: dict[str, Any] = {"train": 6, "test": 2, "train_repeats": 1, "test_repeats": 2}
    quick = "{ridge: {}, mlp: {regressor: {kind: mlp, hidden: 8, steps: 4}}}"  # a head of components at the true size
    smaller = [f"source.counts={counts}", f"training.routes={quick}", "training.selection.validation=0.34"]
    if size != TRUE_SIZE:
        sizes = [f"{name}={value}" for name, value in zip(("frames", "height", "width"), size, strict=True)]
        smaller += [f"{of}.{setting}" for of in ("clips", "targets.latents") for setting in sizes]
        smaller += ["targets.blip.frames=6", "targets.clip.frames=6", "targets.pixels.frames=6"]
    loaded = load_study(CONFIG, [*smaller, "generator.dtype=float32", "generator.steps=2"])
    simulate(DATA, home / loaded.source.path)
    return loaded


def test_the_study_runs_from_recordings_to_videos(study: Study, home: Path, size: tuple[int, int, int]) -> None:
    made = loop(study)
    store = Store(study.store)
    shapes = {name: store.target(name).values("train")[0].shape[1:] for name in study.targets}
    frames, height, width = size
    assert shapes["latents"] == (frames, 4, height // 8, width // 8)
    assert shapes["blip"] == (226, 16)  # patches of 240 pixels, whatever the clips
    assert shapes["clip"] == (12,)
    folder = home / made.folder
    assert set(read_json(folder / "metrics.json")["rows"]) == set(ROWS) - {TIME_ONLY, *CONTROLS_BY_NAME}
    looked_at = read_json(folder / "metrics.json")["rows"]["oracle"]
    assert {"video_classes.published_50_way", "frame_classes.published_2_way"} <= set(looked_at)
    assert {"clip_frames.similarity", "caption_clip.clip_score", "frames.ssim_gaussian"} <= set(looked_at)
    claim = read_json(folder / "metrics.json")["protocols"]["clip_frames.consistency_adjacent"]
    assert claim.startswith("as published") if frames == 6 else claim.endswith(f"{frames} frames a clip instead of 6")
    captions = pd.read_csv(folder / "captions.csv", keep_default_na=False)
    assert len(captions) == 2
    assert set(" ".join(captions["decoded"]).split()) <= {*WORDS, "[", "]"}
    manifest = read_json(folder / "manifest.json")
    assert manifest["captioner"]["beams"] == 4
    video = next((folder / "videos").iterdir())
    as_made = ClipConfig(frames=frames, height=height, width=width, window_s=3.0)
    assert read_clip(video, as_made).shape == (frames, height, width, 3)


def test_the_weights_it_names_are_those_that_are_downloaded(home: Path) -> None:
    wanted = published_weights(load_study(CONFIG))
    assert set(wanted) == {
        "cerspense/zeroscope_v2_576w",
        "Salesforce/blip-image-captioning-base",
        "openai/clip-vit-large-patch14",
        "openai/clip-vit-base-patch32",
        "google/vit-base-patch16-224",
        "MCG-NJU/videomae-base-finetuned-kinetics",
    }
    assert "unet/*.safetensors" in wanted["cerspense/zeroscope_v2_576w"]
    assert "tokenizer.json" in wanted["Salesforce/blip-image-captioning-base"]
    assert "tokenizer.json" in wanted["openai/clip-vit-base-patch32"], "captions are compared with what was seen"
    assert "tokenizer.json" not in wanted["google/vit-base-patch16-224"]
