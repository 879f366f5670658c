"""What all stages of the zoo's training share: the corpus, teaching attributes by name, rounding to what is shipped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from core.config import Config
from core.errors import ModelError
from core.progress import track
from core.seeds import rng_for, seed_for
from models.classifiers.attributes import AttributeClassifier, AttributeNetwork, Clips, to_input
from models.training.checkpoints import Checkpoints
from models.training.loop import fit


@dataclass(frozen=True)
class Corpus:
    """Clips, in how many ways each may be described, and its attributes.

    Attributes
    ----------
    clips : (n, frame, height, width, 3) uint8
    captions : one or more captions each; the first is the canonical one, which a captioner learns to write
    labels : (n, attribute) int64, what of each attribute's words holds
    attributes : the words of each attribute, in the order of the labels' columns
    """

    clips: NDArray[np.uint8]
    captions: list[list[str]]
    labels: NDArray[np.int64]
    attributes: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        shape, n = self.clips.shape, len(self.captions)
        if self.clips.dtype != np.uint8 or len(shape) != 5 or shape[-1] != 3 or shape[0] != n:
            raise ModelError(
                f"zoo: expected clips as uint8 (n, frame, height, width, 3) with captions for each, found "
                f"{self.clips.dtype} {shape} and captions of {n}"
            )

    @property
    def canonical(self) -> list[str]:
        """The first caption of every clip."""
        return [captions[0] for captions in self.captions]

    @property
    def every_caption(self) -> list[str]:
        """All captions of all clips, clip by clip."""
        return [caption for captions in self.captions for caption in captions]

    def columns(self, names: Sequence[str]) -> list[int]:
        """Return the labels' columns of some attributes."""
        order = list(self.attributes)
        return [order.index(name) for name in names]

    def seen_in_a_frame(self) -> list[str]:
        """Return the attributes that a single frame shows: all but those over time."""
        return [name for name in self.attributes if name not in OVER_TIME]


OVER_TIME = {"motion"}
"""Attributes that no single frame shows."""

Draw = Callable[[int, int], Corpus]
"""Gives a corpus of n fresh clips, from n and a seed."""

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
    """Train an encoder with heads on its features until it recognises the attributes; return every step's loss."""
    heads = Heads(width, corpus, names)
    model = torch.nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss(step: int) -> torch.Tensor:
        rng = rng_for(seed, stage, "batches", step)
        rows = rng.integers(0, len(corpus.clips), batch)
        return heads.loss(features(rows, rng), corpus.labels[rows])

    optimise = optimiser(model.parameters())
    return fit(stage, what, model, optimise, loss, steps, seed=seed, checkpoints=checkpoints, clip=1.0).losses


@torch.no_grad()  # type: ignore[untyped-decorator]
def round_to_half(model: torch.nn.Module) -> None:
    """Round every weight to what float16 holds, as it is shipped, so that later stages are trained on what others get.

    Raises `ModelError`: a weight is beyond float16.
    """
    for weight in model.parameters():
        rounded = weight.half().float()
        if not torch.isfinite(rounded).all():
            raise ModelError("zoo: a weight is beyond float16; lower the stage's lr")
        weight.copy_(rounded)


class JudgeConfig(Config):
    """How the judge of the small world's clips is trained, on real clips only."""

    seed: int = 0
    clips: PositiveInt = 10000
    """Clips drawn for training, other ones than the generator's."""
    steps: PositiveInt = 4000
    batch: PositiveInt = 48
    lr: PositiveFloat = 2e-3
    noise: float = Field(default=14.0, ge=0)
    """Largest noise on the clips shown in training, in grey levels, so that small artefacts do not mislead it."""


def train_judge(
    config: JudgeConfig, clips: Clips, labels: NDArray[np.int64], attributes: dict[str, tuple[str, ...]]
) -> AttributeClassifier:
    """Train a classifier on real clips uint8 (n, frame, height, width, 3) and labels (n, attribute), from one seed."""
    frame = (clips.shape[1], clips.shape[2], clips.shape[3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(config.seed, "judge"))
        rng = rng_for(config.seed, "judge", "batches")
        net = AttributeNetwork(frame, attributes).train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=config.steps)
        wanted = torch.from_numpy(labels)
        for _ in track(range(config.steps), "training the judge"):
            rows = rng.integers(0, len(clips), config.batch)
            shown = to_input(clips[rows])
            amount = torch.from_numpy(rng.random((config.batch, 1, 1, 1, 1), dtype=np.float32))
            shown = shown + amount * (config.noise / 127.5) * torch.randn_like(shown)
            scores = net(shown)
            losses = [
                torch.nn.functional.cross_entropy(head, wanted[rows, column]) for column, head in enumerate(scores)
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
            schedule.step()
    return AttributeClassifier(net.eval(), attributes, frame)
