"""Scoring 102 clips by all metrics that need no network: ``python benchmarks/scoring.py``.

One row, then the whole table of a report (seven rows; the shuffled brain over 20 orders, 4 for metrics of frames), at
the small world's size and at the one that published figures are mostly taken at. Baselines: scikit-image's SSIM, and a
loop over the draws of a bootstrap. Imports are not counted.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

SIZES = {"small": (8, 32, 32), "published": (8, 256, 256), "zeroscope": (24, 320, 576)}
ROWS = ("reconstruction", "nearest_training_clip", "prior", "mean_predictor", "noise_ceiling", "oracle")


def main() -> None:
    """Print the seconds of each, and the ratios to the baselines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=102)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["small", "published"])
    parser.add_argument(
        "--slow", action="store_true", help="with optical flow at 512 × 512, which is asked for by name"
    )
    given = parser.parse_args()
    print(f"{'clips':>5} {'size':>16}  {'one row':>9}  {'whole report':>12}  {'SSIM':>8}  {'scikit-image':>12}")
    for size in given.sizes:
        measure(given.clips, SIZES[size], slow=given.slow)
    bootstrap()


def measure(n: int, size: tuple[int, int, int], *, slow: bool) -> None:
    """Print what one row, a whole report and SSIM take at a size."""
    from skimage.metrics import structural_similarity

    from evaluation.config import ONLY_WHERE_NAMED, EvaluationConfig
    from evaluation.metrics import metric
    from evaluation.statistics.scores import per_stimulus
    from evaluation.statistics.table import Table

    rng = np.random.default_rng(0)
    truth = spaces(rng, n, size)
    config = EvaluationConfig()
    asked = config.metrics + (ONLY_WHERE_NAMED if slow else ())
    config = config.model_copy(update={"metrics": asked})
    one_row = seconds(lambda: per_stimulus({"row": spaces(rng, n, size)}, truth, metrics=asked))

    def report() -> None:
        table = Table(truth, config, seed=0)
        for row in ROWS:
            table.add(row, spaces(rng, n, size))
        table.report()

    whole = seconds(report)
    few = max(1, min(n, 10))
    pair = spaces(rng, few, size)["pixels"], truth["pixels"][:few]
    ours = seconds(lambda: metric("ssim").per_stimulus(*pair)) * n / few

    def theirs() -> None:
        for a, b in zip(*pair, strict=True):
            for x, y in zip(a, b, strict=True):
                structural_similarity(x, y, channel_axis=-1, data_range=255)

    baseline = seconds(theirs) * n / few
    shown = " × ".join(map(str, size))
    ratio = f"{baseline / ours:.1f} ×"
    print(
        f"{n:>5} {shown:>16}  {one_row:>8.1f}s  {whole:>11.1f}s  {ours:>7.1f}s  {baseline:>8.1f}s {ratio:>5}",
        flush=True,
    )


def spaces(rng: np.random.Generator, n: int, size: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Return what metrics look at of n clips: pixels, latents, embeddings, classes, attributes and captions."""
    clips = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    latents = rng.normal(size=(n, 8, 4, 8, 8)).astype(np.float32)
    words = rng.choice(["a", "red", "blue", "star", "ring", "moving", "left", "over", "striped"], (n, 10))
    return {
        "pixels": clips,
        "latents": latents,
        "latents_centred": latents,
        "clip_frames": rng.normal(size=(n, size[0], 512)).astype(np.float32),
        "video_classes": rng.normal(size=(n, 400)).astype(np.float32),
        "frame_classes": rng.normal(size=(n, size[0], 1000)).astype(np.float32),
        "video_attributes": rng.integers(0, 6, (n, 6)),
        "captions": np.array([" ".join(line) for line in words], dtype=object),
    }


def bootstrap() -> None:
    """Print what an interval takes, and a loop over 2,000 draws of a bootstrap beside it."""
    from evaluation.statistics.intervals import mean_interval

    values = np.random.default_rng(0).normal(size=102)
    ours = seconds(lambda: [mean_interval(values) for _ in range(50)]) / 50

    def loop() -> None:
        rng = np.random.default_rng(0)
        np.quantile([values[rng.integers(0, 102, 102)].mean() for _ in range(2000)], [0.025, 0.975])

    theirs = seconds(loop)
    times = f"{1000 * ours:.1f} ms; a loop {1000 * theirs:.1f} ms, {theirs / ours:.0f} ×"
    print(f"interval of 102 values: {times}")


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
