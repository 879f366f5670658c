"""CLIPScore's arithmetic against torch."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from evaluation.metrics import metric


@pytest.fixture
def embeddings(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    frames = rng.normal(size=(7, 4, 24))
    return frames.mean(axis=1) + rng.normal(size=(7, 24)), frames


def test_is_two_and_a_half_times_torchs_cosine_floored(embeddings):
    captions, frames = (torch.tensor(one) for one in embeddings)
    cosines = cosine_similarity(captions[:, None], frames, dim=-1)
    assert (cosines < 0).any()
    wanted = (2.5 * cosines.clamp(min=0)).mean(dim=1)
    np.testing.assert_allclose(metric("clip_score").per_stimulus(*embeddings), wanted.numpy(), atol=1e-12)


def test_the_best_is_two_and_a_half_and_the_worst_0(rng: np.random.Generator):
    captions = rng.normal(size=(3, 8))
    frames = np.repeat(captions[:, None], 5, axis=1) * rng.uniform(0.1, 9, size=(3, 5, 1))
    values = metric("clip_score").per_stimulus(captions, frames)
    np.testing.assert_allclose(values, 2.5, rtol=1e-12)
    assert (values <= 2.5).all()
    np.testing.assert_array_equal(metric("clip_score").per_stimulus(-captions, frames), 0.0)


def test_an_empty_caption_earns_0_and_one_that_is_not_finite_has_no_value(embeddings):
    captions, frames = embeddings
    captions[1], captions[2, 3], captions[5, 0] = 0.0, np.nan, np.inf
    values = metric("clip_score").per_stimulus(captions, frames)
    assert values[1] == 0.0
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [2, 5])


def test_captions_and_frames_of_different_width_are_refused(embeddings):
    with pytest.raises(ValueError, match=r"clip_score: prediction \(7, 20\)"):
        metric("clip_score").per_stimulus(embeddings[0][:, :20], embeddings[1])
