"""Dropout that is drawn for the whole batch, so that how many processes share the batch changes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from models.training.distributed import local_shard, workers


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
