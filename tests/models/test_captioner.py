"""The nearest caption: against numpy's correlation, and against answers known by hand."""

import numpy as np
import pytest

from core.errors import ModelError
from models.captioners.settings import NearestCaption


def test_training_states_find_their_own_captions():
    states = np.random.default_rng(0).normal(size=(12, 5, 4)).astype(np.float16)
    captions = [f"caption {index}" for index in range(12)]
    assert NearestCaption(states, captions).caption(states) == captions


def test_the_shared_part_of_all_captions_does_not_count():
    rng = np.random.default_rng(1)
    own = rng.normal(size=(6, 30))
    states = 100 + own
    shrunk = states.mean(axis=0) + 0.1 * (states - states.mean(axis=0))
    names = list("abcdef")
    assert NearestCaption(states, names).caption(shrunk) == names


def test_equals_the_largest_correlation_of_numpy():
    rng = np.random.default_rng(2)
    states, predicted = rng.normal(size=(9, 20)), rng.normal(size=(7, 20))
    mean = states.mean(axis=0)
    expected = np.corrcoef(predicted - mean, states - mean)[:7, 7:].argmax(axis=1)
    np.testing.assert_array_equal(NearestCaption(states, [""] * 9).nearest(predicted), expected)


def test_a_prediction_of_the_mean_still_gets_a_caption():
    states = np.random.default_rng(3).normal(size=(4, 6))
    assert NearestCaption(states, list("abcd")).caption(states.mean(axis=0)[None]) == ["a"]


def test_faults_are_named():
    states = np.zeros((3, 2, 4))
    with pytest.raises(ModelError, match="2 captions for 3 training stimuli"):
        NearestCaption(states, ["a", "b"])
    with pytest.raises(ModelError, match=r"expected states of shape \(m, 2, 4\), found \(5, 4, 2\)"):
        NearestCaption(states, ["a", "b", "c"]).caption(np.zeros((5, 4, 2)))
    with pytest.raises(ModelError, match="NaN"):
        NearestCaption(states, ["a", "b", "c"]).caption(np.full((1, 2, 4), np.nan))
