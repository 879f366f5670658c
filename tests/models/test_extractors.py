"""The extractors: against diffusers' and transformers' own answers, by known values, and in what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from pydantic import TypeAdapter, ValidationError
from transformers import CLIPTextModel, CLIPTokenizer

from core.errors import ModelError
from models.extractors.base import Decoder, Extractor, area_weights
from models.extractors.settings import ExtractorConfig, GivenConfig, LatentsConfig, PixelsConfig, TextConfig
from zoo.settings import VaeStage, ZooConfig
from zoo.text_to_video import new_text_encoder, new_vae, train_tokenizer

CAPTIONS = ["a red circle moving left", "a small blue square", "a green star, growing"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with untrained weights in `zoo`."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    stage = ZooConfig.tiny().text
    vae = new_vae(VaeStage(widths=(8, 8, 16), groups=4), 32)
    vae.register_to_config(scaling_factor=0.7)
    vae.save_pretrained(folder / "zoo" / "vae")
    tokenizer = train_tokenizer(CAPTIONS, stage.tokens)
    tokenizer.save_pretrained(folder / "zoo" / "tokenizer")
    new_text_encoder(stage, tokenizer).save_pretrained(folder / "zoo" / "text_encoder")
    return folder


@pytest.fixture
def clips() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3), dtype=np.uint8)


def test_the_key_extractor_tells_the_settings_apart():
    read = TypeAdapter(ExtractorConfig).validate_python
    assert read({"extractor": "pixels", "height": 4}) == PixelsConfig(height=4)
    assert read({"extractor": "latents", "weights": "zoo"}) == LatentsConfig(weights="zoo")
    assert read({"extractor": "text", "weights": "zoo"}) == TextConfig(weights="zoo")
    assert read({"extractor": "given"}) == GivenConfig()
    with pytest.raises(ValidationError, match=r"pixels.*latents.*text.*clip.*blip.*given"):
        read({"extractor": "clap"})


def test_pixels_average_areas_known_answer():
    clip = np.zeros((1, 1, 4, 4, 3), dtype=np.uint8)
    clip[0, 0, :2, :2, 0] = 255
    clip[0, 0, 2, 2, 1] = 255
    values = PixelsConfig(frames=1, height=2, width=2).build(Path()).extract(clip)
    assert values.shape == (1, 1, 3, 2, 2)
    assert values.dtype == np.float16
    np.testing.assert_array_equal(values[0, 0, 0], [[1, 0], [0, 0]])
    np.testing.assert_array_equal(values[0, 0, 1], [[0, 0], [0, 0.25]])


def test_pixels_equal_torch_where_sizes_divide(clips: np.ndarray):
    values = PixelsConfig(frames=4, height=16, width=8).build(Path()).extract(clips)
    volume = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).double() / 255
    expected = torch.nn.functional.avg_pool3d(volume, (2, 2, 4)).permute(0, 2, 1, 3, 4).numpy()
    np.testing.assert_allclose(values, expected, atol=5e-4)


def test_area_weights_of_sizes_that_do_not_divide():
    np.testing.assert_allclose(area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    np.testing.assert_allclose(area_weights(7, 5).sum(axis=1), 1)


def test_pixels_at_full_size_come_back(clips: np.ndarray):
    pixels = PixelsConfig(frames=8, height=32, width=32).build(Path())
    np.testing.assert_array_equal(pixels.decode(pixels.extract(clips)), clips)


def test_grey_pixels_decode_to_equal_channels(clips: np.ndarray):
    pixels = PixelsConfig(channels="grey").build(Path())
    assert pixels.shape == (8, 1, 16, 16)
    decoded = pixels.decode(pixels.extract(clips))
    assert decoded.shape == (3, 8, 16, 16, 3)
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2])


def test_pixels_out_of_range_are_cut_when_decoded():
    pixels = PixelsConfig(frames=1, height=1, width=1).build(Path())
    decoded = pixels.decode(np.asarray([-0.5, 0.5, 1.5]).reshape(1, 1, 3, 1, 1))
    assert decoded.ravel().tolist() == [0, 128, 255]


def test_latents_equal_diffusers_posterior_mean(root: Path, clips: np.ndarray):
    latents = LatentsConfig(weights="zoo").build(root)
    assert latents.shape == (8, 4, 8, 8)
    vae = AutoencoderKL.from_pretrained(root / "zoo" / "vae")
    pictures = torch.from_numpy(clips[1]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = vae.encode(pictures).latent_dist.mean * 0.7
    values = latents.extract(clips)
    assert values.dtype == np.float16
    np.testing.assert_allclose(values[1], expected.numpy(), atol=2e-3)


def test_latents_decode_equals_diffusers(root: Path):
    latents = LatentsConfig(weights="zoo").build(root)
    values = np.random.default_rng(1).normal(size=(2, 8, 4, 8, 8)).astype(np.float16)
    vae = AutoencoderKL.from_pretrained(root / "zoo" / "vae")
    with torch.no_grad():
        pictures = vae.decode(torch.from_numpy(values[1]).float() / 0.7).sample
    expected = ((pictures / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
    decoded = latents.decode(values)
    assert decoded.shape == (2, 8, 32, 32, 3)
    np.testing.assert_allclose(decoded[1], expected, atol=0.51)


def test_text_equals_transformers_and_averages_captions(root: Path):
    text = TextConfig(weights="zoo").build(root)
    assert text.shape == (ZooConfig.tiny().text.tokens, 16)
    encoder = CLIPTextModel.from_pretrained(root / "zoo" / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(root / "zoo" / "tokenizer")
    tokens = tokenizer(CAPTIONS[:2], padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = encoder(tokens)[0].numpy()
    values = text.extract([[CAPTIONS[0]], CAPTIONS[:2]])
    np.testing.assert_allclose(values[0], expected[0], atol=4e-3)
    np.testing.assert_allclose(values[1], expected.mean(axis=0), atol=4e-3)


def test_the_batch_does_not_change_the_bytes(root: Path, clips: np.ndarray):
    latents, text = LatentsConfig(weights="zoo").build(root), TextConfig(weights="zoo").build(root)
    again = LatentsConfig(weights="zoo").build(root)
    assert latents.extract(clips)[2:].tobytes() == again.extract(clips[2:]).tobytes()
    captions = [[caption] for caption in CAPTIONS]
    assert text.extract(captions)[1:2].tobytes() == text.extract(captions[1:2]).tobytes()


def test_all_are_extractors_and_two_decode(root: Path):
    built = [config.build(root) for config in (PixelsConfig(), LatentsConfig(weights="zoo"), TextConfig(weights="zoo"))]
    assert all(isinstance(extractor, Extractor) for extractor in built)
    assert [isinstance(extractor, Decoder) for extractor in built] == [True, True, False]
    assert [extractor.reads for extractor in built] == ["clips", "clips", "captions"]
    assert len({extractor.revision for extractor in built}) == 3


def test_the_revision_follows_the_weights(root: Path, tmp_path: Path):
    vae = AutoencoderKL.from_pretrained(root / "zoo" / "vae")
    vae.save_pretrained(tmp_path / "same" / "vae")
    with torch.no_grad():
        vae.decoder.conv_out.bias += 1
    vae.save_pretrained(tmp_path / "other" / "vae")
    before = LatentsConfig(weights="zoo").build(root).revision
    assert (
        LatentsConfig(weights="same").build(tmp_path).revision
        != LatentsConfig(weights="other").build(tmp_path).revision
    )
    assert LatentsConfig(weights=str(root / "zoo")).build(tmp_path).revision == before


def test_absent_and_unsafe_weights_are_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        ModelError, match=r"no folder .*data/zoo/small-world; the small world's models come with the project"
    ):
        LatentsConfig(weights="data/zoo/small-world").build(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _no_network)
    with pytest.raises(ModelError, match=r"'owner/name'.*hub.*ConnectionError.*download weights"):
        TextConfig(weights="owner/name").build(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="has no folder 'vae'"):
        LatentsConfig(weights="empty").build(tmp_path)
    (tmp_path / "pickled" / "vae").mkdir(parents=True)
    (tmp_path / "pickled" / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no \*\.safetensors; pickled weights are not read"):
        LatentsConfig(weights="pickled").build(tmp_path)
    (tmp_path / "pickled" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be read as AutoencoderKL"):
        LatentsConfig(weights="pickled").build(tmp_path)


def _no_network(*_: object, **__: object) -> str:
    raise ConnectionError("offline")


def test_wrong_batches_are_one_line(root: Path, clips: np.ndarray):
    latents, text = LatentsConfig(weights="zoo").build(root), TextConfig(weights="zoo").build(root)
    with pytest.raises(ModelError, match=r"expected clips as uint8 \(n, 8, 32, 32, 3\), found float64"):
        latents.extract(clips / 255)
    with pytest.raises(ModelError, match=r"expected values \(n, 8, 4, 8, 8\), found \(2, 4, 8, 8, 8\)"):
        latents.decode(np.zeros((2, 4, 8, 8, 8)))
    with pytest.raises(ModelError, match="NaN"):
        latents.decode(np.full((2, 8, 4, 8, 8), np.nan))
    with pytest.raises(ModelError, match="stimulus 1 of the batch has no caption"):
        text.extract([["a"], []])
    with pytest.raises(ModelError, match="a list of captions for each stimulus"):
        text.extract(["a", "b"])
    with pytest.raises(ModelError, match="clips of 8 frames cannot be averaged to 3"):
        PixelsConfig(frames=3).build(root).extract(clips)
    with pytest.raises(ModelError, match="shrinks by 4, and clips are 30 × 32"):
        LatentsConfig(weights="zoo", height=30).build(root)


@pytest.mark.parametrize("settings", [LatentsConfig, TextConfig])
def test_half_precision_is_near_and_asked_for(root: Path, clips: np.ndarray, settings: type):
    batch = clips if settings is LatentsConfig else [[caption] for caption in CAPTIONS]
    whole, half = (settings(weights="zoo", dtype=dtype).build(root).extract(batch) for dtype in ("float32", "bfloat16"))
    assert half.dtype == whole.dtype == np.float16
    assert (half != whole).any()
    assert np.corrcoef(half.ravel().astype(float), whole.ravel().astype(float))[0, 1] > 0.99
