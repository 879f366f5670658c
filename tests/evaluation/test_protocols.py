"""A report says "as published" where weights, frames and steps are the published ones, else what is different."""

import cv2
import numpy as np
import pytest

from evaluation.config import EvaluationConfig
from evaluation.metrics import metric, metric_names
from evaluation.metrics.protocols import Looked, Protocol, is_model, named
from evaluation.statistics.scores import RECONSTRUCTION
from evaluation.statistics.table import Table

SMALL, B32, MAE = "models/small_world/clip", "openai/clip-vit-base-patch32", "MCG-NJU/videomae-base-finetuned-kinetics"
CLIP = "clip_frames.consistency_adjacent"


def claims(looked: dict[str, Looked], *, frames: int = 6, size: tuple[int, int] = (16, 16)) -> dict[str, str]:
    """Return the protocols of a report on random clips and embeddings."""
    rng = np.random.default_rng(0)
    truth = {
        "pixels": rng.integers(0, 256, (3, frames, *size, 3), dtype=np.uint8),
        "clip_frames": rng.normal(size=(3, frames, 5)),
        "video_classes": rng.normal(size=(3, 60)),
    }
    names = ("ssim", "hue_pcc", "consistency_adjacent", "published_50_way", "psnr")
    table = Table(truth, EvaluationConfig(metrics=names, permutations=1, frame_permutations=1), seed=0, looked=looked)
    table.add(RECONSTRUCTION, truth)
    found: dict[str, str] = table.report()["protocols"]
    return found


def test_the_small_worlds_clip_is_not_the_published_one() -> None:
    found = claims({"clip_frames": Looked(SMALL)}, frames=8)[CLIP]
    assert "as published" not in found
    assert found.startswith("as CLIP-pcc without a gate")
    assert f"{SMALL} instead of {B32}; 8 frames a clip instead of 6" in found


@pytest.mark.parametrize("weights", [B32, f"data/weights/{B32}", f"/home/someone/{B32}/"])
def test_the_published_clip_on_as_many_frames_is_as_published(weights: str) -> None:
    assert claims({"clip_frames": Looked(weights)})[CLIP].startswith("as published: CLIP-pcc without a gate")


def test_another_clip_is_named_and_none_is_not_assumed() -> None:
    large = claims({"clip_frames": Looked("openai/clip-vit-large-patch14")})[CLIP]
    assert f"openai/clip-vit-large-patch14 instead of {B32}" in large
    assert f"an unnamed model instead of {B32}" in claims({})[CLIP]


def test_a_classifier_is_shown_as_many_frames_as_published() -> None:
    name = "video_classes.published_50_way"
    followed = claims({"video_classes": Looked(MAE, 6)})[name]
    assert "except: the expectation over all draws instead of 100 drawn trials" in followed
    assert MAE not in followed
    usual = claims({"video_classes": Looked(MAE)})[name]
    assert "except: the model is shown as many frames as it was trained with instead of 6;" in usual


def test_frames_of_another_size_do_not_compare() -> None:
    small = claims({})
    assert small["frames.ssim"] == "as MinD-Video (Chen et al. 2023), except: frames of 16 × 16 instead of 256 × 256"
    assert small["frames.hue_pcc"].startswith("as published: Mind-Animator")
    assert "frames.psnr" not in small
    assert claims({}, size=(256, 256))["frames.ssim"].startswith("as published: MinD-Video")


def test_no_label_claims_what_depends_on_the_weights() -> None:
    assert not [name for name in metric_names() if "as published" in metric(name).label]


def test_models_are_told_apart_by_the_end_of_their_folder() -> None:
    assert is_model(B32, B32)
    assert not is_model("clip-vit-base-patch32", B32)
    assert not is_model(f"{B32}-mine", B32)
    assert named("/home/someone/models/clip") == "models/clip"
    assert named(SMALL) == SMALL


def test_clips_of_unknown_size_claim_nothing() -> None:
    protocol = Protocol("Someone (2020)", "somehow", side=64)
    assert protocol.claim("frames", None, {}) == "as Someone (2020), except: clips of unknown size"
    assert protocol.claim("frames", (3, 64, 64), {}) == "as published: Someone (2020): somehow"


def flow_error(clips: tuple[np.ndarray, np.ndarray], weights: tuple[float, float, float]) -> np.ndarray:
    """Return the mean end-point error at 512 × 512 of frames turned grey by weights of red, green and blue."""

    def flow(clip: np.ndarray) -> np.ndarray:
        sized = [cv2.resize(frame, (512, 512)).astype(np.float64) @ np.array(weights) for frame in clip]
        grey = [np.rint(frame).astype(np.uint8) for frame in sized]
        return np.asarray(cv2.calcOpticalFlowFarneback(grey[0], grey[1], None, 0.5, 3, 15, 3, 5, 1.2, 0))

    return np.array([np.linalg.norm(flow(t) - flow(p), axis=-1).mean() for p, t in zip(*clips, strict=True)])


def test_the_published_flow_error_exchanges_red_and_blue() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (2, 1, 2, 12, 12, 3), dtype=np.uint8)
    clips = tuple(np.stack([[cv2.resize(f, (64, 64)) for f in clip] for clip in part]) for part in coarse)
    published, ours = (metric(name).per_stimulus(*clips) for name in ("epe_512", "epe_512_luma"))
    assert published == pytest.approx(flow_error(clips, (0.114, 0.587, 0.299)), rel=0.02)  # rounding of grey values
    assert ours == pytest.approx(flow_error(clips, (0.299, 0.587, 0.114)), rel=0.02)
    assert abs(published - ours) > 0.05 * ours
