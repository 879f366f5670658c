"""The machine that computes, as far as it may show in what is computed."""

import av
import numpy as np
import torch
from pydantic import PositiveInt
from threadpoolctl import threadpool_info

from core.config import Config


class Machine(Config):
    """What may show in the last bit of what was computed."""

    torch: str
    numpy: str
    av: str
    processor: str
    gpu: str | None = None
    threads: PositiveInt
    blas_threads: PositiveInt


def this_machine() -> Machine:
    """Return what of this machine may show in the last bit."""
    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    kinds = {str(pool.get("architecture", pool["internal_api"])) for pool in blas}
    return Machine(
        torch=torch.__version__,
        numpy=np.__version__,
        av=av.__version__,
        processor=" ".join([torch.backends.cpu.get_cpu_capability(), *sorted(kinds)]),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        threads=torch.get_num_threads(),
        blas_threads=max((int(pool["num_threads"]) for pool in blas), default=1),
    )
