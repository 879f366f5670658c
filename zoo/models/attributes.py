"""Teaches an encoder the attributes by name, through linear heads that are thrown away afterwards."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from core.seeds import rng_for
from models.training.checkpoints import Checkpoints
from models.training.loop import fit
from zoo.models.corpus import Corpus

Features = Callable[[NDArray[np.intp], np.random.Generator], torch.Tensor]
"""Returns features (row, width) of clips chosen by their rows; what else is to be drawn comes from the generator."""


MakeOptimiser = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


class Heads(torch.nn.Module):  # type: ignore[misc]
    """One linear head an attribute."""

    def __init__(self, width: int, corpus: Corpus, names: Sequence[str]) -> None:
        super().__init__()
        self.columns = corpus.columns(names)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(width, len(corpus.attributes[name])) for name in names)

    def loss(self, features: torch.Tensor, labels: NDArray[np.int64]) -> torch.Tensor:
        """Return the cross entropy summed over attributes, of features (row, width) and labels (row, attribute)."""
        wanted = torch.from_numpy(labels[:, self.columns])
        losses = [
            torch.nn.functional.cross_entropy(head(features), wanted[:, column])
            for column, head in enumerate(self.heads)
        ]
        return torch.stack(losses).sum()


def teach_attributes(
    stage: str,
    what: str,
    encoder: torch.nn.Module,
    features: Features,
    width: int,
    corpus: Corpus,
    names: Sequence[str],
    *,
    steps: int,
    batch: int,
    optimiser: MakeOptimiser,
    seed: int,
    checkpoints: Checkpoints,
) -> list[float]:
    """Train an encoder with heads on its features until it tells the attributes; return every step's loss."""
    heads = Heads(width, corpus, names)
    model = torch.nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss(step: int) -> torch.Tensor:
        rng = rng_for(seed, stage, "batches", step)
        rows = rng.integers(0, len(corpus.clips), batch)
        return heads.loss(features(rows, rng), corpus.labels[rows])

    optimise = optimiser(model.parameters())
    return fit(stage, what, model, optimise, loss, steps, seed=seed, checkpoints=checkpoints, clip=1.0).losses
