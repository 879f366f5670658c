"""Fits a study, telling of every step of it, for a test that kills it: ``python fit_worker.py CONFIG``."""

import sys

from core.progress import listening
from studies.study import load_study
from studies.training.fit import fit


def tell(what: str, done: int, total: int, note: str) -> None:
    """Print a line; the test counts them."""
    print(f"{what}: {done}/{total}", flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    with listening(tell):
        fit(load_study(sys.argv[1]))
