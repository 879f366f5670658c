"""Contrastive losses: equal to plain reference implementations, and lower for embeddings that fit."""

import numpy as np
import pytest
import torch

from models.encoders.mbm_stages import bi_mixco, info_nce, mix, soft_clip

TEMPERATURE = 0.125


def pairs(rows: int = 12, width: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=(rows, width))
    found = targets + 0.5 * rng.normal(size=(rows, width))
    return torch.from_numpy(found), torch.from_numpy(targets)


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def unit(values: torch.Tensor) -> np.ndarray:
    rows = values.numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def both_ways(embeddings: torch.Tensor, targets: torch.Tensor, there: np.ndarray, back: np.ndarray) -> float:
    """The mean over rows of −Σ wanted · log p, of brain to target and of target to brain."""
    logits = unit(embeddings) @ unit(targets).T / TEMPERATURE
    forth = -(there * log_softmax(logits)).sum(axis=1).mean()
    return float(forth - (back * log_softmax(logits.T)).sum(axis=1).mean()) / 2


def test_info_nce_equals_the_formula():
    embeddings, targets = pairs()
    expected = both_ways(embeddings, targets, np.eye(12), np.eye(12))
    assert float(info_nce(embeddings, targets, TEMPERATURE)) == pytest.approx(expected)


def test_soft_clip_equals_the_formula():
    embeddings, targets = pairs()
    wanted = np.exp(log_softmax(unit(targets) @ unit(targets).T / TEMPERATURE))
    expected = both_ways(embeddings, targets, wanted, wanted)
    assert float(soft_clip(embeddings, targets, TEMPERATURE)) == pytest.approx(expected)


def test_bi_mixco_equals_the_formula():
    embeddings, targets = pairs()
    rng = np.random.default_rng(1)
    partner, share = rng.permutation(12), rng.beta(0.15, 0.15, 12)
    partner[[0, np.flatnonzero(partner == 0)[0]]] = 0, partner[0]  # a row may be its own partner
    wanted = np.diag(share)
    for row, other in enumerate(partner):
        wanted[row, other] += 1 - share[row]
    assert wanted[0, 0] == 1
    expected = both_ways(embeddings, targets, wanted, wanted.T)
    mixed = (torch.from_numpy(partner), torch.from_numpy(share))
    assert float(bi_mixco(embeddings, targets, TEMPERATURE, mixed)) == pytest.approx(expected)


def test_bi_mixco_of_unmixed_rows_is_info_nce():
    embeddings, targets = pairs()
    mixed = (torch.arange(12).flip(0), torch.ones(12, dtype=torch.float64))
    unmixed = bi_mixco(embeddings, targets, TEMPERATURE, mixed)
    assert float(unmixed) == pytest.approx(float(info_nce(embeddings, targets, TEMPERATURE)))


@pytest.mark.parametrize("loss", [info_nce, soft_clip])
def test_embeddings_that_fit_have_the_lower_loss(loss):
    targets = pairs()[1]
    fitting, shuffled = loss(targets, targets, TEMPERATURE), loss(targets.roll(1, 0), targets, TEMPERATURE)
    assert fitting < 0.5 * shuffled
    assert float(loss(5 * targets, 3 * targets, TEMPERATURE)) == pytest.approx(float(fitting)), "lengths do not count"


def test_mixed_embeddings_fit_bi_mixco_better_than_unmixed_ones():
    targets = pairs()[1]
    partner, share = torch.arange(12).roll(1), torch.full((12,), 0.5, dtype=torch.float64)
    fitting = bi_mixco(mix(targets, partner, share), targets, TEMPERATURE, (partner, share))
    assert fitting < bi_mixco(targets, targets, TEMPERATURE, (partner, share))


def test_rows_are_mixed_with_their_partners_along_all_axes():
    rows = torch.arange(24.0).view(3, 2, 4)
    made = mix(rows, torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.25, 0.0]))
    assert torch.equal(made[0], rows[0])
    assert torch.equal(made[1], 0.25 * rows[1] + 0.75 * rows[2])
    assert torch.equal(made[2], rows[0])
