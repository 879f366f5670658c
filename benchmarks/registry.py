"""Resolving, verifying and loading a production set, and hashing its files: ``python benchmarks/registry.py``.

A set of the given size is registered in a local store of its own. Each loading is in this process, imports excluded;
the baseline is the SHA-256 of the same files. Every repetition reads through the system's cache, as a second use would.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def main() -> None:
    """Print the seconds of both, their difference and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 100, 1000], help="size of the regressor")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    print(f"{'size':>8}  {'hashing':>8}  {'resolve + verify + load':>24}  {'.5 s + 1.3 × hashing':>21}")
    for size in given.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            hashing, loading = measure(Path(folder), size, given.repeats)
        allowed = 0.5 + 1.3 * hashing
        verdict = "met" if loading <= allowed else "NOT met"
        print(f"{size:>5} MB  {hashing:>7.3f}s  {loading:>23.3f}s  {allowed:>20.3f}s  {verdict}", flush=True)


def measure(folder: Path, megabytes: int, repeats: int) -> tuple[float, float]:
    """Return the median seconds of hashing a set's files, and of resolving, verifying and loading it."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/store/mlflow.db"
    from core.files import digest_folder
    from models.registry.production import fetch, resolve, set_production
    from models.registry.register import register

    parts = ["encoder", "regressor-z"]
    trained = make_set(folder, megabytes)
    chosen = register(trained)
    set_production(chosen, None, expected=dict.fromkeys(parts), why="benchmark")
    hashing = median(lambda: [digest_folder(one) for one in trained.folders.values()], repeats)
    loading = median(lambda: fetch(resolve("bench", parts)), repeats)
    return hashing, loading


def median(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of a piece of work, once more than counted."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def make_set(folder: Path, megabytes: int):
    """Fit and save a ridge regression whose file is about as large as asked for."""
    from models.decoders.build import save_part
    from models.decoders.rows import BrainRows
    from models.encoders.linear import Standardise
    from models.encoders.settings import StandardiseConfig
    from models.registry.sets import TrainedSet
    from models.regressors.ridge import Ridge, fit_ridge

    rng = np.random.default_rng(0)
    names = [str(index) for index in range(100)]
    responses = rng.normal(size=(100, 200)).astype(np.float32)
    targets = rng.normal(size=(100, megabytes * 2500)).astype(np.float32)
    encoder = Standardise.fit(StandardiseConfig(), {"sub-01": BrainRows(responses, names)})
    features = encoder.encode("sub-01", responses)
    ridge = Ridge("latents", (targets.shape[1],), {"sub-01": fit_ridge(features, targets, names, [1.0])})
    folders = {"encoder": folder / "encoder", "regressor-z": folder / "regressor-z"}
    digests = {
        "encoder": save_part(folders["encoder"], encoder),
        "regressor-z": save_part(folders["regressor-z"], ridge),
    }
    one = ridge.predict("sub-01", features[:1])
    return TrainedSet(
        study="bench",
        run="run",
        folders=folders,
        digests=digests,
        examples={"encoder": (responses[:1], features[:1]), "regressor-z": (features[:1], one)},
        record={"fingerprint": "f", "subjects": ["sub-01"]},
        metrics={},
        artifacts=[],
    )


if __name__ == "__main__":
    main()
