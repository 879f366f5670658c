"""The generator's loop: equal to diffusers' own pipeline on one clip, and the same for a clip in any batch."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet3DConditionModel, VideoToVideoSDPipeline
from pydantic import ValidationError

from core.errors import ModelError
from core.progress import listening
from core.threads import VARIABLE, computing
from models.extractors.settings import LatentsConfig, TextConfig
from models.generator.base import LatentDiffusion, clip_noise, is_out_of_memory, renoise_and_denoise, steps_taken
from models.generator.settings import TextToVideoConfig
from zoo.corpus import Corpus
from zoo.settings import ZooConfig
from zoo.train import train_models

CAPTIONS = ["a red circle", "a blue square moving left", "a small star"]
SEEDS = [3, 14, 15]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all but untrained weights in `zoo`; every layer over time is made to do something."""
    folder = tmp_path_factory.mktemp("weights")
    train_models(ZooConfig.tiny(), _draw, folder / "trained")
    (folder / "trained" / "text_to_video").rename(folder / "zoo")
    generator = TextToVideoConfig(weights="zoo").build(folder)
    assert isinstance(generator, LatentDiffusion)
    torch.manual_seed(1)
    for weight in generator.unet.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    generator.unet.save_pretrained(folder / "zoo" / "unet")
    return folder


def _draw(n: int, seed: int) -> Corpus:
    clips = np.random.default_rng(seed % 2**32).integers(0, 256, (n, 4, 16, 16, 3), dtype=np.uint8)
    return Corpus(clips, [[CAPTIONS[index % 3]] for index in range(n)], np.zeros((n, 1), np.int64), {"colour": ("a",)})


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4, 4, 4, 4)).astype(np.float16)


def build(root: Path, **settings: object) -> LatentDiffusion:
    generator = TextToVideoConfig.model_validate({"weights": "zoo", "steps": 6, **settings}).build(root)
    assert isinstance(generator, LatentDiffusion)
    return generator


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", ["dpm", "ddim"])
def test_equals_diffusers_pipeline_on_one_clip(root: Path, z: np.ndarray, name: str, guidance: float):
    g = build(root)
    scheduler = g.scheduler
    if name == "ddim":
        scheduler = DDIMScheduler.from_config(g.scheduler.config, clip_sample=False)
    pipeline = VideoToVideoSDPipeline(g.vae, g.text_encoder, g.tokenizer, g.unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(z[:1]).float()
    states = TextConfig(weights="zoo").build(root)
    encoded, _ = pipeline.encode_prompt(CAPTIONS[0], torch.device("cpu"), 1, False)
    np.testing.assert_allclose(encoded[0], states.extract([[CAPTIONS[0]]])[0], atol=4e-3)
    # it takes scaled latents too, but only past the preprocessing of pictures
    pipeline.video_processor.preprocess_video = lambda video: video.transpose(1, 2)
    expected = pipeline(
        CAPTIONS[0],
        video=latents,
        strength=0.7,
        num_inference_steps=6,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(SEEDS[0]),
        output_type="latent",
    ).frames
    ours = renoise_and_denoise(
        g.unet,
        scheduler,
        latents,
        encoded,
        g.empty_states(),
        SEEDS[:1],
        strength=0.7,
        guidance=guidance,
        steps=6,
    )
    assert (ours - latents).abs().max() > 0.1
    np.testing.assert_allclose(ours.transpose(1, 2), expected, atol=1e-5)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_clip_is_the_same_in_any_batch(root: Path, strength: float):
    g, captions, seeds = build(root), [CAPTIONS[row % 3] for row in range(8)], list(range(10, 18))
    z = np.random.default_rng(3).normal(size=(8, 4, 4, 4, 4)).astype(np.float16)
    latents = torch.from_numpy(z).float()
    states = torch.from_numpy(TextConfig(weights="zoo").build(root).extract([[c] for c in captions])).float()
    settings = {"strength": strength, "guidance": 2.0, "steps": 6}
    run = renoise_and_denoise
    together = run(g.unet, g.scheduler, latents, states, g.empty_states(), seeds, **settings)
    for row in range(8):
        one = slice(row, row + 1)
        alone = run(g.unet, g.scheduler, latents[one], states[one], g.empty_states(), seeds[one], **settings)
        np.testing.assert_allclose(together[one], alone, atol=1e-4)
    small, large = build(root, batch=2), build(root, batch=8)
    difference = small.render(z, captions, seeds).astype(int) - large.render(z, captions, seeds)
    assert np.abs(difference).max() <= 1


def test_no_strength_and_no_step_left_decode_the_latents(root: Path, z: np.ndarray):
    decoded = LatentsConfig(weights="zoo", frames=4, height=16, width=16).build(root).decode(z)
    g = build(root)
    assert steps_taken(6, 0.16) == 0
    assert steps_taken(6, 0.17) == 1
    np.testing.assert_array_equal(g.render(z, CAPTIONS, SEEDS, strength=0), decoded)
    np.testing.assert_array_equal(g.render(z, CAPTIONS, SEEDS, strength=0.16), decoded)
    assert (g.render(z, CAPTIONS, SEEDS, strength=0.17) != decoded).any()


def test_full_strength_ignores_the_latents_but_not_the_caption(root: Path, z: np.ndarray):
    g = build(root, guidance=4.0)
    first = g.render(z, CAPTIONS, SEEDS, strength=1)
    np.testing.assert_array_equal(first, g.render(-z, CAPTIONS, SEEDS, strength=1))
    assert (first != g.render(z, CAPTIONS[::-1], SEEDS, strength=1)).any()
    assert (first != g.render(z, CAPTIONS, SEEDS[::-1], strength=1)).any()


def test_states_may_stand_for_captions(root: Path, z: np.ndarray):
    g = build(root)
    states = TextConfig(weights="zoo").build(root).extract([[caption] for caption in CAPTIONS])
    difference = g.render(z, None, SEEDS, states=states).astype(int) - g.render(z, CAPTIONS, SEEDS)
    assert np.abs(difference).max() <= 1


def test_noise_depends_on_the_clips_own_seed():
    np.testing.assert_array_equal(clip_noise((2, 3), [5, 7])[1], clip_noise((2, 3), [7])[0])


def test_the_revision_is_of_the_weights(root: Path):
    assert build(root).revision == build(root, strength=0.9).revision
    assert len(build(root).revision) == 64


def test_wrong_inputs_are_one_line(root: Path, z: np.ndarray):
    g = build(root)
    with pytest.raises(
        ModelError, match=r"expected \(clip, frame, channel = 4, .* found \(3, 4, 5, 4, 4\); frames come"
    ):
        g.render(np.zeros((3, 4, 5, 4, 4)), CAPTIONS, SEEDS)
    with pytest.raises(ModelError, match="NaN"):
        g.render(np.where(z > 2, np.nan, z), CAPTIONS, SEEDS)
    with pytest.raises(ModelError, match=r"strength 1\.2: must lie between 0"):
        g.render(z, CAPTIONS, SEEDS, strength=1.2)
    with pytest.raises(ModelError, match="captions: found 2 for 3 clips"):
        g.render(z, CAPTIONS[:2], SEEDS)
    with pytest.raises(ModelError, match="seeds: found 1 for 3 clips"):
        g.render(z, CAPTIONS, SEEDS[:1])
    with pytest.raises(ModelError, match="no clip to render"):
        g.render(z[:0], [], [])
    with pytest.raises(ModelError, match=r"conditioning states: expected \(3, \d+, 16\)"):
        g.render(z, None, SEEDS, states=np.zeros((3, 2, 16)))
    with pytest.raises(ModelError, match="come with the project"):
        build(root, weights="data/zoo/absent")
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        build(root, strength=1.5)


def test_batches_side_by_side_give_the_same_bytes(root: Path, z: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    g, many = build(root, batch=2), (np.concatenate([z] * 3), CAPTIONS * 3, list(range(9)))
    rows, expected = [], None
    for count in ("1", "3"):
        monkeypatch.setenv(VARIABLE, count)
        with computing():
            made = g.render(*many, on_batch=rows.append)
        expected = made if expected is None else expected
        assert made.tobytes() == expected.tobytes()
    assert rows == [slice(first, min(first + 2, 9)) for first in range(0, 9, 2)] * 2


def test_batches_that_memory_does_not_hold_side_by_side_are_rendered_one_by_one(
    root: Path, z: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    g, many = build(root, batch=1), (z, CAPTIONS, SEEDS)
    monkeypatch.setenv(VARIABLE, "1")
    expected, forward, now = g.render(*many), g.unet.forward, [0, 0]

    def narrow(*inputs: object) -> object:
        now[0] += 1
        try:
            time.sleep(0.05)
            if now[0] > 1:
                now[1] += 1
                raise torch.OutOfMemoryError("not enough memory")
            return forward(*inputs)
        finally:
            now[0] -= 1

    monkeypatch.setattr(g.unet, "forward", narrow)
    monkeypatch.setenv(VARIABLE, "3")
    assert g.render(*many).tobytes() == expected.tobytes()
    assert now[1] > 0


def test_a_batch_beyond_the_memory_is_halved_and_said(root: Path, z: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    g = build(root, batch=8)
    monkeypatch.setenv(VARIABLE, "1")
    expected = g.render(z, CAPTIONS, SEEDS)
    forward, seen = g.unet.forward, []

    def narrow(sample: torch.Tensor, *more: object) -> object:
        seen.append(len(sample))
        if len(sample) > 4:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 17179869184 bytes.")
        return forward(sample, *more)

    monkeypatch.setattr(g.unet, "forward", narrow)
    heard = []
    with listening(lambda what, done, total, note: heard.append(what)):
        made = g.render(np.concatenate([z] * 3), CAPTIONS * 3, SEEDS * 3)
    assert heard.count("out of memory with 8 clips at once, going on with 4") == 1
    assert "out of memory with 4 clips at once, going on with 2" in heard
    assert max(seen[2:]) <= 4
    assert np.abs(made[:3].astype(int) - g.render(z, CAPTIONS, SEEDS)).max() <= 1
    assert len(expected) == 3


def test_one_clip_beyond_the_memory_is_one_line(root: Path, z: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    g = build(root)

    def full(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(g.unet, "forward", full)
    with pytest.raises(ModelError, match="memory does not hold one clip .*generator.dtype: float16"):
        g.render(z, CAPTIONS, SEEDS)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_captions_that_are_cut_are_counted(root: Path, z: np.ndarray):
    g = build(root)
    heard = []
    with listening(lambda what, done, total, note: heard.append(what)):
        g.render(z, [CAPTIONS[0], "a red circle " * 20, "a red circle " * 20], SEEDS)
    assert "2 of 3 captions are longer than 20 tokens and are cut" in heard


def test_decoding_in_slices_changes_nothing_one_can_see(root: Path, z: np.ndarray):
    whole, sliced = (build(root, decoded=many).render(z, CAPTIONS, SEEDS, strength=0) for many in (8, 3))
    assert np.abs(whole.astype(int) - sliced).max() <= 1


def test_parts_that_do_not_fit_are_one_line(root: Path, tmp_path: Path):
    shutil.copytree(root / "zoo", tmp_path / "zoo")
    other = UNet3DConditionModel.from_pretrained(root / "zoo" / "unet")
    settings = {**other.config, "cross_attention_dim": 24}
    UNet3DConditionModel.from_config(settings).save_pretrained(tmp_path / "zoo" / "unet")
    with pytest.raises(ModelError, match="takes states 24 wide and 4 channels, the text encoder gives 16"):
        build(tmp_path)
