"""Contrastive losses between brain embeddings and targets, by the names that a config gives.

Stage 1b: aligns the encoder's embedding with image and text embeddings, by a contrastive loss.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, normalize

from core.seeds import rng_for
from models.encoders.mbm.network import Aligned, compiled
from models.encoders.mbm.pretrain import Twins
from models.encoders.settings import AlignConfig
from models.training.distributed import all_gather, local_shard, workers
from models.training.loop import optimiser_of
from models.training.stage import Context, train_stage

Contrast = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Takes (row, width) embeddings, (row, width) targets and a temperature."""


def info_nce(embeddings: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the bidirectional InfoNCE: each row against all others of the batch (Oord et al. 2018, CLIP)."""
    logits = normalize(embeddings, dim=1) @ normalize(targets, dim=1).T / temperature
    right = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2


def soft_clip(embeddings: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return SoftCLIP: as InfoNCE, held against how similar the targets are to each other (Scotti et al. 2023)."""
    towards = normalize(targets, dim=1)
    logits = normalize(embeddings, dim=1) @ towards.T / temperature
    wanted = (towards @ towards.T / temperature).softmax(dim=1)
    return (cross_entropy(logits, wanted) + cross_entropy(logits.T, wanted)) / 2


def bi_mixco(
    embeddings: torch.Tensor, targets: torch.Tensor, temperature: float, mixed: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Return BiMixCo: InfoNCE for rows that were mixed with others before they were encoded (Scotti et al. 2023).

    Parameters
    ----------
    mixed : (row,) int64 the row that each was mixed with, (row,) the part that is its own
    """
    partner, share = mixed
    logits = normalize(embeddings, dim=1) @ normalize(targets, dim=1).T / temperature
    wanted = torch.diag(share).scatter_add(1, partner[:, None], (1 - share)[:, None])
    return (cross_entropy(logits, wanted) + cross_entropy(logits.T, wanted.T)) / 2


def mix(rows: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return rows (row, …) each mixed with its partner."""
    part = share.view(-1, *(1 for _ in rows.shape[1:]))
    return part * rows + (1 - part) * rows[partner]


BETA = 0.15
"""Both parameters of the Beta distribution that BiMixCo draws shares from, as in MindEye."""

Targets = dict[str, NDArray[np.float32]]
"""By target, (trial, width), minus the mean over the training trials."""


def align(
    model: Aligned, config: AlignConfig, rows: dict[str, Twins], targets: dict[str, Targets], context: Context
) -> None:
    """Fine-tune a network in place; a batch holds no stimulus twice, or repetitions would be told to differ.

    Parameters
    ----------
    rows : per subject, labelled trials with held-out stimuli
    targets : per subject
    """
    subjects = sorted(rows)

    def loss(step: int) -> torch.Tensor:
        rng = rng_for(context.seed, "align", "batches", step)
        kind = config.losses[min(step * len(config.losses) // config.steps, len(config.losses) - 1)]
        chosen = _draw(rows, config.batch, rng)
        total = torch.zeros((), device=workers().device)
        for name in subjects:
            if len(chosen[name]) > 1:
                total = total + _contrast(model, config, kind, name, rows[name], targets[name], chosen[name], rng)
        return total / len(subjects)

    def held_out() -> torch.Tensor:
        parts = []
        for name in subjects:
            _, first = np.unique(rows[name].codes[rows[name].held], return_index=True)
            rng = rng_for(context.seed, "align", "held out")
            chosen = rows[name].held[first]
            parts.append(_contrast(model, config, "soft_clip", name, rows[name], targets[name], chosen, rng))
        return torch.stack(parts).mean()

    # one stimulus can be told from no other: its loss is 0 whatever is learned
    enough = all(len(np.unique(rows[name].codes[rows[name].held])) > 1 for name in subjects)
    look = held_out if enough else None
    optimiser = optimiser_of(config, model, slower=model.brain, by=config.rate_below)
    with compiled(model, config.compile):
        train_stage("align", "contrastive alignment", model, config, loss, look, context, optimiser)


def _draw(rows: dict[str, Twins], batch: int, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Draw stimuli without replacement, for each subject of an equal part of the batch, and one trial of each."""
    drawn, share = {}, max(2, batch // len(rows))
    for name in sorted(rows):
        data = rows[name]
        shuffled = rng.permutation(data.train[data.train < len(data.stimuli)])
        _, first = np.unique(data.codes[shuffled], return_index=True)
        drawn[name] = shuffled[np.sort(first)][:share]
    return drawn


def _contrast(
    model: Aligned,
    config: AlignConfig,
    kind: str,
    name: str,
    data: Twins,
    targets: Targets,
    chosen: NDArray[np.int64],
    rng: np.random.Generator,
) -> torch.Tensor:
    """Return the loss of the whole batch, every process having embedded its share of the rows."""
    device = workers().device
    rows = torch.from_numpy(data.rows[chosen]).to(device)
    partner, share = _mixed(len(chosen), rng, device)
    if kind == "bi_mixco":
        rows = mix(rows, partner, share)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        embedding = model.embed(name, local_shard(rows, evenly=False))
        made = {target: all_gather(model.targets[target](embedding).float(), len(chosen)) for target in targets}
    parts = []
    for target, values in targets.items():
        wanted = torch.from_numpy(values[chosen]).to(device)
        if kind == "bi_mixco":
            parts.append(bi_mixco(made[target], wanted, config.temperature, (partner, share)))
        else:
            contrast = info_nce if kind == "info_nce" else soft_clip
            parts.append(contrast(made[target], wanted, config.temperature))
    return torch.stack(parts).mean()


def _mixed(count: int, rng: np.random.Generator, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw partners and shares; half the rows stay as they are, as in MindEye."""
    share = np.where(rng.random(count) < 0.5, rng.beta(BETA, BETA, count), 1.0).astype(np.float32)
    partner = rng.permutation(count)
    return torch.from_numpy(partner).to(device), torch.from_numpy(share).to(device)
