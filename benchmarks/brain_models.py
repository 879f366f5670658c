"""What brain models cost: ridge beside scikit-learn's and himalaya's, masked brain modelling beside ViTMAE's layers.

Run it as ``python benchmarks/brain_models.py [ridge | regions | mbm] [options of that part]``; without a part, all run.

`ridge`: all get the same float32 matrices, intercept and 20 penalties, and each runs in a process of its own, in turn
over rounds, after a fit of a few rows that loads its libraries. They do not choose penalties alike: this ridge by
generalised cross-validation or exactly by leaving each stimulus out; scikit-learn, which calls it GCV, exactly by
leaving each row out; himalaya by its default, 5 folds. CPU seconds are those of all threads: they hold on a busy
machine too. Memory is the peak while fitting over what the process held before.

`regions`: ridge on one region's voxels, our fit of columns; the baseline is `models.regressors.ridge.fit_ridge`,
exact leave-one-stimulus-out, of the same rows. Both choose one penalty, the same. Imports are not counted.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

Array = np.ndarray[Any, Any]
Predict = Callable[[Array], Array]
PENALTIES = np.logspace(-4, 4, 20)
HELD_OUT = 200
BATCH = 4096


def ours(features: Array, targets: Array, unit: float, criterion: Any = "gcv") -> Predict:  # noqa: ARG001
    """Fit this project's ridge; its penalties are in units of the mean eigenvalue already."""
    from models.regressors.ridge import fit_ridge

    names = [f"s{row}" for row in range(len(features))]
    return fit_ridge(features, targets, names, list(PENALTIES), criterion=criterion, penalty_per="target").predict


def scikit_learn(features: Array, targets: Array, unit: float) -> Predict:
    """Fit scikit-learn's ridge."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=PENALTIES * unit, alpha_per_target=True).fit(features, targets).predict


def himalaya(features: Array, targets: Array, unit: float, backend: str) -> Predict:
    """Fit himalaya's kernel ridge, which it recommends for more features than rows, in batches that fit into memory."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV

    chosen = set_backend(backend)
    batches = {"n_targets_batch": BATCH, "n_targets_batch_refit": BATCH}
    model = KernelRidgeCV(
        alphas=(PENALTIES * unit).astype(np.float32), fit_intercept=True, solver_params=batches, warn=False
    )
    model.fit(features, targets)
    return lambda fresh: np.asarray(chosen.to_numpy(model.predict(fresh)))


CONTENDERS = {
    "ours": ("this ridge", "GCV", ours),
    "ours-loso": ("this ridge", "leave one out, exact", partial(ours, criterion="leave_one_stimulus_out")),
    "sklearn": ("scikit-learn RidgeCV", "leave one out, exact", scikit_learn),
    "himalaya": ("himalaya KernelRidgeCV, numpy", "5 folds", partial(himalaya, backend="numpy")),
    "himalaya-torch": ("himalaya KernelRidgeCV, torch", "5 folds", partial(himalaya, backend="torch")),
}


def ridge() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--features", type=int, default=3000)
    parser.add_argument("--targets", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="3,000 × 14,672 → 65,340 values, one round")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.fit:
        print(json.dumps(fit_one(chosen.fit[0], Path(chosen.fit[1]))))
        return
    if chosen.full:
        chosen.rows, chosen.features, chosen.targets, chosen.rounds = 3000, 14_672, 65_340, 1
    with tempfile.TemporaryDirectory(prefix="ridge-benchmark-") as folder:
        write_problem(Path(folder), chosen.rows, chosen.features, chosen.targets)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen.only}
        for _ in range(chosen.rounds):
            for name in chosen.only:
                found[name].append(in_own_process(name, Path(folder)))
    show(found, f"{chosen.rows:,} rows × {chosen.features:,} features → {chosen.targets:,} targets, 20 penalties")


def write_problem(folder: Path, rows: int, features: int, targets: int) -> None:
    """Write features of falling variance, and targets that follow from them between not at all and well."""
    rng = np.random.default_rng(0)
    rank, count = 200, rows + HELD_OUT
    hidden = rng.standard_normal((count, rank), np.float32) * np.linspace(2, 0.2, rank, dtype=np.float32)
    x = hidden @ rng.standard_normal((rank, features), np.float32) / 10
    x += rng.standard_normal((count, features), np.float32) + 1
    y = hidden @ rng.standard_normal((rank, targets), np.float32)
    y *= np.linspace(0, 0.3, targets, dtype=np.float32)
    for row in y:
        row += rng.standard_normal(targets, np.float32) + 2
    for name, values in (("x", x), ("y", y)):
        np.save(folder / f"{name}-train.npy", values[:rows])
        np.save(folder / f"{name}-test.npy", values[rows:])


def in_own_process(name: str, folder: Path) -> dict[str, float]:
    """Fit one contender in a fresh process and return what it measured."""
    command = [sys.executable, __file__, "ridge", "--fit", name, str(folder)]
    root = str(Path(__file__).resolve().parents[1])
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    measured: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return measured


def fit_one(name: str, folder: Path) -> dict[str, float]:
    """Fit one contender and return seconds, GB and R² on held-out rows."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    features, targets = np.load(folder / "x-train.npy"), np.load(folder / "y-train.npy")
    unit = float(features.var(axis=0, dtype=np.float64).sum())
    fit = CONTENDERS[name][2]
    fit(features[:40], targets[:40, :10], unit)
    before, start, busy = peak(), time.perf_counter(), time.process_time()
    predict = fit(features, targets, unit)
    seconds, busy, after = time.perf_counter() - start, time.process_time() - busy, peak()
    truth = np.load(folder / "y-test.npy")
    error = ((predict(np.load(folder / "x-test.npy")) - truth) ** 2).sum(axis=0)
    r2 = float((1 - error / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)).mean())
    return {"seconds": seconds, "cpu": busy, "extra": after - before, "peak": after, "r2": r2}


def peak() -> float:
    """Return the most memory this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def show(found: dict[str, list[dict[str, float]]], title: str) -> None:
    """Print medians over rounds, time as a multiple of the first contender's in the same round."""
    table = Table(title=title)
    for column in ("ridge", "penalties by", "seconds", "× time", "CPU s", "GB more", "GB in all", "mean R²"):
        table.add_column(column, justify="left" if column in ("ridge", "penalties by") else "right")
    base = next(iter(found.values()))
    for name, rounds in found.items():
        ratio = statistics.median(one["seconds"] / first["seconds"] for one, first in zip(rounds, base, strict=True))
        middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        figures = (middle["seconds"], ratio, middle["cpu"], middle["extra"], middle["peak"])
        table.add_row(*CONTENDERS[name][:2], *(f"{figure:.2f}" for figure in figures), f"{middle['r2']:.4f}")
    Console(width=120).print(table)


def regions() -> None:
    """Print the seconds of our fit of one region's columns and of the usual one, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000, help="training stimuli")
    parser.add_argument("--targets", type=int, default=999, help="components of the targets")
    parser.add_argument("--voxels", type=int, nargs="+", default=[150, 4000])
    given = parser.parse_args()
    from models.regressors.ridge import fit_ridge
    from models.regressors.ridge_columns import fit_columns
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


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a piece of work takes, the second time, and what it returns."""
    work()
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def mbm() -> None:
    """Measure masked brain modelling; torch is imported only here, as memory is measured above."""
    from _brain_mbm import main as measure

    measure()


PARTS = {"ridge": ridge, "regions": regions, "mbm": mbm}


def main() -> None:
    """Run one part with its own options, or all as they are."""
    wanted = [sys.argv.pop(1)] if sys.argv[1:2] and sys.argv[1] in PARTS else PARTS
    for part in wanted:
        PARTS[part]()


if __name__ == "__main__":
    main()
