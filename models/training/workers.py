"""The processes that train together: one by default, several under ``torchrun --nproc_per_node N``."""

import os
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from core.errors import ModelError

Rows = TypeVar("Rows", NDArray[np.int64], torch.Tensor)


@cache
def workers() -> Accelerator:
    """Return Accelerate's view of the processes and of this one's device.

    Raises
    ------
    ModelError
        The launcher started another number of processes than take part; ``accelerate launch --cpu`` does so silently.
    """
    found = Accelerator(cpu=not torch.cuda.is_available())
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if found.num_processes != wanted:
        raise ModelError(
            f"training: {wanted} processes were launched and {found.num_processes} take part; "
            "launch with 'torchrun --nproc_per_node N'"
        )
    return found


def mine(rows: Rows) -> Rows:
    """Return this process's share of a batch that every process has drawn alike: every N-th row.

    Raises
    ------
    ModelError
        The batch cannot be dealt out evenly, so that the mean over processes would not be the mean over rows.
    """
    count = workers().num_processes
    if len(rows) % count:
        raise ModelError(f"training: a batch of {len(rows)} rows over {count} processes; make it a multiple of them")
    return rows[workers().process_index :: count]


def average_gradients(weights: list[torch.nn.Parameter]) -> None:
    """Average the gradients over the processes, in one message; a weight that none has used stays without."""
    if workers().num_processes == 1:
        return
    used = [weight for weight in weights if weight.grad is not None]
    flat = torch.cat([weight.grad.flatten() for weight in used])
    flat = workers().reduce(flat, reduction="mean")
    for weight, part in zip(used, flat.split([weight.numel() for weight in used]), strict=True):
        weight.grad.copy_(part.view_as(weight))


def average(value: torch.Tensor) -> float:
    """Return the mean of a scalar over the processes."""
    together = value.detach() if workers().num_processes == 1 else workers().reduce(value.detach(), reduction="mean")
    return float(together.item())
