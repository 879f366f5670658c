"""The transformer's blocks: fused attention over patches and, for BOLD windows, over time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Attention(nn.Module):  # type: ignore[misc]
    """Multi-head self-attention with one product for queries, keys and values, and torch's fused kernel.

    Parameters
    ----------
    width : int
    heads : int
        Must divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inwards = nn.Linear(width, 3 * width)
        self.outwards = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (row, token, width) for the same."""
        queries, keys, values = (self._by_head(part) for part in self.inwards(tokens).chunk(3, dim=-1))
        if tokens.device.type == "cpu":  # whose fused kernel takes twice as long in bfloat16 as in float32
            with torch.autocast("cpu", enabled=False):
                mixed = nn.functional.scaled_dot_product_attention(queries.float(), keys.float(), values.float())
        else:
            mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        out: torch.Tensor = self.outwards(mixed.transpose(1, 2).flatten(-2))
        return out

    def _by_head(self, part: torch.Tensor) -> torch.Tensor:
        return part.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):  # type: ignore[misc]
    """Pre-norm attention and feed-forward, as in ViT; with a second attention along time for windows.

    The temporal attention's last layer starts at zero, so that a block begins as one without time (after MinD-Video).
    """

    def __init__(self, width: int, heads: int, ratio: float, *, temporal: bool = False) -> None:
        super().__init__()
        self.norm_space, self.space = nn.LayerNorm(width), Attention(width, heads)
        self.norm_time = nn.LayerNorm(width) if temporal else None
        self.time = Attention(width, heads) if temporal else None
        if self.time is not None:
            nn.init.zeros_(self.time.outwards.weight)
            nn.init.zeros_(self.time.outwards.bias)
        self.norm_feed = nn.LayerNorm(width)
        hidden = max(1, round(width * ratio))
        self.feed = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: torch.Tensor, times: int = 1) -> torch.Tensor:
        """Return tokens (row · time, token, width) for the same; time varies fastest along the first axis."""
        tokens = tokens + self.space(self.norm_space(tokens))
        if self.time is not None and self.norm_time is not None and times > 1:
            tokens = tokens + self._along_time(self.norm_time(tokens), times)
        out: torch.Tensor = tokens + self.feed(self.norm_feed(tokens))
        return out

    def _along_time(self, tokens: torch.Tensor, times: int) -> torch.Tensor:
        assert self.time is not None
        rows, count, width = tokens.shape[0] // times, tokens.shape[1], tokens.shape[2]
        along = tokens.view(rows, times, count, width).transpose(1, 2).reshape(rows * count, times, width)
        back = self.time(along).view(rows, count, times, width).transpose(1, 2)
        return back.reshape(rows * times, count, width)


class Stack(nn.Module):  # type: ignore[misc]
    """Blocks one after the other, and a norm at the end."""

    def __init__(self, depth: int, width: int, heads: int, ratio: float, *, temporal: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, ratio, temporal=temporal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, times: int = 1) -> torch.Tensor:
        """Return tokens of the same shape."""
        for block in self.blocks:
            tokens = block(tokens, times)
        out: torch.Tensor = self.norm(tokens)
        return out


@contextmanager
def compiled(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Run a model's blocks compiled for the length of a ``with`` block; the names of its weights stay as they are.

    Blocks alone are compiled: those of one width share the code, so that 24 of them take no longer than one. Shapes are
    left open from the start, since every step has another number of rows of each subject, and a training that goes on
    must run the very kernels that it stopped with.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)] if wanted else []
    try:
        for block in blocks:
            block.compile(dynamic=True)
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None  # what `Module.compile` sets; torch has no public way back
