"""Contrastive losses between brain embeddings and targets, by the names that a config gives."""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy, normalize

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
