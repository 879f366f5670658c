"""CLIP's and BLIP's states and BLIP's captions: against transformers' own answers on tiny random weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionModel,
)

from core.errors import ModelError
from models.captioners.settings import BlipCaptionerConfig
from models.extractors.base import Decoder, Extractor
from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, ExtractorConfig
from models.extractors.vision import KeyFrames

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
WORDS = ["[PAD]", "[DEC]", "[SEP]", "[CLS]", "[UNK]", "[MASK]", *(f"word{index}" for index in range(24))]
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 24, "patch_size": 8, "initializer_range": 0.5}
TEXT = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 32}
BLIP_TEXT = {**TEXT, "initializer_range": 0.5, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with untrained models in the hub's layout: a whole CLIP, its vision model alone, and BLIP."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    clip = CLIPModel(CLIPConfig(vision_config={**VISION, "projection_dim": 12}, text_config=TEXT, projection_dim=12))
    clip.save_pretrained(folder / "clip")
    CLIPVisionModel(clip.config.vision_config).save_pretrained(folder / "vision")
    blip = BlipForConditionalGeneration(BlipConfig(vision_config=VISION, text_config=BLIP_TEXT))
    blip.save_pretrained(folder / "blip")
    square = {"height": 24, "width": 24}
    normal = {"image_mean": MEAN, "image_std": STD}
    for name in ("clip", "vision"):
        CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=square, **normal).save_pretrained(folder / name)
    BlipImageProcessorPil(size=square, **normal).save_pretrained(folder / "blip")
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(folder / "blip")
    return folder


@pytest.fixture
def clips(rng: np.random.Generator) -> np.ndarray:
    """Wide clips, (n, frame, height, width, 3)."""
    return rng.integers(0, 256, (3, 8, 20, 30, 3), dtype=np.uint8)


@pytest.fixture
def tokens(rng: np.random.Generator) -> np.ndarray:
    """Image tokens of four stimuli, of the tiny BLIP's shape."""
    return rng.normal(size=(4, 10, 16)).astype(np.float16)


def pixels_of(frames: np.ndarray, size: tuple[int, int], cut: slice) -> torch.Tensor:
    """Return frames resized by Pillow to (width, height), cut in width and normalised, (n, 3, height, width)."""
    resized = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in frames]
    normal = (np.stack(resized)[:, :, cut] / 255 - MEAN) / STD
    return torch.from_numpy(normal).permute(0, 3, 1, 2).float()


@torch.no_grad()
def clip_oracle(root: Path, pixels: torch.Tensor, states: str) -> np.ndarray:
    model = CLIPModel.from_pretrained(root / "clip").eval()
    if states == "tokens":
        return model.vision_model(pixels).last_hidden_state.numpy()
    return model.get_image_features(pixels).pooler_output.numpy()


@torch.no_grad()
def blip_oracle(root: Path, pixels: torch.Tensor) -> np.ndarray:
    model = BlipForConditionalGeneration.from_pretrained(root / "blip").eval()
    start = torch.ones((len(pixels), 1), dtype=torch.long)
    return model(pixels, input_ids=start, interpolate_pos_encoding=True).image_embeds.numpy()


def test_key_frames_are_the_middles_of_equal_parts():
    assert KeyFrames(8).positions("clip", 8).tolist() == list(range(8))
    assert KeyFrames(4).positions("clip", 8).tolist() == [1, 3, 5, 7]
    assert KeyFrames(3).positions("clip", 9).tolist() == [1, 4, 7]
    assert KeyFrames(1).positions("clip", 15).tolist() == [7]
    assert KeyFrames(5).positions("clip", 24).tolist() == [2, 7, 12, 16, 21]
    with pytest.raises(ModelError, match=r"extractor blip: clips of 4 frames do not have 8 key frames; lower .*frames"):
        KeyFrames(8).positions("blip", 4)


def test_joined_shapes():
    assert KeyFrames(8, "mean").joined_shape((12,)) == (12,)
    assert KeyFrames(8, "concatenate").joined_shape((12,)) == (8, 12)
    assert KeyFrames(8, "mean").joined_shape((10, 16)) == (10, 16)
    assert KeyFrames(8, "concatenate").joined_shape((10, 16)) == (80, 16)


@pytest.mark.parametrize("states", ["pooled", "tokens"])
def test_clip_equals_transformers(root: Path, clips: np.ndarray, states: Any):
    pixels = pixels_of(clips[1, [1, 3, 5, 7]], (36, 24), slice(6, 30))
    expected = clip_oracle(root, pixels, states)
    settings = ClipStatesConfig(weights="clip", states=states, frames=4)
    values = settings.build(root).extract(clips)
    assert values.dtype == np.float16
    np.testing.assert_allclose(values[1], expected.mean(0), atol=2e-3, rtol=2e-3)
    rows = settings.model_copy(update={"over_frames": "concatenate"}).build(root).extract(clips)
    np.testing.assert_allclose(rows[1], expected.reshape(-1, expected.shape[-1]), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("size", [None, 24, 40])
def test_blip_equals_transformers(root: Path, clips: np.ndarray, size: int | None):
    shown = size or 24
    expected = blip_oracle(root, pixels_of(clips[2, [1, 3, 5, 7]], (shown, shown), slice(None)))
    settings = BlipStatesConfig(weights="blip", frames=4, image_size=size)
    values = settings.build(root).extract(clips)
    assert values.dtype == np.float16
    np.testing.assert_allclose(values[2], expected.mean(0), atol=2e-3, rtol=2e-3)
    rows = settings.model_copy(update={"over_frames": "concatenate"}).build(root).extract(clips)
    np.testing.assert_allclose(rows[2], expected.reshape(-1, 16), atol=2e-3, rtol=2e-3)


def test_blip_sees_what_its_decoder_attends_to(root: Path, clips: np.ndarray):
    states = BlipStatesConfig(weights="blip", frames=1).build(root).extract(clips).astype(np.float32)
    np.testing.assert_allclose(states.mean(axis=-1), 0, atol=5e-3)  # after the layer norm, whose weights are 1 and 0
    np.testing.assert_allclose(states.std(axis=-1), 1, atol=5e-3)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (ClipStatesConfig(weights="clip"), (12,)),
        (ClipStatesConfig(weights="clip", frames=3, over_frames="concatenate"), (3, 12)),
        (ClipStatesConfig(weights="clip", states="tokens"), (10, 16)),
        (ClipStatesConfig(weights="vision", states="tokens", frames=3, over_frames="concatenate"), (30, 16)),
        (BlipStatesConfig(weights="blip"), (10, 16)),
        (BlipStatesConfig(weights="blip", frames=3, over_frames="concatenate", image_size=16), (15, 16)),
    ],
)
def test_shapes_are_known_from_the_settings_alone(
    root: Path, tmp_path: Path, clips: np.ndarray, settings: Any, shape: Any
):
    extractor = settings.build(root)
    assert extractor.shape == shape
    assert extractor.extract(clips).shape == (3, *shape)
    assert extractor.extract(clips[:0]).shape == (0, *shape)
    (tmp_path / settings.weights).mkdir()
    shutil.copy(root / settings.weights / "config.json", tmp_path / settings.weights)
    assert settings.shape(tmp_path) == shape


def test_the_hubs_older_settings_are_read(root: Path, tmp_path: Path, clips: np.ndarray):
    shutil.copytree(root / "clip", tmp_path / "clip")
    older = {"size": 24, "crop_size": 24, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}
    flags = {"do_resize": True, "do_center_crop": True, "do_normalize": True}
    settings = {**older, **flags, "image_mean": MEAN, "image_std": STD}
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(settings))
    one, other = (ClipStatesConfig(weights="clip").build(folder) for folder in (root, tmp_path))
    np.testing.assert_array_equal(one.extract(clips), other.extract(clips))


def test_they_are_extractors_that_read_clips_and_do_not_decode(root: Path):
    read = TypeAdapter(ExtractorConfig).validate_python
    assert read({"extractor": "clip", "weights": "clip"}) == ClipStatesConfig(weights="clip")
    for settings in (ClipStatesConfig(weights="clip"), BlipStatesConfig(weights="blip")):
        built = settings.build(root)
        assert isinstance(built, Extractor)
        assert not isinstance(built, Decoder)
        assert (built.reads, built.name) == ("clips", settings.extractor)
        assert built.revision == settings.revision(root)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_batch_does_not_change_the_bytes(root: Path, clips: np.ndarray, dtype: Any):
    for settings in (
        ClipStatesConfig(weights="clip", states="tokens", dtype=dtype),
        BlipStatesConfig(weights="blip", over_frames="concatenate", dtype=dtype),
    ):
        one, other = settings.build(root), settings.build(root)
        assert one.extract(clips)[1:2].tobytes() == other.extract(clips[1:2]).tobytes()
        exact = settings.model_copy(update={"dtype": "float32"}).build(root).extract(clips)
        np.testing.assert_allclose(one.extract(clips), exact, atol=0.15)
        assert np.array_equal(one.extract(clips), exact) == (dtype == "float32")


def test_motion_survives_only_where_frames_are_kept(root: Path, clips: np.ndarray):
    for settings in (ClipStatesConfig(weights="clip"), BlipStatesConfig(weights="blip")):
        mean = settings.build(root)
        np.testing.assert_allclose(mean.extract(clips), mean.extract(clips[:, ::-1]), atol=4e-3)
        kept = settings.model_copy(update={"over_frames": "concatenate"}).build(root)
        forwards, backwards = (kept.extract(shown).reshape(3, 8, -1) for shown in (clips, clips[:, ::-1]))
        np.testing.assert_allclose(forwards, backwards[:, ::-1], atol=4e-3)
        assert np.abs(forwards - backwards).max() > 0.1


def test_the_revision_follows_what_is_read(root: Path, tmp_path: Path):
    settings = BlipStatesConfig(weights="blip")
    before = settings.revision(root)
    shutil.copytree(root / "blip", tmp_path / "blip")
    (tmp_path / "blip" / "README.md").write_text("read by nobody")
    (tmp_path / "blip" / "tokenizer_config.json").write_text("{}")
    assert settings.revision(tmp_path) == before
    changed = tmp_path / "blip" / "preprocessor_config.json"
    changed.write_text(changed.read_text().replace("0.25", "0.26"))
    assert settings.revision(tmp_path) != before


@pytest.mark.parametrize("settings", [ClipStatesConfig, BlipStatesConfig, BlipCaptionerConfig])
def test_absent_and_unsafe_weights_are_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Callable[..., Any]
):
    monkeypatch.setattr("huggingface_hub.snapshot_download", _no_network)
    refused = {
        "owner/name": r"'owner/name'.*hub.*ConnectionError.*name a folder that holds config.json.*download weights",
        "data/weights": r"no folder .*data/weights; name a folder that holds config.json",
        "pickled": r"pickled: holds no model\*.safetensors; pickled weights \(.bin\) run code and are not read",
        "damaged": r"damaged: cannot be read as (CLIPVisionModelWith|BlipFor)",
        "empty": r"empty: has no config.json; expected a model of the hub with config.json, ",
    }
    (tmp_path / "empty").mkdir()
    for name in ("pickled", "damaged"):
        source = root / ("clip" if settings is ClipStatesConfig else "blip")
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"not weights")
    for weights, message in refused.items():
        with pytest.raises(ModelError, match=message) as caught:
            settings(weights=weights).build(tmp_path)
        assert "\n" not in str(caught.value)


def _no_network(*_: object, **__: object) -> str:
    raise ConnectionError("offline")


def test_the_hub_is_asked_for_what_is_read_and_no_more(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def fetch(name: str, **settings: Any) -> str:
        asked[name] = settings["allow_patterns"]
        return str(root / name.split("/")[1])

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    ClipStatesConfig(weights="owner/clip").build(tmp_path)
    assert asked["owner/clip"] == ["config.json", "preprocessor_config.json", "model*.safetensors", "model*.index.json"]


def test_weights_of_another_model_are_refused(root: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="describes a model of type 'blip'; name one of clip or clip_vision_model"):
        ClipStatesConfig(weights="blip").build(root)
    with pytest.raises(ModelError, match="describes a model of type 'clip'; name one of blip"):
        BlipStatesConfig(weights="clip").build(root)
    with pytest.raises(ModelError, match=r"no weights for 1 parameters of CLIPVisionModelWithProjection, visual_proj"):
        ClipStatesConfig(weights="vision").build(root)
    for found, message in (
        ({"hidden_size": "x"}, r"cannot be read as CLIPVisionConfig \(Validation error for field 'hidden_size'"),
        ({"image_size": [24, 32]}, r"config.json: pictures of \[24, 32\] in patches of 32; expected one number each"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": found}))
        with pytest.raises(ModelError, match=message) as caught:
            ClipStatesConfig(weights=".").shape(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="image_size 20 is no multiple of the model's patches of 8"):
        BlipStatesConfig(weights="blip", image_size=20).build(root)
    shutil.copytree(root / "blip", tmp_path / "blip")
    path = tmp_path / "blip" / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": {"height": 32, "width": 40}}))
    with pytest.raises(ModelError, match="makes pictures of 32 × 40, the model is shown 24 × 24"):
        BlipStatesConfig(weights="blip").build(tmp_path)


def test_wrong_clips_are_one_line(root: Path, clips: np.ndarray):
    for settings in (ClipStatesConfig(weights="clip"), BlipStatesConfig(weights="blip")):
        extractor = settings.build(root)
        for wrong, found in ((clips / 255, "float64"), (clips[0], r"uint8 \(8, 20, 30, 3\)"), (["a"], "list")):
            with pytest.raises(ModelError, match=rf"{extractor.name}: expected clips as uint8 .*, found {found}"):
                extractor.extract(wrong)
        with pytest.raises(ModelError, match="clips of 7 frames do not have 8 key frames"):
            extractor.extract(clips[:, :7])
        for weight in extractor.model.parameters():
            weight.mul_(1e6)
        with pytest.raises(ModelError, match=f"{extractor.name}: states are NaN or beyond float16's range"):
            extractor.extract(clips)


@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (1, 1.2), (3, 1.0)])
def test_captions_equal_blips_own(root: Path, clips: np.ndarray, beams: int, penalty: float):
    model = BlipForConditionalGeneration.from_pretrained(root / "blip").eval()
    tokenizer = BertTokenizer.from_pretrained(root / "blip")
    pixels = pixels_of(clips[:, 4], (24, 24), slice(None))
    ids = model.generate(pixels, num_beams=beams, repetition_penalty=penalty, max_new_tokens=9, do_sample=False)
    expected = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    expected = [text.removeprefix("[DEC]").strip() for text in expected]  # BLIP's start is no special token of BERT's
    states = model.vision_model(pixels).last_hidden_state.detach().numpy()
    settings = BlipCaptionerConfig(weights="blip", beams=beams, repetition_penalty=penalty, max_tokens=9)
    assert settings.build(root).caption(states) == expected
    assert any(expected)


def test_there_is_a_caption_for_every_row_whatever_the_batch(root: Path, tokens: np.ndarray):
    captioner = BlipCaptionerConfig(weights="blip", max_tokens=5).build(root)
    captions = captioner.caption(tokens)
    assert len(captions) == 4
    assert all(0 < len(caption.split()) <= 5 and "[" not in caption for caption in captions)
    assert len(set(captions)) > 1
    assert BlipCaptionerConfig(weights="blip", max_tokens=5, batch=3).build(root).caption(tokens) == captions
    assert [captioner.caption(tokens[row : row + 1])[0] for row in range(4)] == captions
    assert captioner.caption(tokens[:0]) == []
    assert len(captioner.caption(np.tile(tokens, (1, 3, 1)))) == 4  # key frames one after the other


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_captions_are_written_in_mixed_precision(root: Path, tokens: np.ndarray, dtype: Any):
    assert all(BlipCaptionerConfig(weights="blip", dtype=dtype).build(root).caption(tokens))


def test_wrong_captioners_and_tokens_are_one_line(root: Path, tokens: np.ndarray):
    with pytest.raises(ValidationError, match="finite number"):
        BlipCaptionerConfig(weights="blip", repetition_penalty=float("nan"))
    for penalty in (6.0, 1.21, 0.5):
        with pytest.raises(ValidationError, match=r"above 1.2 makes lists of keywords.*choose 1 to 1.2"):
            BlipCaptionerConfig(weights="blip", repetition_penalty=penalty)
    with pytest.raises(ModelError, match="max_tokens is 32, and the text decoder has 32 positions.*choose 31 or fewer"):
        BlipCaptionerConfig(weights="blip", max_tokens=32).build(root)
    with pytest.raises(ModelError, match=r"clip: has no tokenizer.json"):
        BlipCaptionerConfig(weights="clip").build(root)
    captioner = BlipCaptionerConfig(weights="blip").build(root)
    with pytest.raises(ModelError, match=r"expected image tokens \(n, token, 16\), found \(4, 16, 10\)"):
        captioner.caption(tokens.swapaxes(1, 2))
    with pytest.raises(ModelError, match="NaN"):
        captioner.caption(np.full((1, 10, 16), np.nan))


def test_nothing_is_printed_or_warned_of(root: Path, clips: np.ndarray, capfd: pytest.CaptureFixture[str]):
    ClipStatesConfig(weights="clip").build(root).extract(clips)
    states = BlipStatesConfig(weights="blip").build(root).extract(clips)
    BlipCaptionerConfig(weights="blip", beams=2).build(root).caption(states)
    assert capfd.readouterr() == ("", "")
