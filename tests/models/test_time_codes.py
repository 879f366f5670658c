"""The codes that tell frames apart: by known values, and by what they leave as it is."""

import numpy as np
import pytest
import torch

from models.captioners.blip import time_codes, with_time_codes


def test_known_values():
    codes = time_codes(2, 4)  # places 1/4 and 3/4; one and two quarter turns over the clip
    first, second = np.pi / 8, 3 * np.pi / 8
    expected = [[np.sin(p), np.sin(2 * p), np.cos(p), np.cos(2 * p)] for p in (first, second)]
    np.testing.assert_allclose(codes, expected, atol=1e-6)


@pytest.mark.parametrize(("frames", "width"), [(8, 64), (8, 7), (24, 16), (1, 4)])
def test_every_frame_has_a_code_of_its_own(frames: int, width: int):
    codes = time_codes(frames, width)
    assert codes.shape == (frames, width)
    assert len(torch.unique(codes.round(decimals=4), dim=0)) == frames


def test_a_frames_tokens_share_its_code():
    tokens = torch.randn(3, 10, 6, generator=torch.Generator().manual_seed(0))
    added = (with_time_codes(tokens, 5) - tokens).numpy()
    np.testing.assert_allclose(added[0], np.repeat(time_codes(5, 6).numpy(), 2, axis=0), atol=1e-6)
