"""Tells a text decoder which frame an image token is of: without it, tokens of frames are a set without an order."""

import math

import torch


def time_codes(frames: int, width: int) -> torch.Tensor:
    """Return one code a frame, (frame, width): sines and cosines of its middle's place in the clip, 0 to 1.

    They make 1, 2, 3, … quarter turns over the clip, up to where one frame's step is half a turn, then begin again.
    """
    place = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    turns = 1 + torch.arange(width // 2) % max(1, 2 * frames - 1)
    angle = 0.5 * math.pi * place[:, None] * turns
    code = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.nn.functional.pad(code, (0, width - code.shape[1])).float()


def with_time_codes(tokens: torch.Tensor, frames: int) -> torch.Tensor:
    """Return tokens (n, frames · token, width) of frames one after the other, with its frame's code on each."""
    each = tokens.unflatten(1, (frames, -1))
    codes = time_codes(frames, tokens.shape[-1]).to(tokens)
    return (each + codes[:, None]).flatten(1, 2)
