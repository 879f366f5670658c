"""Which ROIs a study is decoded from, and which of each subject's voxels lie in them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from feature_store import Store
from feature_store.reader import voxels_in
from feature_store.sources.base import NO_ROI, ROI_SEPARATOR
from studies.study import RegionsConfig

Index = NDArray[np.int64]
SIDES = {"l": "r", "r": "l"}


@dataclass(frozen=True)
class Region:
    """A ROI, or the two sides of one.

    Attributes
    ----------
    name : what it is called
    names : what the store calls it, one or one a side
    voxels : by subject, positions among the voxels that were given; subjects with too few are skipped
    """

    name: str
    names: tuple[str, ...]
    voxels: dict[str, Index]


@dataclass(frozen=True)
class Regions:
    """The ROIs of a study, in the order of its store.

    Attributes
    ----------
    kept : those that are decoded from
    skipped : by ROI, the reason
    notes : one line each, what a reader has to know
    """

    kept: list[Region]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def why_no_regions(study: str, store: Store, subjects: Sequence[str]) -> str | None:
    """Return why there is nothing to decode from region by region, or None where there is something."""
    for subject in subjects:
        rois = list(store.responses(subject).voxels["roi"])
        if _partial(rois):
            return None
    names = sorted(set(map(str, rois)))
    why = f"all are of '{names[0]}'" if len(names) == 1 and names != [NO_ROI] else "none is named"
    return (
        f"{study}: no ROI that is a part of the brain among the voxels of {', '.join(subjects)} ({why}), so there is "
        "nothing to compare; name ROIs in the source (voxels.csv, source.atlas, or BOLD Moments by region)"
    )


def find_regions(
    config: RegionsConfig, rois: Mapping[str, Sequence[str]], among: Sequence[str] | None = None
) -> Regions:
    """Return the ROIs that are decoded from.

    Parameters
    ----------
    config : RegionsConfig
    rois : by subject, the regions of each voxel as the store names them, joined by `ROI_SEPARATOR`
    among : only ROIs of these names, as in `training.rois`; voxels that lie in another one as well are a part of that

    Raises
    ------
    ConfigError
        No ROI is left: each has too few voxels, or holds them all.
    """
    known = {subject: _partial(names) for subject, names in rois.items()}
    partial = set().union(*known.values())
    names = dict.fromkeys(name for several in rois.values() for name in _in_order(several))
    kept, skipped, notes = [], {}, []
    for name, sides in _grouped([n for n in names if n in partial and _is_among(n, among)], config.sides).items():
        voxels = {
            subject: voxels_in(rois[subject], [side for side in sides if side in there], subject)
            for subject, there in known.items()
            if not there.isdisjoint(sides)
        }
        usable, why = _usable(voxels, rois, config.fewest_voxels)
        if not usable:
            skipped[name] = why
            continue
        kept.append(Region(name, sides, usable))
        notes += [f"{name}: {why}"] if why else []
    if not kept:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
        raise ConfigError(
            f"regions: no ROI is left to decode from ({reasons or 'none is named'}); lower regions.fewest_voxels, or "
            "name more ROIs in training.rois"
        )
    largest = sorted(kept, key=lambda region: -sum(map(len, region.voxels.values())))
    skipped |= {region.name: f"not among the {config.most} largest" for region in largest[config.most :]}
    return Regions([region for region in kept if region.name not in skipped], skipped, notes)


def _usable(
    voxels: Mapping[str, Index], rois: Mapping[str, Sequence[str]], min_voxels: int
) -> tuple[dict[str, Index], str]:
    """Return a ROI's voxels in the subjects where it has enough and not all, and why it is skipped in the others."""
    few = {subject: len(rows) for subject, rows in voxels.items() if len(rows) < min_voxels}
    whole = [subject for subject, rows in voxels.items() if len(rows) == len(rois[subject])]
    usable = {subject: rows for subject, rows in voxels.items() if subject not in few and subject not in whole}
    if whole:
        return usable, f"holds every voxel of {', '.join(whole)}"
    counts = ", ".join(f"{subject} ({count})" for subject, count in few.items())
    return usable, f"fewer than {min_voxels} usable voxels in {counts}" if few else ""


def same_voxels(features: NDArray[Any]) -> Index:
    """Return a number for each voxel, (voxel,), equal where two columns of features (row, voxel) are the same bytes.

    Where a dataset comes region by region, a voxel of two regions comes twice, under either name.
    """
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(column.tobytes()).digest() for column in features.T)
    return np.array([seen.setdefault(digest, len(seen)) for digest in digests], dtype=np.int64)


def outside(voxels: Index, same: Index) -> Index:
    """Return all other voxels but those that are the same as one of these; see `same_voxels`."""
    return np.flatnonzero(~np.isin(same, same[voxels]))


def _partial(rois: Iterable[object]) -> set[str]:
    """Return the names of the regions that hold some of the voxels and not all of them."""
    of_voxels = [set(str(names).split(ROI_SEPARATOR)) for names in rois]
    everywhere = set.intersection(*of_voxels) if of_voxels else set()
    return set().union(*of_voxels) - everywhere - {NO_ROI, ""}


def _in_order(rois: Iterable[object]) -> Iterable[str]:
    return dict.fromkeys(name for names in rois for name in str(names).split(ROI_SEPARATOR))


def _is_among(name: str, among: Sequence[str] | None) -> bool:
    return among is None or name in among or (name[:1] in SIDES and name[1:] in among)


def _grouped(names: Sequence[str], sides: str) -> dict[str, tuple[str, ...]]:
    """Return the store's names of each ROI: both sides of one that has two, unless it is there without a side too."""
    grouped: dict[str, tuple[str, ...]] = {}
    for name in names:
        whole, other = name[1:], SIDES.get(name[:1], "") + name[1:]
        both = sides == "joined" and name[:1] in SIDES and whole and other in names and whole not in names
        grouped.setdefault(whole if both else name, tuple(sorted((name, other))) if both else (name,))
    return grouped
