"""A run as it could be, to look at its gallery: clips of the small world, with scores, doubts and notes."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from evaluation.diagnoses.recall import dimension_report, split_by_distance
from evaluation.report.charts.diagnoses import diagnosis_chart
from evaluation.report.gallery.page import GalleryFigure, GalleryItem
from evaluation.report.verdict import verdict
from evaluation.statistics.scores import RECONSTRUCTION, comparisons, report, summarise
from simulation.world import COLOURS, SHAPES, World, draw_jitter, render

N, FRAMES, SIDE, FPS = 102, 8, 32, 8 / 3
MISSING = (4, 11, 40)
"""Clips without a value of the last score."""
MEANS = {
    "pixels.two_way": (0.94, 0.71, 0.55, 0.50, 0.50, 0.98, 1.0, 0.06),
    "pixels.correlation": (0.61, 0.22, 0.05, 0.06, 0.00, 0.86, 0.99, 0.12),
    "frames.ssim": (0.55, 0.31, 0.16, 0.15, 0.16, 0.71, 0.95, 0.08),
    "frames.psnr": (18.4, 12.1, 9.3, 7.6, 9.1, 22.8, 29.7, 2.5),
    "latents.two_way": (0.97, 0.80, 0.51, 0.50, 0.51, 0.99, 1.0, 0.04),
    "latents_centred.retrieval_10": (0.81, 0.48, 0.10, 0.10, 0.10, 0.93, 1.0, 0.11),
    "clip.two_way": (0.88, 0.77, 0.53, 0.50, 0.50, 0.95, 0.99, 0.09),
    "clip_frames.similarity": (0.83, 0.79, 0.74, 0.70, 0.71, 0.90, 0.97, 0.05),
    "clip_frames.consistency_adjacent": (0.93, 0.96, 0.95, 0.99, 0.93, 0.95, 0.96, 0.02),
    "video_attributes.attribute_accuracy": (0.71, 0.58, 0.27, 0.26, 0.28, 0.90, 0.97, 0.15),
    "video_classes.top_1_of_50": (0.31, 0.22, 0.05, 0.02, 0.03, 0.62, 0.88, 0.2),
    "captions.meteor": (0.74, 0.61, float("nan"), 0.33, 0.41, 0.88, 0.95, 0.12),
}
"""The means of the rows of `MEANS_OF` in their order, and how far clips stray from them."""
MEANS_OF = (
    "reconstruction",
    "nearest_training_clip",
    "prior",
    "mean_predictor",
    "shuffled_brain",
    "noise_ceiling",
    "oracle",
)
BETWEEN = {
    **{"category": 0.5, "still": 0.95, "shuffled_frames": 1.0, "caption_only": 0.7, "z_only": 0.9},
    **{"time_only": 0.02, "nuisance": 0.01, "other_brain": 0.3},
}
"""Further controls, by how far each lies on the way from the shuffled brain to the reconstruction."""
LAST = "captions.meteor"


def content() -> dict[str, Any]:
    """A run as it could be: clips of the small world, blurred and sometimes wrong, and scores that go with it."""
    rng = np.random.default_rng(7)
    true = World().draw("test", N, seed=3)
    wrong = [
        replace(one, shape=str(rng.choice(SHAPES)), colour=str(rng.choice([c for c in COLOURS if c != one.background])))
        if chance > 0.55
        else one
        for one, chance in zip(true, rng.random(N), strict=True)
    ]
    seen = render(true, draw_jitter(N, 5, 0.08), FRAMES, SIDE, SIDE)
    made = np.stack([soften(clip, rng) for clip in render(wrong, draw_jitter(N, 6, 0.16), FRAMES, SIDE, SIDE)])
    values = draw_values(rng)
    written = {
        **{"rows": summarise(values, truth={"video_classes": np.zeros((N, 400))})},
        **{"comparisons": comparisons_with_all(values), "permutations": 20},
        **{"notes": ["Frames are aligned by time: 8 instants of the middle of each third of a second.",
                     "Three clips have no caption and are not scored by METEOR."]},
        **{"models": "encoder v10, regressor-z v10, regressor-b v10", "subject": "sub-01"},
    }  # fmt: skip
    diagnoses, figure = doubt(rng, values)
    whole = report("demo", "20261125-063613-7b04ba", N, written.pop("rows"), **written, diagnoses=diagnoses)
    items = [
        GalleryItem(
            stimulus=f"{401 + k:04d}",
            seen=seen[k],
            reconstructed=made[k],
            seen_file=f"seen/{401 + k:04d}.mp4",
            reconstructed_file=f"videos/{401 + k:04d}.mp4",
            true_caption=true[k].captions(1)[0],
            decoded_caption=wrong[k].captions(1)[0],
            scores={name: float(one[k]) for name, one in values["reconstruction"].items()},
            facts={
                "nearest training clip": "0132 (1 − r = 0.41)",
                "models": "encoder v10, regressor-z v10",
                "seed": "0",
            },
        )
        for k in range(N)
    ]
    return {
        "title": "demo: sub-01",
        "verdict": verdict(whole),
        "report": whole,
        "items": items,
        "fps": FPS,
        "figures": [figure],
    }


def soften(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur a clip and add noise, as reconstructions look."""
    blurred = [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(0.8))) for frame in clip]
    noise = np.kron(rng.normal(0, 9, size=(8, 8, 3)), np.ones((4, 4, 1)))
    return (np.stack(blurred) + noise).clip(0, 255).astype(np.uint8)


def comparisons_with_all(values: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Compare the reconstruction with every row, under the name of a control that is always compared."""
    ours = values[RECONSTRUCTION]
    return {
        row: comparisons({RECONSTRUCTION: ours, "prior": values[row]}, seed=0)["prior"]
        for row in values
        if row != RECONSTRUCTION
    }


def draw_values(rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    quality = rng.normal(size=N)
    values: dict[str, dict[str, np.ndarray]] = {row: {} for row in (*MEANS_OF, *BETWEEN)}
    for name, (*means, spread) in MEANS.items():
        top = 60.0 if name.endswith("psnr") else 1.0
        means_of = dict(zip(MEANS_OF, means, strict=True))
        best, worst = means_of[RECONSTRUCTION], means_of["shuffled_brain"]
        for row, mean in {**means_of, **{row: worst + way * (best - worst) for row, way in BETWEEN.items()}}.items():
            if np.isfinite(mean):
                drawn = mean + spread * (0.6 * quality + 0.8 * rng.normal(size=N))
                values[row][name] = np.round(drawn.clip(-1.0, top), 3)
    values["reconstruction"][LAST][list(MISSING)] = np.nan
    return values


def doubt(rng: np.random.Generator, values: dict[str, dict[str, np.ndarray]]) -> tuple[dict[str, Any], GalleryFigure]:
    truth = rng.normal(size=(N, 40)) * np.linspace(2, 0.2, 40)
    guess = truth * np.linspace(1, 0.1, 40) + 0.2 * rng.normal(size=truth.shape)
    distance = rng.uniform(0.15, 0.8, size=N)
    chances = {name: 0.5 for name in MEANS if name.endswith("two_way")}
    splits = split_by_distance(values["reconstruction"], distance, seed=0, chances=chances)
    examples = [
        {"test": "0417", "train": "0032", "distance": 0.14},
        {"test": "0455", "train": "0210", "distance": 0.19},
    ]
    leaks = {
        "stimuli": {"count": 0, "examples": []},
        "clips": {"count": 2, "threshold": 0.2, "nearest": 0.14, "examples": examples},
        "captions": {"count": 1, "examples": ["a large red circle growing over a plain blue background"]},
    }
    diagnoses = {
        "dimension": {"latents": dimension_report(guess, truth), "clip": dimension_report(guess[:, :9], truth[:, :9])},
        "distance": {"space": "latents_centred", "metrics": splits},
        "leaks": leaks,
    }
    scored = values["reconstruction"]["pixels.two_way"]
    split = splits["pixels.two_way"]
    image = diagnosis_chart(guess, truth, distance, scored, label="pixels, two-way", chance=0.5, split=split)
    note = "Scores that fall with the distance are a sign of recall (Shirakawa et al., arXiv 2405.10078)."
    return diagnoses, GalleryFigure(
        "Is it more than recall?", image, "Left: dimensions. Right: scores by distance.", note
    )
