"""The two stages in which the network is trained, over all subjects at once.

Stage 1a, masked brain modelling: masked patches are filled in from the visible ones. Stage 1b: the encoder's embedding
is aligned with image and text embeddings, by a contrastive loss of the name that a config gives.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, normalize

from core.seeds import rng_for
from core.times import Times
from models.decoders.rows import not_near, split_stimuli
from models.encoders.mbm_network import Aligned, MaskedBrainModel, compiled, draw_visible
from models.encoders.settings import AlignConfig, PretrainConfig
from models.training.distributed import all_gather, local_shard, workers
from models.training.loop import Context, optimiser_of, train_stage

Index = NDArray[np.int64]


@dataclass(frozen=True)
class RepeatPairs:
    """One subject's rows and, for each, the other repetitions of its stimulus.

    Attributes
    ----------
    rows : (row, time, voxel) standardised, labelled trials first
    stimuli : the stimulus of each labelled row
    train, held : rows that are trained on, and held-out ones
    """

    rows: NDArray[np.float32]
    stimuli: list[str]
    train: Index
    held: Index

    @classmethod
    def of(
        cls,
        rows: NDArray[np.float32],
        stimuli: list[str],
        share: float,
        rng: np.random.Generator,
        times: Times | None = None,
    ) -> "RepeatPairs":
        """Hold out a share of the stimuli; rows without one are trained on. `times` are those of labelled rows."""
        held, kept = np.zeros(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
        held[: len(stimuli)] = split_stimuli(stimuli, share, rng, times)
        kept[: len(stimuli)] = not_near(held[: len(stimuli)], times)
        return cls(rows, stimuli, np.flatnonzero(kept), np.flatnonzero(held))

    @cached_property
    def codes(self) -> Index:
        """The stimulus of each labelled row, as a number."""
        return np.unique(np.array(self.stimuli, dtype=str), return_inverse=True)[1].astype(np.int64)

    def twin(self, rows: Index, rng: np.random.Generator) -> Index:
        """Draw for each row another trial of its stimulus; a row without one is its own twin."""
        order, start, count, rank = self._groups
        known = rows < len(self.stimuli)
        twins, of = rows.copy(), rows[known]
        others = count[of] - 1
        jump = np.where(others > 0, 1 + (rng.random(len(of)) * others).astype(np.int64), 0)
        twins[known] = order[start[of] + (rank[of] + jump) % count[of]]
        return twins

    @cached_property
    def _groups(self) -> tuple[Index, Index, Index, Index]:
        """Rows ordered by stimulus; where each row's stimulus begins there, its trials, and the row's number in it."""
        counts, order = np.bincount(self.codes), np.argsort(self.codes, kind="stable").astype(np.int64)
        start, count = (np.cumsum(counts) - counts)[self.codes], counts[self.codes]
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return order, start, count, rank - start


def pretrain(
    brain: MaskedBrainModel, config: PretrainConfig, rows: dict[str, RepeatPairs], context: Context
) -> dict[str, dict[str, float]]:
    """Pretrain a network in place.

    Returns
    -------
    dict
        Per subject, `loss`: the error of the masked patches of held-out trials, and `variance`: that of predicting the
        training mean for them. What has been learned carries over where the first is below the second.
    """
    subjects = sorted(rows)
    ends = np.cumsum([len(rows[name].train) for name in subjects])

    def loss(step: int) -> torch.Tensor:
        # Masks and twins are drawn for the whole batch, so that how many processes share it changes nothing.
        rng = rng_for(context.seed, "mbm", "batches", step)
        draws, own = rng.integers(0, ends[-1], config.batch), local_shard(np.arange(config.batch))
        owner = np.searchsorted(ends, draws, side="right")
        total = torch.zeros((), device=workers().device)
        for index, name in enumerate(subjects):
            chosen = rows[name].train[draws[owner == index] - (ends[index] - len(rows[name].train))]
            part = np.flatnonzero(np.isin(np.flatnonzero(owner == index), own))
            if len(chosen):
                error = masked_error(brain, config, name, rows[name], chosen, rng, part)
                total = total + error * (len(part) / len(own))
        return total

    def held_out() -> torch.Tensor:
        parts = [_held_out(brain, config, name, rows[name], context.seed) for name in subjects]
        return torch.stack([part for part, _ in parts]).mean()

    with compiled(brain, config.compile):
        train_stage("mbm", "masked brain modelling", brain, config, loss, held_out, context)
    with torch.no_grad():
        final = {name: _held_out(brain, config, name, rows[name], context.seed) for name in subjects}
    return {name: {"loss": float(error), "variance": float(variance)} for name, (error, variance) in final.items()}


def masked_error(
    brain: MaskedBrainModel,
    config: PretrainConfig,
    name: str,
    data: RepeatPairs,
    chosen: Index,
    rng: np.random.Generator,
    part: Index | None = None,
) -> torch.Tensor:
    """Return the mean squared error of the masked patches' voxels (plus the visible ones', by their weight).

    Parameters
    ----------
    chosen : (row,) rows, for all of which twins and masks are drawn
    part : positions in `chosen` that count, here and now; all by default
    """
    error, hidden, _ = _errors(brain, config, name, data, chosen, rng, part)
    masked = _mean_over(error, hidden)
    if not config.visible:
        return masked
    return masked + config.visible * _mean_over(error, brain.layers(name).filled - hidden)


def _mean_over(error: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the mean over rows of each row's mean error over the entries that count; 0 without a row."""
    if not len(error):
        return error.sum()
    rows = (error * counted).flatten(1).sum(dim=1) / (counted.flatten(1).sum(dim=1) * error.shape[1])
    mean: torch.Tensor = rows.mean()
    return mean


def _held_out(
    brain: MaskedBrainModel, config: PretrainConfig, name: str, data: RepeatPairs, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the error of the masked patches of held-out rows, and that of predicting zero, the training mean."""
    rng, sums = rng_for(seed, "mbm", "held out", name), torch.zeros(3, device=workers().device)
    for first in range(0, len(data.held), config.batch):
        chosen = data.held[first : first + config.batch]
        error, hidden, truth = _errors(brain, config, name, data, chosen, rng)
        parts = [(error * hidden).sum(), (truth.square() * hidden).sum(), hidden.sum() * error.shape[1]]
        sums = sums + torch.stack(parts)
    return sums[0] / sums[2], sums[1] / sums[2]


def _errors(
    brain: MaskedBrainModel,
    config: PretrainConfig,
    name: str,
    data: RepeatPairs,
    chosen: Index,
    rng: np.random.Generator,
    part: Index | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return squared errors and truths (row, time, patch, size), and which entries are masked (row, 1, patch, size)."""
    device, patches = workers().device, brain.patches[name]
    same, twins = config.targets == "same", chosen if config.targets == "same" else data.twin(chosen, rng)
    drawn = draw_visible(patches, len(chosen), config.masked, rng, config.whole_rois)
    if part is not None:
        chosen, twins, drawn = chosen[part], twins[part], drawn[part]
    visible = torch.from_numpy(drawn).to(device)
    shown = brain.cut(name, torch.from_numpy(data.rows[chosen]).to(device))
    truth = shown if same else brain.cut(name, torch.from_numpy(data.rows[twins]).to(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        made = brain.decode(name, brain.encode(name, shown, visible), visible)
    hidden = _hidden(visible, patches.count)[:, None, :, None] * brain.layers(name).filled
    return (made.float() - truth).square(), hidden, truth


def _hidden(visible: torch.Tensor, count: int) -> torch.Tensor:
    """Return 1 for masked patches and 0 for visible ones, (row, patch)."""
    return torch.ones(len(visible), count, device=visible.device).scatter(1, visible, 0.0)


@torch.no_grad()  # type: ignore[untyped-decorator]
def fill_in(brain: MaskedBrainModel, name: str, rows: NDArray[np.float32], masked: float, seed: int) -> dict[str, Any]:
    """Return what the network makes of masked rows, for a picture: `truth`, `made` (row, voxel) and `hidden` (bool)."""
    patches, device = brain.patches[name], workers().device
    brain.to(device).eval()
    visible = torch.from_numpy(draw_visible(patches, len(rows), masked, rng_for(seed, "fill in", name))).to(device)
    tokens = brain.encode(name, brain.cut(name, torch.from_numpy(rows).to(device)), visible)
    made = patches.join(brain.decode(name, tokens, visible)).mean(dim=1)
    hidden = patches.join(_hidden(visible, patches.count)[..., None].expand(-1, -1, patches.size)) > 0
    return {"truth": rows.mean(axis=1), "made": made.cpu().numpy(), "hidden": hidden.cpu().numpy()}


def info_nce(embeddings: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the bidirectional InfoNCE: each row against all others of the batch (Oord et al. 2018, CLIP)."""
    logits = normalize(embeddings, dim=1) @ normalize(targets, dim=1).T / temperature
    right = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2


def soft_clip(embeddings: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return SoftCLIP: as InfoNCE, towards how similar the targets are to each other (Scotti et al. 2023)."""
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
    model: Aligned, config: AlignConfig, rows: dict[str, RepeatPairs], targets: dict[str, Targets], context: Context
) -> None:
    """Fine-tune a network in place; a batch holds no stimulus twice: repetitions would be pushed apart.

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

    # with a single stimulus there is nothing to contrast: its loss is 0 whatever is learned
    enough = all(len(np.unique(rows[name].codes[rows[name].held])) > 1 for name in subjects)
    look = held_out if enough else None
    optimiser = optimiser_of(config, model, slower=model.brain, by=config.rate_below)
    with compiled(model, config.compile):
        train_stage("align", "contrastive alignment", model, config, loss, look, context, optimiser)


def _draw(rows: dict[str, RepeatPairs], batch: int, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
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
    data: RepeatPairs,
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
