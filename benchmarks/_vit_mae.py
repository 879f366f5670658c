"""The networks that masked brain modelling is measured with: one of transformers' ViTMAE layers, and what parts do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import ViTMAEConfig
from transformers.models.vit_mae.modeling_vit_mae import ViTMAELayer

from models.encoders.mbm_network import Patches, positions
from models.encoders.settings import MbmConfig

PATCH, ROWS, ROIS = 16, 512, 20
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Size:
    """A network's size, and how it is measured."""

    name: str
    patches: int
    width: int
    depth: int
    heads: int
    ratio: float
    decoder_width: int
    decoder_depth: int
    batch: int
    steps: int

    @property
    def config(self) -> MbmConfig:
        """Our network's settings."""
        decoder = {"decoder_width": self.decoder_width, "decoder_depth": self.decoder_depth}
        return MbmConfig(
            patch=PATCH,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            ratio=self.ratio,
            patch_weights="shared",
            **decoder,
        )


SMALL = Size("the small world's", 94, 64, 3, 4, 2.0, 48, 1, 64, 4)
LARGE = Size("larger", 256, 256, 6, 16, 2.0, 128, 2, 16, 1)
PUBLISHED = Size("published", 823, 1024, 24, 16, 1.0, 512, 8, 8, 1)


class SeparateAttention(nn.Module):
    """Attention with either trick off: three products, or the kernel written out as ViTMAE's eager one."""

    def __init__(self, width: int, heads: int, *, product: bool, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        widths = (3 * width,) if product else (width, width, width)
        self.inwards = nn.ModuleList(nn.Linear(width, outwards) for outwards in widths)
        self.outwards = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (row, token, width) for the same."""
        found = [linear(tokens) for linear in self.inwards]
        parts = found if len(found) == 3 else found[0].chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if self.fused:  # in the precision that autocast asks for
            mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        else:
            weights = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5
            mixed = weights.softmax(dim=-1, dtype=torch.float32).to(queries.dtype) @ values
        return self.outwards(mixed.transpose(1, 2).flatten(-2))


class ViTMaeLayers(nn.Module):
    """A masked autoencoder of voxels, of transformers' layers, masked, restored and measured as in its ViTMAE."""

    def __init__(self, size: Size, kept: int, attention: str) -> None:
        super().__init__()
        self.kept = kept
        encoder, decoder = (
            ViTMAEConfig(
                hidden_size=width,
                num_attention_heads=size.heads,
                intermediate_size=round(width * size.ratio),
                layer_norm_eps=1e-5,
                attn_implementation=attention,
            )
            for width in (size.width, size.decoder_width)
        )
        self.embed = nn.Linear(PATCH, size.width)
        self.cls = nn.Parameter(torch.randn(1, 1, size.width) * 0.02)
        self.layers = nn.ModuleList(ViTMAELayer(encoder) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.between = nn.Linear(size.width, size.decoder_width)
        self.mask = nn.Parameter(torch.randn(1, 1, size.decoder_width) * 0.02)
        self.decoder = nn.ModuleList(ViTMAELayer(decoder) for _ in range(size.decoder_depth))
        self.decoder_norm = nn.LayerNorm(size.decoder_width)
        self.head = nn.Linear(size.decoder_width, PATCH)
        self.register_buffer("places", positions(size.patches, size.width))
        self.register_buffer("decoder_places", positions(size.patches, size.decoder_width))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the loss of (row, patch, size)."""
        tokens = self.embed(patches) + self.places
        noise = torch.rand(tokens.shape[:2], device=tokens.device)
        order = noise.argsort(dim=1)
        back = order.argsort(dim=1)
        tokens = tokens.gather(1, order[:, : self.kept, None].repeat(1, 1, tokens.shape[2]))
        masked = torch.ones_like(noise)
        masked[:, : self.kept] = 0
        masked = masked.gather(1, back)
        tokens = torch.cat([self.cls.expand(len(tokens), -1, -1), tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        inside = self.between(self.norm(tokens))
        absent = self.mask.repeat(len(inside), patches.shape[1] - self.kept, 1)
        whole = torch.cat([inside[:, 1:], absent], dim=1).gather(1, back[..., None].repeat(1, 1, inside.shape[2]))
        decoded = torch.cat([inside[:, :1], whole + self.decoder_places], dim=1)
        for layer in self.decoder:
            decoded = layer(decoded)
        made = self.head(self.decoder_norm(decoded))[:, 1:]
        return ((made - patches).square().mean(dim=-1) * masked).sum() / masked.sum()


def simulated(size: Size, seed: int = 0) -> tuple[Patches, Array]:
    """Return rows of eight hidden causes and as much noise, standardised, (row, 1, voxel), and how they are cut."""
    rng, voxels = np.random.default_rng(seed), size.patches * PATCH
    rows = rng.normal(size=(ROWS, 8)) @ rng.normal(size=(8, voxels)) / 8**0.5 + rng.normal(size=(ROWS, voxels))
    names = [f"roi_{index:02d}" for index in range(ROIS)]
    patches = Patches.of([names[v * ROIS // voxels] for v in range(voxels)], voxels, PATCH, names)
    return patches, (rows / rows.std(axis=0)).astype(np.float32)[:, None]


def start_alike(model: nn.Module, seed: int = 0) -> None:
    """Draw a network's weights as ViT's are drawn: matrices with a deviation of 0.02, biases zero."""
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)
