"""The network of masked brain modelling: voxels in ROI order, cut into patches, through a transformer.

Attention is fused, over patches and, for BOLD windows, over time. Patches and heads are each subject's own, the blocks
are shared, and the decoder is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.errors import ModelError
from models.encoders.settings import AlignConfig, MbmConfig


@dataclass(frozen=True)
class Patches:
    """How one subject's voxels become patches.

    Attributes
    ----------
    size : voxels a patch
    shares : (patch, roi) float32
        Which part of each patch's voxels lies in each ROI; a patch across a border lies in both.
    """

    voxels: int
    size: int
    shares: NDArray[np.float32]

    @classmethod
    def of(cls, rois: list[str], voxels: int, size: int, names: list[str]) -> "Patches":
        """Cut voxels, in their order, into patches.

        Parameters
        ----------
        rois : one per voxel, or none
        names : the ROIs of all subjects
        """
        patches = -(-voxels // size)
        shares = np.zeros((patches, max(1, len(names))), np.float32)
        if not rois:
            shares[:] = 1 / shares.shape[1]
            return cls(voxels, size, shares)
        position = {name: column for column, name in enumerate(names)}
        np.add.at(shares, (np.arange(voxels) // size, np.array([position[roi] for roi in rois])), 1)
        return cls(voxels, size, shares / shares.sum(axis=1, keepdims=True))

    @property
    def padding(self) -> int:
        """Zeros that the last patch is filled up with: none where the voxels divide evenly."""
        return -self.voxels % self.size

    @property
    def count(self) -> int:
        """Number of patches."""
        return len(self.shares)

    @property
    def main_roi(self) -> NDArray[np.int64]:
        """The ROI that most of each patch's voxels lie in, (patch,)."""
        return np.asarray(self.shares.argmax(axis=1))

    def cut(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (…, patch, size) for rows (…, voxel)."""
        padded = torch.nn.functional.pad(rows, (0, self.padding))
        return padded.reshape(*rows.shape[:-1], self.count, self.size)

    def join(self, patches: torch.Tensor) -> torch.Tensor:
        """Return (…, voxel) for patches (…, patch, size)."""
        return patches.flatten(-2)[..., : self.voxels]

    def filled(self) -> NDArray[np.float32]:
        """Return which entries of the patches are voxels, (patch, size): 1, and 0 for the padding."""
        flat = np.arange(self.count * self.size) < self.voxels
        return flat.reshape(self.count, self.size).astype(np.float32)


def kept_of(patches: Patches, masked: float) -> int:
    """Return how many patches stay visible: at least one, and never all.

    Raises `ModelError`: there is one patch, which cannot be both.
    """
    if patches.count < 2:
        raise ModelError(
            f"mbm: {patches.voxels} voxels are one patch of {patches.size}, which cannot be predicted from others; "
            "make the encoder's patch smaller"
        )
    return min(max(1, round((1 - masked) * patches.count)), patches.count - 1)


def draw_visible(
    patches: Patches, rows: int, masked: float, rng: np.random.Generator, whole_rois: float = 0.0
) -> NDArray[np.int64]:
    """Draw, afresh for every row, which patches stay visible, (row, kept).

    Parameters
    ----------
    masked : part of the patches that is masked
    whole_rois : part of the rows in which regions are kept or masked as wholes: all but one, which the number of
        visible patches may divide
    """
    kept = kept_of(patches, masked)
    noise = rng.random((rows, patches.count))
    if whole_rois:
        rank = rng.random((rows, patches.shares.shape[1])).argsort(axis=1)
        noise += np.where(rng.random((rows, 1)) < whole_rois, rank[:, patches.main_roi], 0)
    return np.argpartition(noise, kept - 1, axis=1)[:, :kept].astype(np.int64)


def positions(count: int, width: int) -> torch.Tensor:
    """Return fixed sine and cosine codes, (count, width), after Vaswani et al. 2017 as ViTMAE lays them out."""
    rates = 1.0 / 10000 ** (np.arange(width // 2) / (width / 2))
    angles = np.arange(count)[:, None] * rates[None]
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32))


def rois_of(rows: dict[str, Any]) -> list[str]:
    """Return the ROIs of all subjects, in alphabetical order."""
    return sorted({roi for one in rows.values() for roi in one.rois})


class Attention(nn.Module):  # type: ignore[misc]
    """Multi-head self-attention with one product for queries, keys and values, and torch's fused kernel.

    Parameters
    ----------
    heads : must divide `width`
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


SMALL = 0.02
"""Standard deviation that tokens start with, as in ViT."""


class PatchMap(nn.Module):  # type: ignore[misc]
    """A linear map of each patch: one for every patch, or one for all.

    Parameters
    ----------
    count : patches with weights of their own; 1 for shared weights
    """

    def __init__(self, count: int, inwards: int, outwards: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, inwards, outwards) * inwards**-0.5)
        self.bias = nn.Parameter(torch.zeros(count, outwards))

    def forward(self, patches: torch.Tensor, codes: torch.Tensor | None = None) -> torch.Tensor:
        """Return (row, patch, outwards) for (row, patch, inwards), plus a code (patch, outwards) of each patch."""
        added = self.bias if codes is None else self.bias + codes
        if len(self.weight) == 1:
            return patches @ self.weight[0] + added
        return torch.baddbmm(added[:, None], patches.transpose(0, 1), self.weight).transpose(0, 1)


class SubjectLayers(nn.Module):  # type: ignore[misc]
    """What belongs to one subject: its patches' embedding and head, and its token."""

    def __init__(self, config: MbmConfig, patches: Patches) -> None:
        super().__init__()
        count = patches.count if config.patch_weights == "own" else 1
        self.inwards = PatchMap(count, config.patch, config.width)
        self.outwards = PatchMap(count, config.decoder_width, config.patch)
        self.token = nn.Parameter(torch.randn(config.width) * SMALL)
        self.register_buffer("shares", torch.from_numpy(patches.shares), persistent=False)
        self.register_buffer("filled", torch.from_numpy(patches.filled()), persistent=False)
        self.register_buffer("places", positions(patches.count, config.width), persistent=False)
        self.register_buffer("decoder_places", positions(patches.count, config.decoder_width), persistent=False)


class MaskedBrainModel(nn.Module):  # type: ignore[misc]
    """A masked autoencoder of brain responses.

    Rows are standardised responses (row, time, voxel); betas have one time. Tokens are patches of voxels in ROI order,
    with fixed sine and cosine codes of their place (and of their time), an embedding of the ROIs they lie in, and the
    subject's own token. After He et al. 2022 (masked autoencoders), Chen et al. 2023 (MinD-Vis, MinD-Video).

    Parameters
    ----------
    subjects : by name, how its voxels are cut
    times : time points of a row
    """

    def __init__(self, config: MbmConfig, subjects: dict[str, Patches], times: int = 1) -> None:
        super().__init__()
        self.patches, self.times = subjects, times
        self._index = {name: f"subject_{index}" for index, name in enumerate(subjects)}
        self.subjects = nn.ModuleDict({self._index[name]: SubjectLayers(config, of) for name, of in subjects.items()})
        rois = next(iter(subjects.values())).shares.shape[1]
        self.rois = nn.Parameter(torch.randn(rois, config.width) * SMALL)
        self.cls = nn.Parameter(torch.randn(config.width) * SMALL)
        self.encoder = Stack(config.depth, config.width, config.heads, config.ratio, temporal=times > 1)
        self.between = nn.Linear(config.width, config.decoder_width)
        self.mask = nn.Parameter(torch.randn(config.decoder_width) * SMALL)
        self.decoder = Stack(config.decoder_depth, config.decoder_width, config.heads, config.ratio, temporal=times > 1)
        self.register_buffer("moments", positions(times, config.width), persistent=False)

    def layers(self, subject: str) -> SubjectLayers:
        """Return what belongs to a subject."""
        found: SubjectLayers = self.subjects[self._index[subject]]
        return found

    def cut(self, subject: str, rows: torch.Tensor) -> torch.Tensor:
        """Return (row, time, patch, size) for rows (row, time, voxel)."""
        return self.patches[subject].cut(rows)

    def encode(self, subject: str, patches: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Return tokens (row · time, 1 + visible patches, width), the class token first.

        Parameters
        ----------
        patches : (row, time, patch, size)
        visible : (row, kept) the patches that are kept, the same at all times; all by default
        """
        own = self.layers(subject)
        rows, times = patches.shape[:2]
        tokens = own.inwards(patches.flatten(0, 1), own.places + own.shares @ self.rois + own.token)
        if visible is not None:
            at = _flat(visible, times, tokens.shape[1])
            tokens = tokens.flatten(0, 1).index_select(0, at.flatten()).unflatten(0, at.shape)
        if times > 1:
            tokens = (tokens.unflatten(0, (rows, times)) + self.moments[:, None]).flatten(0, 1)
        first = (self.cls + own.token).expand(rows * times, 1, -1)
        out: torch.Tensor = self.encoder(torch.cat([first, tokens.float()], dim=1), times)
        return out

    def decode(self, subject: str, tokens: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Return patches (row, time, patch, size) for tokens of the visible ones.

        Parameters
        ----------
        tokens : from `encode`
        visible : (row, kept) the patches that `encode` was given
        """
        own, times = self.layers(subject), self.times
        inside = self.between(tokens)
        first, kept = inside[:, :1], inside[:, 1:]
        if visible is not None:
            count = len(own.decoder_places)
            absent = self.mask.to(kept.dtype).expand(len(kept) * count, -1)
            at = _flat(visible, times, count).flatten()
            kept = absent.index_copy(0, at, kept.flatten(0, 1)).unflatten(0, (-1, count))
        decoded = self.decoder(torch.cat([first, kept + own.decoder_places], dim=1), times)[:, 1:]
        return own.outwards(decoded).unflatten(0, (-1, times))

    def pooled(self, tokens: torch.Tensor, pool: str) -> torch.Tensor:
        """Return (row, feature) for tokens (row · time, token, width), averaged over time."""
        over_time = tokens.unflatten(0, (-1, self.times)).mean(dim=1)
        if pool == "tokens":
            return over_time.flatten(1)
        return torch.cat([over_time[:, 0], over_time[:, 1:].mean(dim=1)], dim=1)


def _flat(visible: torch.Tensor, times: int, count: int) -> torch.Tensor:
    """Return where visible patches (row, kept) lie among (row · time · patch), as (row · time, kept)."""
    at = visible.repeat_interleave(times, dim=0)
    return at + torch.arange(len(at), device=at.device)[:, None] * count


class Aligned(nn.Module):  # type: ignore[misc]
    """A brain model with the embedding that is aligned, and one projection onto every target.

    Parameters
    ----------
    targets : by name, the width of what is aligned with
    """

    def __init__(self, brain: MaskedBrainModel, config: MbmConfig, align: AlignConfig, targets: dict[str, int]) -> None:
        super().__init__()
        self.brain = brain
        self.project = nn.Sequential(nn.LayerNorm(2 * config.width), nn.Linear(2 * config.width, align.width))
        self.skip = nn.ModuleList(
            nn.Linear(of.voxels, align.width, bias=False) for of in (brain.patches.values() if align.skip else ())
        )
        for linear in self.skip:
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        self._index = {name: index for index, name in enumerate(brain.patches)}
        self.targets = nn.ModuleDict({name: nn.Linear(align.width, width) for name, width in targets.items()})

    def embed(self, subject: str, rows: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Return embeddings (row, width) for standardised rows (row, time, voxel)."""
        if tokens is None:
            tokens = self.brain.encode(subject, self.brain.cut(subject, rows))
        embedding: torch.Tensor = self.project(self.brain.pooled(tokens, "mean"))
        if len(self.skip):
            embedding = embedding + self.skip[self._index[subject]](rows.mean(dim=1))
        return embedding
