"""Trains the judge of the small world's clips: a classifier of their attributes, from real clips alone."""

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from core.config import Config
from core.progress import track
from core.seeds import rng_for, seed_for
from models.classifiers.attributes import AttributeClassifier, AttributeNetwork, Clips, to_input


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
