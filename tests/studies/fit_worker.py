"""Fits a study, telling of every step of it, for a test that kills it."""

from multiprocessing.connection import Connection
from pathlib import Path

from core.progress import listening
from studies.study import load_study
from studies.training.fit import fit


def main(config: Path, told: Connection) -> None:
    """Send a line for every report; the test counts them."""
    with listening(lambda what, done, total, note: told.send(f"{what}: {done}/{total}")):
        fit(load_study(config))
