"""The processes that train together: one by default, several under ``torchrun --nproc_per_node N``."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object
from numpy.typing import NDArray
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from core.errors import ModelError
from core.files import digest_json
from models.training.checkpoints import difference

Rows = TypeVar("Rows", NDArray[np.int64], torch.Tensor)
Value = TypeVar("Value")

PEER_TIMEOUT_S = "BRAIN2VIDEO_PEER_TIMEOUT_S"
"""Environment variable by which a launcher hands on `DistributedConfig.timeout_s`."""


@cache
def workers() -> Accelerator:
    """Return Accelerate's view of the processes and of this one's device.

    A process that hears nothing of the others for `PEER_TIMEOUT_S` seconds gives them up.

    Raises
    ------
    ModelError
        The launcher started another number of processes than take part; ``accelerate launch --cpu`` does so silently.
    """
    timeout = timedelta(seconds=float(os.environ.get(PEER_TIMEOUT_S, "1800")))
    found = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)])
    wanted, there = int(os.environ.get("WORLD_SIZE", "1")), found.num_processes
    if there == wanted > 1:  # what they answer counts, not what they were told
        there = int(found.reduce(torch.ones(1, device=found.device), reduction="sum").item())
    if there != wanted:
        raise ModelError(
            f"training: {wanted} processes were launched and {there} take part; launch with 'brain2video train "
            "--processes N' or 'torchrun --nproc_per_node N'"
        )
    return found


def require_alike(what: str, own: Any, do: str) -> None:
    """Refuse to train together where the processes differ.

    Parameters
    ----------
    what : what they must have in common
    own : this process's, as a value of JSON
    do : what to do about it

    Raises
    ------
    ModelError
        Another process has another one; the message names the first such, its host, and the first difference.
    """
    if workers().num_processes == 1:
        return
    (first, where), *others = gather_object([(own, socket.gethostname())])
    for rank, (other, host) in enumerate(others, start=1):
        if digest_json(other) != digest_json(first):
            raise ModelError(
                f"training: rank {rank} on {host} has another {what} than rank 0 on {where}: "
                f"{difference(first, other)}; {do}"
            )


def local_shard(rows: Rows, *, evenly: bool = True) -> Rows:
    """Return this process's share of a batch that every process has drawn alike: every N-th row.

    Parameters
    ----------
    evenly : whether all shares must be equally large, as they must where the loss is a mean over a process's rows

    Raises
    ------
    ModelError
        The batch cannot be dealt out evenly, so that the mean over processes would not be the mean over rows.
    """
    count = workers().num_processes
    if evenly and len(rows) % count:
        raise ModelError(f"training: a batch of {len(rows)} rows over {count} processes; make it a multiple of them")
    return rows[workers().process_index :: count]


def all_gather(own: torch.Tensor, count: int) -> torch.Tensor:
    """Return the rows of the whole batch, (count, …), from what every process has made of its share by `local_shard`.

    For losses that hold each row against all others: every process computes the loss of the whole batch, and what
    flows back to each is the gradient of its own rows, times the number of processes, over which `average_gradients`
    takes the mean.
    """
    if workers().num_processes == 1:
        return own
    together: torch.Tensor = _AllGather.apply(own, count)
    return together


class _AllGather(torch.autograd.Function):  # type: ignore[misc]
    """Places rows among zeros and sums over processes, which takes shares of any size and keeps every bit."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, count: int) -> torch.Tensor:
        del ctx
        batch = own.new_zeros(count, *own.shape[1:])
        batch[workers().process_index :: workers().num_processes] = own
        together: torch.Tensor = workers().reduce(batch, reduction="sum")
        return together

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        del ctx
        return local_shard(gradient, evenly=False) * workers().num_processes, None


def average_gradients(weights: list[torch.nn.Parameter]) -> None:
    """Average the gradients over the processes, in one message; a weight that none has used stays without."""
    if workers().num_processes > 1:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        vector_to_parameters(workers().reduce(parameters_to_vector(gradients), reduction="mean"), gradients)


def average(value: torch.Tensor) -> float:
    """Return the mean of a scalar over the processes."""
    return float(workers().reduce(value.detach(), reduction="mean").item())


def broadcast(value: Value) -> Value:
    """Return the first process's value, such as a number that processors may round differently."""
    values = [value]
    if workers().num_processes > 1:
        broadcast_object_list(values)
    return values[0]


@contextmanager
def drawn_for_the_batch(model: torch.nn.Module) -> Iterator[None]:
    """Make a model's `torch.nn.Dropout` layers draw for the batch of all processes, for the length of a ``with`` block.

    Every process is seeded alike, draws the same units for all rows, and drops those of its own rows (`local_shard`).
    One process on a CPU drops the very units that torch's own layer would.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    for layer in layers:
        layer.forward = partial(_drop, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _drop(layer: torch.nn.Dropout, rows: torch.Tensor) -> torch.Tensor:
    """Return rows (row, …) of this process with units dropped, and the others scaled up by as much."""
    if not (layer.training and layer.p):
        return rows
    batch = rows.new_empty(len(rows) * workers().num_processes, *rows.shape[1:])
    return rows * local_shard(batch.bernoulli_(1 - layer.p)).div(1 - layer.p)
