"""The linear encoders: voxels standardised over the training trials, and principal components of these."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from core.config import nearest
from core.errors import ModelError
from models.decoders.rows import BrainRows, Rows, columns_of, row_blocks, voxel_blocks
from models.encoders.settings import PcaConfig, StandardiseConfig, VoxelSelection
from models.encoders.voxel_selection import Selected, select_voxels
from models.training.loop import Context
from models.weights.tensor_file import LazyMapping, SpillingTensorStore, Stored, Tensors, common, prefixed

Array = NDArray[Any]


@dataclass(frozen=True)
class Standardise:
    """Standardisation per subject.

    Attributes
    ----------
    mean, scale : per subject, (voxel,) float32, over the training trials
    kept : per subject, (voxel,) bool, the voxels that vary and are finite in training
    weight : per subject, (kept voxel,) float32, what standardised voxels are multiplied by
    selected : per subject, what is recorded of the selection of voxels (see `models.encoders.voxel_selection`); empty
        where all voxels that vary are kept
    """

    mean: dict[str, Array]
    scale: dict[str, Array]
    kept: dict[str, Array]
    weight: dict[str, Array]
    selected: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def subjects(self) -> list[str]:
        """The subjects that the encoder knows."""
        return list(self.mean)

    @property
    def widths(self) -> tuple[int, int]:
        """Voxels that go in and features that come out; -1 where subjects differ."""
        return common([len(kept) for kept in self.kept.values()]), common([int(k.sum()) for k in self.kept.values()])

    @classmethod
    def fit(
        cls, config: StandardiseConfig, rows: dict[str, BrainRows], context: Context | None = None
    ) -> "Standardise":
        """Fit on training trials; a window's time points are averaged.

        Raises `ModelError`: no voxel varies, voxels are to be weighted and no stimulus was repeated, or voxels are to
        be selected from too few stimuli.
        """
        mean, scale, kept, weight = {}, {}, {}, {}
        selected: dict[str, dict[str, Any]] = {}
        for subject, one in rows.items():
            middle, sd, keep = scale_of(one.responses)
            if not keep.any():
                raise ModelError(f"{subject}: no voxel of {len(keep)} varies in training; check the source's responses")
            if config.voxels is not None:
                seed = 0 if context is None else context.seed
                chosen = _select(config.voxels, subject, one, (middle, sd, keep), seed)
                keep[np.flatnonzero(keep)] = chosen.kept
                selected[subject] = chosen.summary()
            mean[subject] = np.where(keep, middle, 0).astype(np.float32)
            scale[subject] = np.where(keep, sd, 1).astype(np.float32)
            kept[subject], weight[subject] = keep, np.ones(int(keep.sum()), np.float32)
            if config.reliability:
                share = _share_of_kept(subject, one, sd, keep)
                weight[subject] = (share**config.reliability).astype(np.float32)
        return cls(mean, scale, kept, weight, selected)

    def encode(self, subject: str, responses: Array) -> Array:
        """Return features, (trial, kept voxel) float32.

        Raises
        ------
        ModelError
            An unknown subject, another number of voxels than in training, or a value that is not finite.
        """
        return self.standardised(subject, responses) * self.weight[subject]

    def standardised(self, subject: str, responses: Array) -> NDArray[np.float32]:
        """Return standardised voxels, not weighted; see `encode`."""
        if subject not in self.mean:
            raise ModelError(f"the encoder does not know the subject '{subject}'{nearest(subject, self.subjects)}")
        flat = mean_over_time(responses)
        expected = len(self.mean[subject])
        if flat.shape[1] != expected:
            raise ModelError(
                f"{subject}: the responses have {flat.shape[1]} voxels and the encoder was trained on {expected}; "
                "give the same voxels in the same order"
            )
        return self._scaled(subject, flat, slice(None))

    def encode_part(self, subject: str, responses: Array, voxels: slice) -> Array:
        """Return some of the features, those of the voxels from one to another, all of which `encode` returns.

        Parameters
        ----------
        responses : (trial, part of the voxels) or (trial, time, part of the voxels)
        voxels : which these are
        """
        first, here = int(self.kept[subject][: voxels.start].sum()), int(self.kept[subject][voxels].sum())
        return self._scaled(subject, mean_over_time(responses), voxels) * self.weight[subject][first : first + here]

    def _scaled(self, subject: str, flat: Array, voxels: slice) -> NDArray[np.float32]:
        mean, scale, keep = self.mean[subject][voxels], self.scale[subject][voxels], self.kept[subject][voxels]
        features: NDArray[np.float32] = ((flat - mean) / scale)[:, keep].astype(np.float32)
        if not np.isfinite(features).all():
            bad = int((~np.isfinite(features).all(axis=0)).sum())
            raise ModelError(f"{subject}: {bad} voxels hold NaN that had none in training; remove or fill them")
        return features

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.tensor_file.save_weights`."""
        tensors: Tensors = {}
        for subject in self.subjects:
            tensors |= {
                f"{subject}.mean": self.mean[subject],
                f"{subject}.scale": self.scale[subject],
                f"{subject}.kept": self.kept[subject].astype(np.uint8),
                f"{subject}.weight": self.weight[subject],
            }
        described = {"part": "encoder", "kind": "standardise", "subjects": self.subjects}
        return described | ({"selected_voxels": self.selected} if self.selected else {}), tensors

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Stored) -> "Standardise":
        """Return the encoder that `state` described."""
        names = ("mean", "scale", "kept", "weight")
        of = {name: {s: tensors[f"{s}.{name}"] for s in config["subjects"]} for name in names}
        kept = {subject: values.astype(bool) for subject, values in of["kept"].items()}
        return cls(of["mean"], of["scale"], kept, of["weight"], config.get("selected_voxels", {}))


def _select(
    config: VoxelSelection, subject: str, one: BrainRows, scale: tuple[Array, Array, Array], seed: int
) -> Selected:
    """Select among the voxels that vary, by the means of their standardised responses to each training stimulus.

    Parameters
    ----------
    scale : (voxel,) each, the mean and the standard deviation over trials, and which voxels vary
    """
    middle, sd, keep = scale
    names = list(dict.fromkeys(one.stimuli))
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.array([row_of[name] for name in one.stimuli])
    total = np.zeros((len(names), int(keep.sum())), np.float32)
    for block in row_blocks(one.responses):
        np.add.at(total, rows[block], (mean_over_time(one.responses[block])[:, keep] - middle[keep]) / sd[keep])
    total /= np.bincount(rows)[:, None]
    targets = {role: values_of(names) for role, values_of in one.targets.items()}
    first = np.array([one.stimuli.index(name) for name in names])
    times = None if one.times is None else one.times.take(first)
    return select_voxels(config, subject, total, targets, seed, times)


def scale_of(responses: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return every voxel's mean and standard deviation over trials, and whether it is finite and varies, (voxel,)."""
    mean, sd = _moments(responses)
    return mean, sd, np.isfinite(sd) & (sd > 1e-8)


def _moments(responses: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every voxel's mean and standard deviation over trials, as numpy gives them for float64, to the last bit.

    Trials are added up in their order, which is numpy's, a block of them in memory at a time.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # a voxel that is not finite becomes NaN, and is left out
        mean = _sum(responses) / len(responses)
        sd = np.sqrt(_sum(responses, mean) / len(responses))
    return mean, sd


def _sum(responses: Rows, centre: Array | None = None) -> NDArray[np.float64]:
    """Return the sum over trials, or that of their squared distances from a centre (voxel,), of every voxel."""
    blocks = list(row_blocks(responses))
    # what has been added up so far, then a block
    added = np.zeros((1 + (blocks[0].stop if blocks else 0), responses.shape[-1]))
    for rows in blocks:
        few = added[: rows.stop - rows.start + 1]
        few[1:] = mean_over_time(responses[rows])
        if centre is not None:
            np.subtract(few[1:], centre, out=few[1:])
            np.square(few[1:], out=few[1:])
        added[0] = few.sum(axis=0)
    return np.array(added[0])


def _share_of_kept(subject: str, one: BrainRows, sd: Array, keep: Array) -> NDArray[np.float64]:
    """Return the share of signal of the voxels that are kept, some voxels in memory at a time."""
    parts = []
    for part in voxel_blocks(one.responses):
        flat = mean_over_time(columns_of(one.responses, part)).astype(np.float64)
        parts.append(signal_share(subject, flat[:, keep[part]] / sd[part][keep[part]], one.stimuli))
    return np.concatenate(parts)


def signal_share(subject: str, responses: Array, stimuli: list[str]) -> NDArray[np.float64]:
    """Return each voxel's share of variance that repetitions of a stimulus have in common, (voxel,), from 0 to 1.

    The variance between stimuli less what trial noise adds to it, over the variance of single trials: ncsnr² / (ncsnr²
    + 1) in the terms of Allen et al. 2022, from the training trials alone.

    Raises `ModelError`: no stimulus was shown twice.
    """
    names, codes, counts = np.unique(np.array(stimuli, dtype=str), return_inverse=True, return_counts=True)
    if len(stimuli) == len(names):
        raise ModelError(f"{subject}: no training stimulus was repeated, so voxels cannot be weighted by reliability")
    sums = np.zeros((len(names), responses.shape[1]))
    np.add.at(sums, codes, responses)
    means = sums / counts[:, None]
    noise = ((responses - means[codes]) ** 2).sum(axis=0) / (len(stimuli) - len(names))
    signal = (means.var(axis=0, ddof=1) - noise * (1 / counts).mean()).clip(0)
    share: NDArray[np.float64] = signal / (signal + noise).clip(1e-12)
    return share


def mean_over_time(responses: Array) -> Array:
    """Return (trial, voxel) for the same or for windows (trial, time, voxel)."""
    return responses if responses.ndim == 2 else responses.mean(axis=1)


WHOLE_BYTES = 256 * 2**20
"""Rows of a subject up to this size are worked on as a whole."""


@dataclass(frozen=True)
class Pca:
    """Standardised voxels projected onto the leading components of everything recorded from a subject.

    Attributes
    ----------
    standardise : fitted on the training trials alone
    vectors : per subject, (kept voxel, component) float32, orthonormal; mapped when asked for where they lie on disk
    explained : per subject, (component,) float32, share of the rows' variance in each
    """

    standardise: Standardise
    vectors: Mapping[str, Array]
    explained: dict[str, Array]

    @property
    def subjects(self) -> list[str]:
        """The subjects that the encoder knows."""
        return list(self.vectors)

    @property
    def widths(self) -> tuple[int, int]:
        """Voxels that go in and features that come out; -1 where subjects differ."""
        return self.standardise.widths[0], common([vectors.shape[1] for vectors in self.vectors.values()])

    @classmethod
    def fit(cls, config: PcaConfig, rows: dict[str, BrainRows], context: Context | None = None) -> "Pca":
        """Fit on the training trials and, where there are some, the unlabelled rows."""
        inner = StandardiseConfig(reliability=config.reliability, voxels=config.voxels)
        standardise = Standardise.fit(inner, rows, context)
        shelf, explained = SpillingTensorStore(None if context is None else context.scratch), {}
        for subject, one in rows.items():
            vectors, explained[subject] = _components(
                _StandardisedVoxels.of(standardise, subject, one), config.components
            )
            shelf.put({f"{subject}.vectors": vectors})
        return cls(standardise, _vectors(shelf, list(rows)), explained)

    def encode(self, subject: str, responses: Array) -> NDArray[np.float32]:
        """Return features (trial, component) float32; raises as `Standardise.encode` does."""
        features: NDArray[np.float32] = self.standardise.encode(subject, responses) @ self.vectors[subject]
        return features

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.tensor_file.save_weights`."""
        inner, tensors = self.standardise.state()
        tensors = {f"standardise.{name}": value for name, value in tensors.items()}
        for subject in self.subjects:
            tensors |= {
                f"{subject}.vectors": self.vectors[subject],
                f"{subject}.explained": self.explained[subject],
            }
        total = {subject: float(values.sum(dtype=np.float64)) for subject, values in self.explained.items()}
        described = {"subjects": self.subjects, "standardise": inner, "explained_variance": total}
        return {"part": "encoder", "kind": "pca", **described}, tensors

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Stored) -> "Pca":
        """Return the encoder that `state` described."""
        standardise = Standardise.from_state(config["standardise"], prefixed(tensors, "standardise"))
        explained = {subject: tensors[f"{subject}.explained"] for subject in config["subjects"]}
        return cls(standardise, _vectors(tensors, config["subjects"]), explained)


def _vectors(tensors: Stored, subjects: list[str]) -> LazyMapping[Array]:
    return LazyMapping(subjects, lambda subject: tensors[f"{subject}.vectors"])


@dataclass(frozen=True)
class _StandardisedVoxels:
    """A subject's standardised rows, labelled and not, less their mean: all voxels at once, or some after others."""

    shape: tuple[int, int]
    blocks: Callable[[], Iterator[Array]]

    @classmethod
    def of(cls, standardise: Standardise, subject: str, one: BrainRows) -> "_StandardisedVoxels":
        parts = [part for part in (one.responses, one.unlabelled) if part is not None]
        shape = sum(map(len, parts)), int(standardise.kept[subject].sum())
        if shape[0] >= shape[1] or 4 * math.prod(shape) <= WHOLE_BYTES:
            whole = _whole(standardise, subject, parts, shape)
            return cls(shape, lambda: iter([whole]))
        return cls(shape, lambda: _by_voxels(standardise, subject, parts))


def _whole(standardise: Standardise, subject: str, parts: list[Rows], shape: tuple[int, int]) -> Array:
    rows, end = np.empty(0, np.float32), 0
    for part in parts:
        for block in row_blocks(part):
            features = standardise.encode(subject, part[block])
            rows = rows if end else np.empty_like(features, shape=shape)  # in the encoder's order of values
            rows[end : end + len(features)] = features
            end += len(features)
    rows -= rows.mean(axis=0)
    return rows


def _by_voxels(standardise: Standardise, subject: str, parts: list[Rows]) -> Iterator[Array]:
    for voxels in voxel_blocks(*parts):
        rows = np.concatenate([standardise.encode_part(subject, columns_of(part, voxels), voxels) for part in parts])
        yield rows - rows.mean(axis=0)


def _components(rows: _StandardisedVoxels, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vectors (voxel, component) and shares of variance, from the smaller of the two Gram matrices."""
    wide = rows.shape[1] > rows.shape[0]
    gram = np.zeros(())
    for block in rows.blocks():
        gram = gram + (block @ block.T if wide else block.T @ block).astype(np.float64)
    kept = min(count, rows.shape[0] - 1, rows.shape[1])
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(len(gram) - kept, len(gram) - 1))
    values, vectors = values[::-1].clip(1e-12), vectors[:, ::-1]
    if wide:
        vectors = np.concatenate([block.T @ (vectors / np.sqrt(values)).astype(np.float32) for block in rows.blocks()])
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
    return (vectors * signs).astype(np.float32), (values / np.trace(gram)).astype(np.float32)
