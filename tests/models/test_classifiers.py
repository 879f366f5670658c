"""The judges' models give what transformers' own classes give, of clips of any size and length."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessorPil,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from core.errors import ModelError
from core.progress import listening
from models.classifiers.settings import ClipFramesConfig, FrameClassifierConfig, VideoClassifierConfig

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
ROOT = Path(__file__).resolve().parents[2]
CLIP = "models/small_world/clip"
FRAMES, LABELS = 4, 7
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ViT and VideoMAE as they are published, scaled down, with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    settings = {**SMALL, "image_size": 32, "patch_size": 8, "num_labels": LABELS, "initializer_range": 0.5}
    ViTForImageClassification(ViTConfig(**settings)).save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1}
    video = VideoMAEConfig(**settings, **decoder, num_frames=FRAMES, tubelet_size=2)
    VideoMAEForVideoClassification(video).save_pretrained(folder / "videomae")
    crop = {"height": 32, "width": 32}
    normal = {"image_mean": MEAN, "image_std": STD}
    processor = VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop, **normal)
    processor.save_pretrained(folder / "videomae")
    return folder


@pytest.fixture
def clips(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (3, 6, 40, 56, 3), dtype=np.uint8)


def test_every_frame_is_classified_as_transformers_does(published: Path, clips: np.ndarray) -> None:
    scores = FrameClassifierConfig(weights="vit", batch=5).build(published).scores(clips)
    assert (scores.shape, scores.dtype) == ((3, 6, LABELS), np.float32)
    np.testing.assert_allclose(np.exp(scores).sum(axis=-1), 1, atol=1e-5)
    model = ViTForImageClassification.from_pretrained(published / "vit").eval()
    pixels = ViTImageProcessorPil.from_pretrained(published / "vit")(clips[1, 4], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        wanted = model(pixel_values=pixels).logits.log_softmax(1)[0].numpy()
    np.testing.assert_allclose(scores[1, 4], wanted, atol=1e-5)


@pytest.mark.parametrize(("length", "shown"), [(6, [0, 2, 3, 5]), (4, [0, 1, 2, 3]), (2, [0, 0, 1, 1]), (1, [0] * 4)])
def test_a_clip_is_shown_at_the_instants_that_the_model_knows(
    published: Path, clips: np.ndarray, length: int, shown: list[int]
) -> None:
    scores = VideoClassifierConfig(weights="videomae", batch=2).build(published).scores(clips[:, :length])
    assert scores.shape == (3, LABELS)
    model = VideoMAEForVideoClassification.from_pretrained(published / "videomae").eval()
    processor = VideoMAEImageProcessorPil.from_pretrained(published / "videomae")
    pixels = processor([clips[2, frame] for frame in shown], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        wanted = model(pixel_values=pixels).logits.log_softmax(1)[0].numpy()
    np.testing.assert_allclose(scores[2], wanted, atol=1e-5)


def prepared_by_hand(frames: np.ndarray, size: tuple[int, int], cut: slice) -> torch.Tensor:
    """Return frames resized by Pillow to (width, height), cut in width and normalised: (1, frame, 3, height, width)."""
    resized = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames]
    return torch.from_numpy((np.stack(resized)[:, :, cut] / 255 - MEAN) / STD).permute(0, 3, 1, 2).float()[None]


@torch.no_grad()
def test_a_clip_is_prepared_and_classified_as_by_hand(published: Path, clips: np.ndarray) -> None:
    scores = VideoClassifierConfig(weights="videomae").build(published).scores(clips)
    pixels = prepared_by_hand(clips[0, [0, 2, 3, 5]], (44, 32), slice(6, 38))  # 40 × 56, the middle of 32 × 44
    model = VideoMAEForVideoClassification.from_pretrained(published / "videomae").eval()
    logits = model(pixel_values=pixels).logits[0].double().numpy()
    np.testing.assert_allclose(scores[0], logits - np.log(np.exp(logits).sum()), atol=1e-5)


@torch.no_grad()
def test_a_clip_is_shown_at_as_many_frames_as_the_published_code_shows(published: Path, clips: np.ndarray) -> None:
    config = VideoClassifierConfig(weights="videomae", frames=6)
    scores = config.build(published).scores(clips)
    model = VideoMAEForVideoClassification.from_pretrained(published / "videomae", num_frames=6).eval()
    processor = VideoMAEImageProcessorPil.from_pretrained(published / "videomae")
    pixels = processor(list(clips[1]), return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(scores[1], model(pixel_values=pixels).logits.log_softmax(1)[0].numpy(), atol=1e-5)
    assert np.abs(scores - VideoClassifierConfig(weights="videomae").build(published).scores(clips)).max() > 1e-3
    assert config.revision(published) != VideoClassifierConfig(weights="videomae").revision(published)
    with pytest.raises(
        ModelError, match=r"judges.videos: frames: 5, and .*videomae looks at 2 frames together; name a"
    ):
        VideoClassifierConfig(weights="videomae", frames=5).build(published)


def test_the_hubs_older_settings_are_read(published: Path, tmp_path: Path, clips: np.ndarray) -> None:
    """As `preprocessor_config.json` is on the hub for both: a size that is one number, a feature extractor's name."""
    older = {"size": 32, "resample": 2, "do_resize": True, "do_normalize": True}
    crop = {"do_center_crop": True, "crop_size": 32, "image_mean": MEAN, "image_std": STD}
    for config, more in (
        (FrameClassifierConfig(weights="vit"), {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
        (VideoClassifierConfig(weights="videomae"), {"feature_extractor_type": "VideoMAEFeatureExtractor", **crop}),
    ):
        shutil.copytree(published / config.weights, tmp_path / config.weights)
        (tmp_path / config.weights / "preprocessor_config.json").write_text(json.dumps(older | more))
        one, other = (config.build(folder).scores(clips) for folder in (published, tmp_path))
        np.testing.assert_array_equal(one, other)


def test_frames_and_captions_lie_in_one_space(rng: np.random.Generator) -> None:
    clip = ClipFramesConfig(weights=CLIP, batch=4).build(ROOT)
    shown = rng.integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    captions = ["a large red circle moving left over a plain blue background", "", "a small green star growing"]
    frames, words = clip.frames(shown), clip.words(captions)
    assert (frames.shape, words.shape) == ((2, 3, 32), (3, 32))
    np.testing.assert_allclose(np.linalg.norm(frames, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(words, axis=-1), [1, 0, 1], atol=1e-5)
    whole = CLIPModel.from_pretrained(ROOT / CLIP, dtype=torch.float32).eval()
    tokens = CLIPTokenizer.from_pretrained(ROOT / CLIP)(captions[:1], padding="max_length", return_tensors="pt")
    pixels = clip.processor(shown[1, 2], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        said = whole(input_ids=tokens.input_ids, pixel_values=pixels)
    np.testing.assert_allclose(words[0], said.text_embeds[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(frames[1, 2], said.image_embeds[0].numpy(), atol=1e-5)


def test_captions_that_are_blank_or_too_long_are_read() -> None:
    clip = ClipFramesConfig(weights=CLIP, batch=2).build(ROOT)
    long = " ".join(["large red circle"] * 50)
    words = clip.words(["  ", long, "", f"{long} and a green star", "a small green star"])
    np.testing.assert_allclose(np.linalg.norm(words, axis=-1), [0, 1, 0, 1, 1], atol=1e-5)
    np.testing.assert_allclose(words[1], words[3], atol=1e-6)  # what is too long is cut
    assert clip.cut(["", long, "a small green star"]) == [False, True, False]
    assert clip.words(["", ""]).tolist() == [[0.0] * 32] * 2


def test_the_same_clips_give_the_same_bytes(published: Path, clips: np.ndarray) -> None:
    for config in (FrameClassifierConfig(weights="vit"), VideoClassifierConfig(weights="videomae")):
        one, other = config.build(published), config.build(published)
        assert one.scores(clips).tobytes() == other.scores(clips).tobytes()


def test_the_batch_changes_no_more_than_rounding_and_is_reported(published: Path, clips: np.ndarray) -> None:
    for kind, weights, total in ((FrameClassifierConfig, "vit", 18), (VideoClassifierConfig, "videomae", 3)):
        told: list[tuple[int, int]] = []
        with listening(lambda _what, done, whole, _note, told=told: told.append((done, whole))):
            few = kind(weights=weights, batch=2).build(published).scores(clips)
        assert told == [(done, total) for done in [*range(0, total, 2), total]]
        np.testing.assert_allclose(few, kind(weights=weights).build(published).scores(clips), atol=1e-5)


def test_no_clips_give_no_scores(published: Path, clips: np.ndarray) -> None:
    assert FrameClassifierConfig(weights="vit").build(published).scores(clips[:0]).shape == (0, 6, LABELS)
    assert VideoClassifierConfig(weights="videomae").build(published).scores(clips[:0]).shape == (0, LABELS)
    clip = ClipFramesConfig(weights=CLIP).build(ROOT)
    assert (clip.frames(clips[:0]).shape, clip.words([]).shape) == ((0, 6, 32), (0, 32))


def test_the_revision_is_known_without_loading_and_follows_the_weights(published: Path, tmp_path: Path) -> None:
    config = VideoClassifierConfig(weights="videomae")
    before = config.revision(published)
    assert len(before) == 64
    settings = published / "videomae" / "config.json"
    text = settings.read_text()
    settings.write_text(text + " ")
    assert config.revision(published) != before
    settings.write_text(text)
    assert config.revision(published) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FrameClassifierConfig(weights="videomae"), "describes a model of type 'videomae'; name one of vit"),
        (VideoClassifierConfig(weights="vit"), "describes a model of type 'vit'; name one of videomae"),
        (ClipFramesConfig(weights="vit"), "has no tokenizer.json"),
        (FrameClassifierConfig(weights="none"), "weights 'none': no folder"),
    ],
)
def test_other_models_are_refused_in_one_line(published: Path, config, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        config.build(published)
    assert "\n" not in str(caught.value)


def test_another_kind_of_model_with_a_tokenizer_is_refused(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "vit", tmp_path / "vit")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / CLIP / name, tmp_path / "vit")
    with pytest.raises(ModelError, match="describes a model of type 'vit'; name one of clip"):
        ClipFramesConfig(weights="vit").build(tmp_path)


def test_a_model_without_classes_is_refused(tmp_path: Path) -> None:
    ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8)).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="holds no weights for 2 parameters of ViTForImageClassification, classifier"):
        FrameClassifierConfig(weights=str(tmp_path)).build(tmp_path)


@pytest.mark.parametrize(
    ("config", "processor"),
    [
        (FrameClassifierConfig(weights="vit"), ViTImageProcessorPil(size={"height": 40, "width": 40})),
        (VideoClassifierConfig(weights="videomae"), VideoMAEImageProcessorPil(size={"shortest_edge": 40})),
        (ClipFramesConfig(weights="clip"), CLIPImageProcessorPil(size={"shortest_edge": 32}, do_center_crop=False)),
    ],
)
def test_a_processor_of_another_size_is_found_at_once(
    published: Path, tmp_path: Path, config: Any, processor: Any
) -> None:
    shutil.copytree(ROOT / CLIP if config.weights == "clip" else published / config.weights, tmp_path / config.weights)
    processor.save_pretrained(tmp_path / config.weights)
    with pytest.raises(ModelError, match=r"makes pictures of \d+ × \d+, the model is shown 32 × 32; fetch") as caught:
        config.build(tmp_path)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(published: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((published / "vit" / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pickled weights"):
        FrameClassifierConfig(weights=str(tmp_path)).build(published)


def test_what_are_no_clips_is_said(published: Path) -> None:
    with pytest.raises(ModelError, match="expected clips as uint8"):
        FrameClassifierConfig(weights="vit").build(published).scores(np.zeros((2, 3), np.float32))
