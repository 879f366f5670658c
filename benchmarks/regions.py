"""Ridge on one region's voxels, our fit of columns beside the usual one: ``python benchmarks/regions.py``.

The baseline is `models.regressors.ridge.fit_ridge`, exact leave-one-stimulus-out, of the same rows; both choose
one penalty, the same. Imports are not counted.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np


def main() -> None:
    """Print the seconds of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="training stimuli")
    parser.add_argument("--targets", type=int, default=999, help="components of the targets")
    parser.add_argument("--voxels", type=int, nargs="+", default=[150, 4000])
    given = parser.parse_args()
    from models.regressors.ridge import fit_columns, fit_ridge
    from models.regressors.settings import RidgeConfig

    rng, config = np.random.default_rng(0), RidgeConfig(criterion="leave_one_stimulus_out")
    stimuli = [str(index) for index in range(given.rows)]
    print(f"{'voxels':>7}  {'fit_columns':>11}  {'fit_ridge':>9}")
    for voxels in given.voxels:
        features = rng.normal(size=(given.rows, voxels)).astype(np.float32)
        targets = features @ rng.normal(size=(voxels, given.targets)).astype(np.float32)
        targets += 10 * rng.normal(size=targets.shape).astype(np.float32)
        ours, fitted = timed(lambda x=features, y=targets: fit_columns(x, y, stimuli, config))
        theirs, usual = timed(lambda x=features, y=targets: fit_ridge(x, y, stimuli, config.alphas))
        assert fitted.alphas[0] == usual.alphas[0]
        print(f"{voxels:>7}  {ours:>10.2f}s  {theirs:>8.2f}s  {theirs / ours:.1f} ×", flush=True)


def timed(work: Callable[[], object]):
    """Return how long a piece of work takes, the second time, and what it returns."""
    work()
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


if __name__ == "__main__":
    main()
