"""A second family of generators behind the same interface: equal to diffusers' own pipeline on tiny random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AnimateDiffVideoToVideoPipeline,
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
)

from core.errors import ModelError
from models.extractors.settings import LatentsConfig
from models.generator.base import LatentDiffusion, renoise_and_denoise
from models.generator.footprint import of_generator
from models.generator.settings import AnimateDiffConfig, TextToVideoConfig
from zoo.settings import TextStage
from zoo.text_to_video import new_text_encoder, train_tokenizer

CAPTIONS = ["a red circle", "a blue square moving left"]
WIDTHS = (8, 16)


def adapter_of(widths: tuple[int, ...]) -> MotionAdapter:
    """Return an untrained motion adapter whose layers do something."""
    adapter = MotionAdapter(
        block_out_channels=widths,
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=8,
        use_motion_mid_block=True,
    )
    for weight in adapter.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    return adapter


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of Stable Diffusion's form in `base`, a motion adapter in `motion`, another in `other`."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    stage = TextStage(width=16, layers=1, tokens=10)
    tokenizer = train_tokenizer(CAPTIONS, stage.tokens)
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=WIDTHS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=False, steps_offset=1)
    encoder = new_text_encoder(stage, tokenizer)
    parts = {"unet": unet, "vae": vae, "scheduler": scheduler, "text_encoder": encoder, "tokenizer": tokenizer}
    for name, part in parts.items():
        part.save_pretrained(folder / "base" / name)
    adapter_of(WIDTHS).save_pretrained(folder / "motion")
    adapter_of((16, 16)).save_pretrained(folder / "other")
    return folder


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 3, 4, 4, 4)).astype(np.float32)


def build(root: Path, **settings: object) -> LatentDiffusion:
    content = {"kind": "animatediff", "weights": "base", "motion": "motion", "steps": 6, **settings}
    generator = AnimateDiffConfig.model_validate(content).build(root)
    assert isinstance(generator, LatentDiffusion)
    return generator


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_equals_diffusers_pipeline_on_one_clip(root: Path, z: np.ndarray, guidance: float):
    g = build(root)
    base = UNet2DConditionModel.from_pretrained(root / "base" / "unet")
    adapter = MotionAdapter.from_pretrained(root / "motion")
    pipeline = AnimateDiffVideoToVideoPipeline(g.vae, g.text_encoder, g.tokenizer, base, adapter, g.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(z[:1])
    pipeline.encode_video = lambda *_: latents[0] / g.vae.config.scaling_factor  # it takes pictures only
    expected = pipeline(
        video=[np.zeros((8, 8, 3), dtype=np.uint8)] * 3,
        prompt=CAPTIONS[0],
        height=8,
        width=8,
        num_inference_steps=6,
        strength=0.7,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).frames
    states, _ = pipeline.encode_prompt(CAPTIONS[0], torch.device("cpu"), 1, False)
    settings = {"strength": 0.7, "guidance": guidance, "steps": 6}
    ours = renoise_and_denoise(g.unet, g.scheduler, latents, states, g.empty_states(), [5], **settings)
    assert (ours - latents).abs().max() > 0.1
    np.testing.assert_allclose(ours.transpose(1, 2), expected, atol=1e-5)


def test_it_stands_where_a_text_to_video_model_stands(root: Path, z: np.ndarray):
    g = build(root)
    decoded = LatentsConfig(weights="base", frames=3, height=8, width=8).build(root).decode(z)
    np.testing.assert_array_equal(g.render(z, CAPTIONS, [1, 2], strength=0), decoded)
    made = g.render(z, CAPTIONS, [1, 2])
    assert made.shape == decoded.shape
    assert (made != decoded).any()
    alone = g.render(z[1:], CAPTIONS[1:], [2])
    assert np.abs(made[1:].astype(int) - alone).max() <= 1


def test_the_revision_is_of_both_weights(root: Path):
    settings = AnimateDiffConfig(weights="base", motion="motion")
    assert build(root).revision == settings.revision(root)
    assert settings.revision(root) != AnimateDiffConfig(weights="base", motion="other").revision(root)


def test_weights_of_another_family_are_one_line(root: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="a motion adapter that does not fit the denoiser of"):
        build(root, motion="other")
    with pytest.raises(ModelError, match=r"no folder .*nowhere; name a folder that holds config.json"):
        build(root, motion="data/nowhere")
    with pytest.raises(ModelError, match="unet: cannot be read as UNet3DConditionModel"):
        TextToVideoConfig(weights="base").build(root)


def test_its_memory_is_traced_with_the_adapters_weights(root: Path) -> None:
    config = AnimateDiffConfig(weights="base", motion="motion")
    generator = config.build(root)
    assert isinstance(generator, LatentDiffusion)
    parts = (generator.unet, generator.vae, generator.text_encoder)
    weights = [one for part in parts for one in (*part.parameters(), *part.buffers())]
    traced = of_generator(config, root, (3, 4, 4, 4), 2)
    assert traced.weights == sum(one.numel() * one.element_size() for one in weights)
    assert of_generator(config, root, (3, 4, 4, 4), 1).working < traced.working
