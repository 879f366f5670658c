"""Writes what BOLD Moments holds beside its regions' betas: whole spaces, masks, noise ceilings, responses over time.

All of it derives from the same simulated voxels: the MNI space holds the regions' voxels and some in no region, the
surfaces are a resampling of it, and the windows are its betas spread over time by a haemodynamic response.

Voxels lie in a small MNI volume of two hemispheres, with regions as clusters of cells. Cells on the volume's faces may
be missing from a subject; the regions lie among the inner cells, which all subjects share, so that they lie in the
group's mask as the published ones do.
"""

import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.layout import GENERAL, ROIS, WHOLE, WINDOW_ROIS, Counts
from simulation.brains import SimulatedSubject
from simulation.world import SPLITS, SimulationConfig, Split

VOXEL_MM = 3.0
MISSING = 0.1
"""Part of the cells on the faces that a subject's mask lacks."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Volume:
    """The volume that all subjects of a simulation share."""

    depth: int
    """Cells across one hemisphere in each direction."""

    @classmethod
    def of(cls, config: SimulationConfig) -> "Volume":
        """Return the smallest volume whose inner cells hold a hemisphere's regions and some voxels more."""
        needed = 0.55 * config.voxels + len(ROIS) + config.voxels / 8
        depth = 3
        while (depth - 1) * (depth - 2) ** 2 < needed:
            depth += 1
        return cls(depth)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x (left to right), y and z."""
        return 2 * self.depth, self.depth, self.depth

    @property
    def affine(self) -> NDArray[np.float64]:
        """From cells to mm, (4, 4); the hemispheres meet at x = 0."""
        affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1])
        affine[:3, 3] = [-VOXEL_MM * (size - 1) / 2 for size in self.shape]
        return affine

    @cached_property
    def inner(self) -> NDArray[np.bool_]:
        """Cells that do not lie on a face."""
        inner = np.zeros(self.shape, dtype=bool)
        inner[1:-1, 1:-1, 1:-1] = True
        return inner

    def mask(self, config: SimulationConfig, number: int) -> NDArray[np.bool_]:
        """Return the cells that one subject has."""
        lost = rng_for(config.seed, "mask", number).random(self.shape) < MISSING
        return np.asarray(self.inner | ~lost)

    def group_mask(self, config: SimulationConfig) -> NDArray[np.bool_]:
        """Return the cells that all subjects have."""
        masks = [self.mask(config, number) for number in range(1, config.subjects + 1)]
        return np.asarray(np.logical_and.reduce(masks))


@dataclass(frozen=True)
class Anatomy:
    """One subject's voxels in the volume."""

    volume: Volume
    mask: NDArray[np.bool_]
    """The subject's cells; its voxels are these in C order."""
    regions: dict[str, Indices]
    """Per region, the positions of its voxels among the subject's, ascending."""

    @cached_property
    def flat(self) -> Indices:
        """Each voxel's index in the flattened volume."""
        return np.flatnonzero(self.mask)

    @property
    def ijk(self) -> Indices:
        """Each voxel's cell, (voxel, 3)."""
        return np.stack(np.unravel_index(self.flat, self.mask.shape), axis=1)

    def hemisphere(self, side: str) -> Indices:
        """Return the positions of the voxels of one side, ``"l"`` or ``"r"``."""
        left = self.ijk[:, 0] < self.volume.depth
        return np.flatnonzero(left if side == "l" else ~left)

    @property
    def unassigned(self) -> Indices:
        """Positions of the voxels in no region (`GENERAL` is none here)."""
        assigned = np.concatenate([self.regions[roi] for roi in ROIS])
        return np.setdiff1d(np.arange(len(self.flat)), assigned)


def place_regions(config: SimulationConfig, number: int, sizes: dict[str, int]) -> Anatomy:
    """Place one subject's regions of these sizes: each takes the free inner cells of its side nearest to a centre."""
    volume = Volume.of(config)
    rng = rng_for(config.seed, "anatomy", number)
    free, flat = volume.inner.copy(), dict[str, Indices]()
    for roi, size in sizes.items():
        cells = np.argwhere(free)
        cells = cells[(cells[:, 0] < volume.depth) == (roi[0] == "l")]
        distance = ((cells - cells[rng.integers(len(cells))]) ** 2).sum(axis=1)
        taken = cells[np.argsort(distance, kind="stable")[:size]]
        free[tuple(taken.T)] = False
        flat[roi] = np.sort(np.ravel_multi_index(tuple(taken.T), volume.shape))
    mask = volume.mask(config, number)
    spare = rng.choice(np.flatnonzero(free & volume.inner), size=max(1, config.voxels // 20), replace=False)
    chosen = np.concatenate([cells[rng.random(len(cells)) < 0.5] for cells in flat.values()])
    flat[GENERAL] = np.sort(np.concatenate([chosen, spare]))
    at = np.flatnonzero(mask)
    return Anatomy(volume, mask, {roi: np.searchsorted(at, cells) for roi, cells in flat.items()})


PICKLE_PROTOCOL = 4
AVERAGED = (5, 6, 7, 8, 9)
"""The TRs whose average is published as a folder of its own."""
WINDOW_NOISE = 0.5
"""Standard deviation of the noise of each TR, in that of the betas."""

Betas = dict[Split, NDArray[np.float64]]
"""Per split (stimulus, repetition, voxel)."""


def write_pickle(path: Path, content: Any) -> None:
    """Write a pickle, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=PICKLE_PROTOCOL))


@dataclass(frozen=True)
class SpaceWriter:
    """Writes one subject's files of every space that the config names, beside those of its regions."""

    config: SimulationConfig
    counts: Counts
    folder: Path
    number: int
    anatomy: Anatomy
    betas: Betas
    group: NDArray[np.bool_]
    """The cells that all subjects have; the image in the regions' index files."""

    @classmethod
    def of(
        cls, config: SimulationConfig, counts: Counts, folder: Path, number: int, simulated: SimulatedSubject
    ) -> "SpaceWriter":
        """Place a simulated subject's voxels in the volume, among others that hold noise."""
        sizes = {roi: betas["train"].shape[-1] for roi, betas in simulated.betas.items()}
        anatomy = place_regions(config, number, sizes)
        betas = whole_brain(config, number, anatomy, simulated)
        return cls(config, counts, folder, number, anatomy, betas, anatomy.volume.group_mask(config))

    @property
    def subject(self) -> str:
        """For example ``"sub-01"``."""
        return f"sub-{self.number:02d}"

    def write(self) -> None:
        """Write the files that `space_files` names."""
        if "MNI152" in self.config.spaces:
            self._write_volume()
        if "fsLR32k" in self.config.spaces:
            columns = surface_columns(self.config, self.number, self.anatomy, "fsLR32k")
            self._write_space(layout.ORGANIZED, layout.CEILING, {"space": "fsLR32k"}, columns)
        if "fsaverage" in self.config.spaces:
            columns = surface_columns(self.config, self.number, self.anatomy, "fsaverage")
            for hemisphere, part in zip(layout.HEMISPHERES, np.split(columns, 2), strict=True):
                names = {"space": "fsaverage", "hemisphere": hemisphere}
                self._write_space(layout.ORGANIZED_HEMISPHERE, layout.CEILING_HEMISPHERE, names, part)
        if "windows" in self.config.spaces:
            self._write_windows()

    def _dump(self, template: str, content: Any, **names: Any) -> None:
        write_pickle(self.folder / template.format(subject=self.subject, **names), content)

    def _image(self, mask: NDArray[np.bool_]) -> Any:
        """Return a mask as nibabel's image; a new one each time, because saving one would leave its path in it."""
        return nib.Nifti1Image(mask.astype(np.float64), self.anatomy.volume.affine)

    def _write_volume(self) -> None:
        everything = np.arange(len(self.anatomy.flat))
        self._write_space(layout.ORGANIZED, layout.CEILING, {"space": "MNI152"}, everything, with_image=True)
        self._write_masks()
        for roi in (*ROIS, GENERAL):
            columns = self.anatomy.regions[roi]
            index = [self.anatomy.ijk[columns], self.anatomy.flat[columns], self._image(self.group)]
            self._dump(layout.ROI_INDICES, index, roi=roi)
        self._dump(layout.BETAS, self._pair(self.betas, self.anatomy.regions[GENERAL]), roi=GENERAL)
        self._dump(layout.BETAS, self._pair(self.betas, everything), roi=WHOLE)

    def _write_masks(self) -> None:
        for template, mask in ((layout.GROUP_MASK, self.group), (layout.SUBJECT_MASK, self.anatomy.mask)):
            path = self.folder / template.format(subject=self.subject)
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(self._image(mask), path)

    def _write_space(
        self, organized: str, ceiling: str, names: dict[str, str], columns: Indices, *, with_image: bool = False
    ) -> None:
        """Write betas and noise ceilings of one space, or of one hemisphere of it."""
        for split in SPLITS:
            betas = np.ascontiguousarray(self.betas[split][..., columns])
            stimuli = [layout.STIMULUS_NAME.format(stimulus=stimulus) for stimulus in self.counts.stimuli(split)]
            image = [self._image(self.anatomy.mask)] if with_image else []
            self._dump(organized, (betas, stimuli, *image), split=split, **names)
            ncsnr = measured_ncsnr(betas)
            for n in ceiling_repeats(self.counts, split):
                self._dump(ceiling, (ncsnr, noise_ceiling(ncsnr, n), *image), split=split, n=n, **names)

    @staticmethod
    def _pair(betas: Betas, columns: Indices) -> dict[str, NDArray[np.float64]]:
        return {layout.BETAS_KEYS[split]: np.ascontiguousarray(betas[split][..., columns]) for split in SPLITS}

    def _write_windows(self) -> None:
        total: Betas = {split: np.zeros_like(betas) for split, betas in self.betas.items()}
        for tr in layout.TRS:
            window = at_tr(self.config, self.number, self.betas, tr)
            self._write_window(window, str(tr), f"TR-{tr}")
            if tr in AVERAGED:
                total = {split: total[split] + window[split] for split in SPLITS}
        mean: Betas = {split: total[split] / len(AVERAGED) for split in SPLITS}
        self._write_window(mean, _AVERAGE, _AVERAGE_LABEL)

    def _write_window(self, window: Betas, tr: str, label: str) -> None:
        regions = {roi: window_columns(self.anatomy, roi) for roi in (*WINDOW_ROIS, WHOLE)}
        for roi, columns in regions.items():
            self._dump(layout.WINDOWS, self._pair(window, columns), tr=tr, roi=roi, label=label)


_AVERAGE = f"avg{''.join(map(str, AVERAGED))}"
_AVERAGE_LABEL = f"TRavg-{''.join(map(str, AVERAGED))}"


def space_files(config: SimulationConfig, counts: Counts, subject: str) -> Iterator[str]:
    """Yield the name of every file that a subject has beside those of its regions."""
    if "MNI152" in config.spaces:
        yield from (layout.GROUP_MASK, layout.SUBJECT_MASK.format(subject=subject))
        yield from (layout.BETAS.format(subject=subject, roi=roi) for roi in (GENERAL, WHOLE))
        yield from (layout.ROI_INDICES.format(subject=subject, roi=roi) for roi in (*ROIS, GENERAL))
    for space in config.spaces:
        if space in ("MNI152", "fsLR32k", "fsaverage"):
            yield from _files_of(counts, subject, space)
    if "windows" in config.spaces:
        labels = {**{str(tr): f"TR-{tr}" for tr in layout.TRS}, _AVERAGE: _AVERAGE_LABEL}
        for tr, label in labels.items():
            yield from (
                layout.WINDOWS.format(tr=tr, subject=subject, roi=roi, label=label) for roi in (*WINDOW_ROIS, WHOLE)
            )


def _files_of(counts: Counts, subject: str, space: str) -> Iterator[str]:
    sides = layout.HEMISPHERES if space == "fsaverage" else layout.HEMISPHERES[:1]
    organized, ceiling = layout.ORGANIZED, layout.CEILING
    if space == "fsaverage":
        organized, ceiling = layout.ORGANIZED_HEMISPHERE, layout.CEILING_HEMISPHERE
    for side in sides:
        for split in SPLITS:
            names = {"space": space, "subject": subject, "split": split, "hemisphere": side}
            yield organized.format(**names)
            yield from (ceiling.format(**names, n=n) for n in ceiling_repeats(counts, split))


def ceiling_repeats(counts: Counts, split: Split) -> list[int]:
    """Return for how many averaged repeats noise ceilings are published: one, and all."""
    return sorted({1, counts.repeats(split)})


def measured_ncsnr(betas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the noise-ceiling SNR that repeats show, as it was computed for the published files.

    σ²_noise is the mean over stimuli of the variance over repeats (ddof 1), σ²_total the variance over all trials
    (ddof 0), σ²_signal = max(σ²_total - σ²_noise, 0), and ncsnr = σ_signal / σ_noise (Allen et al. 2022).

    Of betas (stimulus, repetition, voxel) it is (voxel,); with one repetition the noise is unknown and ncsnr is 0.
    """
    if betas.shape[1] < 2:
        return np.zeros(betas.shape[-1])
    noise = betas.var(axis=1, ddof=1).mean(axis=0)
    signal = np.maximum(betas.var(axis=(0, 1)) - noise, 0)
    return np.asarray(np.sqrt(signal / noise))


def noise_ceiling(ncsnr: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the noise ceiling in percent for the mean of `n` repeats: 100 · ncsnr² / (ncsnr² + 1/n)."""
    return np.asarray(100 * ncsnr**2 / (ncsnr**2 + 1 / n))


def whole_brain(config: SimulationConfig, number: int, anatomy: Anatomy, simulated: SimulatedSubject) -> Betas:
    """Return the betas of all voxels of the MNI space: the regions' as they are, z-scored noise in all others."""
    rng = rng_for(config.seed, "outside regions", number)
    voxels = len(anatomy.flat)
    shapes = {split: (*simulated.betas[ROIS[0]][split].shape[:2], voxels) for split in SPLITS}
    betas: Betas = {split: rng.standard_normal(shapes[split]) for split in SPLITS}
    mean, deviation = betas["train"].mean(axis=(0, 1)), betas["train"].std(axis=(0, 1))
    betas = {split: (betas[split] - mean) / deviation for split in SPLITS}
    for roi in ROIS:
        for split in SPLITS:
            betas[split][..., anatomy.regions[roi]] = simulated.betas[roi][split]
    return betas


def surface_columns(config: SimulationConfig, number: int, anatomy: Anatomy, space: str) -> Indices:
    """Return the voxel that each vertex of a surface copies: left cortex, right cortex, then fsLR32k's subcortex."""
    rng = rng_for(config.seed, "surface", space, number)
    vertices = config.voxels // 2
    parts = [rng.choice(anatomy.hemisphere(side), vertices) for side in "lr"]
    if space == "fsLR32k":
        parts.append(rng.choice(anatomy.unassigned, vertices // 2))
    return np.concatenate(parts)


def window_columns(anatomy: Anatomy, roi: str) -> Indices:
    """Return the voxels of one of version A's regions, left before right, or all of them for `WHOLE`."""
    if roi == WHOLE:
        return np.arange(len(anatomy.flat))
    return np.concatenate([anatomy.regions[f"{side}{roi}"] for side in "lr"])


def haemodynamic(t_s: float) -> float:
    """Return the response `t_s` seconds after a brief stimulus: a difference of two gamma densities, peak near 1."""
    peak, undershoot = (t_s**power * math.exp(-t_s) / math.factorial(power) for power in (5, 15))
    return (peak - undershoot / 6) / 0.1755


def at_tr(config: SimulationConfig, number: int, betas: Betas, tr: int) -> Betas:
    """Return the responses at one TR: betas times the haemodynamic response at its middle, plus noise."""
    rng = rng_for(config.seed, "window", number, tr)
    height = haemodynamic((tr - 0.5) * layout.TR_S)
    return {split: height * part + WINDOW_NOISE * rng.standard_normal(part.shape) for split, part in betas.items()}
