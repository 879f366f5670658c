"""Fits a study by several processes, for a test that kills it: ``python together_worker.py CONFIG TOGETHER_JSON``."""

import sys

from core.progress import listening
from models.training.settings import DistributedConfig
from studies.study import load_study
from studies.training.distributed import fit_distributed


def tell(what: str, done: int, total: int, note: str) -> None:
    """Print a line; the test reads them."""
    print(f"{what}: {done}/{total}", flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    with listening(tell):
        fit_distributed(load_study(sys.argv[1]), DistributedConfig.model_validate_json(sys.argv[2]))
