"""Fits a study with several processes: ``torchrun --nproc_per_node N -m studies.fit_together -c STUDY``.

The networks are trained by all; what has a closed form is computed by each; the first writes. `brain2video train` then
finds the run and registers it.
"""

import argparse
import sys

import torch.distributed

from core.errors import Brain2VideoError
from core.progress import listening
from models.training.workers import workers
from studies.fit import fit
from studies.study import load_study


def main() -> int:
    """Fit, say what is done, and return the exit code: 2 for what a person can mend."""
    parser = argparse.ArgumentParser(prog="studies.fit_together", description=__doc__.splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="the study's YAML")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    try:
        with listening(_say):
            fit(load_study(chosen.config, chosen.overrides))
    except Brain2VideoError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        return 2
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def _say(what: str, done: int, total: int, note: str) -> None:
    """Tell of everything that is finished, once, whatever the number of processes."""
    if done >= total and workers().is_main_process:
        told = f"{what}: {total:,} by {workers().num_processes} processes {note}".rstrip()
        print(told, file=sys.stderr, flush=True)  # noqa: T201 - this is a program


if __name__ == "__main__":
    sys.exit(main())
