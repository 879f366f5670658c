"""What a ridge with a penalty for each target costs: time, memory and R² beside scikit-learn's and himalaya's.

Run it as ``OMP_NUM_THREADS=1 python benchmarks/brain_models.py ridge [--full] [--only ours]``. All get the same float32
matrices, intercept and 20 penalties, and each runs in a process of its own, in turn over rounds, after a fit of a few
rows that loads its libraries. They do not choose penalties alike: this ridge by generalised cross-validation or exactly
by leaving each stimulus out; scikit-learn, which calls it GCV, exactly by leaving each row out; himalaya by its
default, 5 folds. CPU seconds are those of all threads: they hold on a busy machine too. Memory is the peak while
fitting over what the process held before.
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


def ours_left_out(features: Array, targets: Array, unit: float) -> Predict:
    """Fit this project's ridge with its exact criterion."""
    return ours(features, targets, unit, "leave_one_stimulus_out")


def scikit_learn(features: Array, targets: Array, unit: float) -> Predict:
    """Fit scikit-learn's ridge."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=PENALTIES * unit, alpha_per_target=True).fit(features, targets).predict


def himalaya_numpy(features: Array, targets: Array, unit: float) -> Predict:
    """Fit himalaya's kernel ridge, which it recommends for more features than rows, on numpy."""
    return himalaya("numpy", features, targets, unit)


def himalaya_torch(features: Array, targets: Array, unit: float) -> Predict:
    """Fit himalaya's kernel ridge on torch, CPU."""
    return himalaya("torch", features, targets, unit)


def himalaya(backend: str, features: Array, targets: Array, unit: float) -> Predict:
    """Fit himalaya's kernel ridge, its targets and penalties in batches so that they fit into memory."""
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
    "ours-loso": ("this ridge", "leave one out, exact", ours_left_out),
    "sklearn": ("scikit-learn RidgeCV", "leave one out, exact", scikit_learn),
    "himalaya": ("himalaya KernelRidgeCV, numpy", "5 folds", himalaya_numpy),
    "himalaya-torch": ("himalaya KernelRidgeCV, torch", "5 folds", himalaya_torch),
}


def main() -> None:
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
    command = [sys.executable, __file__, "--fit", name, str(folder)]
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


if __name__ == "__main__":
    main()
