"""Scores the small world's models by the judge: what of a clip survives each, on combinations never trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.clips import Clip
from core.errors import ModelError
from core.files import write_bytes, write_json
from core.progress import report
from core.seeds import rng_for, seed_for
from evaluation.metrics.frames import psnr
from evaluation.report.sheet import contact_sheet, sheet_png
from models.captioners.settings import BlipCaptionerConfig
from models.classifiers.attributes import AttributeClassifier
from models.extractors.base import OverFrames
from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, LatentsConfig
from models.generator.settings import TextToVideoConfig
from simulation.world import ATTRIBUTES, Combination
from zoo.card import SHOWN
from zoo.corpus import Corpus
from zoo.settings import BLIP, CLIP, JUDGE, TEXT_TO_VIDEO, SmallWorldConfig

if TYPE_CHECKING:
    from models.generator.base import VideoGenerator

SCORES = "scores.json"
STRENGTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
GUIDANCE, STEPS = 2.0, 20

Scores = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """The models of a zoo, with the clips that they are judged by.

    Attributes
    ----------
    judged : clips of the test stimuli's pool, which no model of the zoo was trained on
    z : ndarray
        Their latents.
    """

    folder: Path
    judge: AttributeClassifier
    generator: "VideoGenerator"
    judged: Corpus
    z: NDArray[Any]

    def read(self, clips: NDArray[np.uint8], corpus: Corpus | None = None) -> dict[str, float]:
        """Return the judge's accuracy on clips, by attribute."""
        labels = (corpus or self.judged).labels
        return {name: round(value, 4) for name, value in self.judge.accuracy(clips, labels).items()}


def score_zoo(config: SmallWorldConfig, folder: Path, pictures: Path | None = None) -> Scores:
    """Judge the models of a zoo, write `scores.json` beside them, and draw contact sheets.

    Parameters
    ----------
    folder : what `train_zoo` wrote
    pictures : where the contact sheets go

    Raises
    ------
    ModelError
        The folder lacks a model, or one is damaged.
    """
    frame = (config.clips.frames, config.clips.height, config.clips.width)
    judge = AttributeClassifier.load(folder / JUDGE)
    generator = TextToVideoConfig(weights=TEXT_TO_VIDEO, steps=STEPS, guidance=GUIDANCE).build(folder)
    latents = LatentsConfig(weights=TEXT_TO_VIDEO, frames=frame[0], height=frame[1], width=frame[2]).build(folder)
    seed = config.zoo.seed
    judged = config.draw("test", config.judged, seed_for(seed, "zoo", "judged"))
    bench = Bench(folder, judge, generator, judged, latents.extract(judged.clips).astype(np.float32))
    held_out = config.draw("test", 2 * config.judged, seed_for(seed, "zoo", "judge's own"))
    report("judging the models", 0, 1)
    scores: Scores = {
        "clips": config.judged,
        "pool": "test",
        "judge": bench.read(held_out.clips, held_out),
        "chance": {name: round(1 / len(words), 4) for name, words in ATTRIBUTES.items()},
    }
    round_trip = latents.decode(bench.z)
    scores["round_trip"] = {**bench.read(round_trip), "psnr_db": _psnr(round_trip, judged.clips)}
    written = _text_to_video(bench, judged, seed)
    scores["text_to_video"] = {**bench.read(written), "guidance": GUIDANCE, "steps": STEPS}
    blurred, scores["video_to_video"] = _video_to_video(config, bench, latents)
    scores["captions"] = _captions(bench)
    scores["clip_retrieval"] = _retrieval(bench)
    report("judging the models", 1, 1)
    write_json(folder / SCORES, scores)
    if pictures is not None:
        sheets = {"round_trip": round_trip, "text_to_video": written, "video_to_video": blurred}
        for name, clips in sheets.items():
            _draw(pictures / f"{name}.png", judged.clips, clips, name.replace("_", " "))
    return scores


def _text_to_video(bench: Bench, corpus: Corpus, seed: int) -> NDArray[np.uint8]:
    seeds = [seed_for(seed, "zoo", "render", index) for index in range(len(corpus.clips))]
    empty = np.zeros_like(bench.z)
    return bench.generator.render(empty, corpus.canonical, seeds, strength=1.0)


def _video_to_video(config: SmallWorldConfig, bench: Bench, latents: Any) -> tuple[NDArray[np.uint8], Scores]:
    """Blur true latents as a prediction would be, and render them at the strength that does best on other clips."""
    seed = config.zoo.seed
    known = config.draw("zoo", 5 * config.judged, seed_for(seed, "zoo", "known"))
    tried = config.draw("zoo", config.judged // 2 or 1, seed_for(seed, "zoo", "strength"))
    known_z, tried_z = (latents.extract(one.clips).astype(np.float32) for one in (known, tried))

    def rendered(corpus: Corpus, z: NDArray[Any], strength: float) -> NDArray[np.uint8]:
        seeds = [seed_for(seed, "zoo", "render", index) for index in range(len(z))]
        return bench.generator.render(z, corpus.canonical, seeds, strength=strength)

    def blurred(z: NDArray[Any], what: str) -> NDArray[np.float32]:
        return blur_like_prediction(z, known_z, config.blurred, rng_for(seed, "zoo", "blur", what))

    tried_blurred, judged_blurred = blurred(tried_z, "strength"), blurred(bench.z, "judged")
    curve = {s: bench.read(rendered(tried, tried_blurred, s), tried) for s in STRENGTHS}
    best = max(STRENGTHS, key=lambda s: curve[s]["shape"] + curve[s]["motion"])
    clips, decoded = rendered(bench.judged, judged_blurred, best), latents.decode(judged_blurred)
    scores = {
        **bench.read(clips),
        "psnr_db": _psnr(clips, bench.judged.clips),
        "strength": best,
        "guidance": GUIDANCE,
        "steps": STEPS,
        "correlation": config.blurred,
        "blurred": {**bench.read(decoded), "psnr_db": _psnr(decoded, bench.judged.clips)},
        "validation": {str(strength): values for strength, values in curve.items()},
    }
    return clips, scores


def _captions(bench: Bench) -> Scores:
    """Return the part of attributes that captions of true tokens name, frames one after the other and averaged."""
    captioner = BlipCaptionerConfig(weights=BLIP).build(bench.folder)
    scores: Scores = {}
    for over_frames in OVER_FRAMES:
        tokens = BlipStatesConfig(weights=BLIP, over_frames=over_frames).build(bench.folder)
        scores[over_frames] = named_attributes(captioner.caption(tokens.extract(bench.judged.clips)), bench.judged)
    return scores


OVER_FRAMES: tuple[OverFrames, ...] = ("concatenate", "mean")


def named_attributes(captions: Sequence[str], truth: Corpus) -> dict[str, float]:
    """Return the part of captions that name each attribute rightly; one that is no sentence of the world names none."""
    read = [Combination.read(caption) for caption in captions]
    true = [Combination.read(caption) for caption in truth.canonical]
    return {
        name: round(float(np.mean([one is not None and getattr(one, name) == getattr(other, name)
                                   for one, other in zip(read, true, strict=True)])), 4)
        for name in ATTRIBUTES
    }  # fmt: skip


def _retrieval(bench: Bench) -> Scores:
    """Return which attributes the nearest caption of CLIP shares with a clip; motion is not in a frame."""
    from models.extractors.vision import caption_embeddings

    seen = ClipStatesConfig(weights=CLIP).build(bench.folder).extract(bench.judged.clips).astype(np.float32)
    words = caption_embeddings(bench.folder / CLIP, bench.judged.canonical)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    nearest = (seen @ words.T).argmax(axis=1)
    right = (bench.judged.labels[nearest] == bench.judged.labels).mean(axis=0)
    return {name: round(float(value), 4) for name, value in zip(ATTRIBUTES, right, strict=True) if name != "motion"}


def _psnr(clips: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    return round(float(psnr(clips, truth, None).mean()), 2)


def _draw(path: Path, seen: Sequence[Clip] | Clip, made: Sequence[Clip] | Clip, label: str) -> None:
    sheet = contact_sheet(seen[:SHOWN], made[:SHOWN], columns=4, frames=4, side=64, labels=("true", label))
    write_bytes(path, sheet_png(sheet))


def blur_like_prediction(
    values: NDArray[Any], known: NDArray[Any], correlation: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the best linear estimate of targets from noisy observations of them, at a given mean correlation.

    Every principal component of the known targets is seen with white noise of one size and shrunk by Wiener's factor
    ``λ / (λ + σ²)``, which is what ridge regression from many noisy voxels comes to; σ is found by bisection.

    Parameters
    ----------
    values : (n, ...) targets to blur
    known : (m, ...) training targets: their mean and components are what a regression would know
    correlation : mean over rows of the correlation of blurred with true, the known mean taken out, to within .002

    Raises
    ------
    ModelError
        The correlation is not between 0 and 1, or the components of the known targets cannot reach it.
    """
    if not 0 < correlation < 1:
        raise ModelError(f"correlation {correlation}: must lie between 0 and 1")
    rows = np.asarray(known, dtype=np.float64).reshape(len(known), -1)
    mean = rows.mean(axis=0)
    _, sizes, components = np.linalg.svd(rows - mean, full_matrices=False)
    variances = sizes**2 / max(1, len(rows) - 1)
    true = np.asarray(values, dtype=np.float64).reshape(len(values), -1) - mean
    scores = true @ components.T
    noise = rng.standard_normal(scores.shape)

    def blurred(sigma: float) -> NDArray[np.float64]:
        return np.asarray((scores + sigma * noise) * (variances / (variances + sigma**2)) @ components)

    low, high = 1e-6 * float(np.sqrt(variances[0])), 1e3 * float(np.sqrt(variances[0]))
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _correlation(blurred(middle), true) > correlation else (low, middle)
    if abs(_correlation(blurred(low), true) - correlation) > 0.002:
        raise ModelError(
            f"correlation {correlation}: {len(known)} known targets reach {_correlation(blurred(low), true):.3f} only"
        )
    return np.asarray((blurred(low) + mean).reshape(values.shape), dtype=np.float32)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())
