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
from studies.study import RegionsConfig, Study

Index = NDArray[np.int64]
SIDES = {"l": "r", "r": "l"}


@dataclass(frozen=True)
class Region:
    """A ROI, or the two sides of one.

    Attributes
    ----------
    name : what it is called
    names : what the store calls it, one or one a side
    voxels : by subject, positions among the voxels that were given; subjects with too few are left out
    """

    name: str
    names: tuple[str, ...]
    voxels: dict[str, Index]


@dataclass(frozen=True)
class Regions:
    """The ROIs of a study, in the order of its store.

    Attributes
    ----------
    found : list of Region
    skipped : by ROI, why it is left out
    notes : one line each, what a reader has to know
    """

    found: list[Region]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def why_no_regions(study: Study, store: Store, subjects: Sequence[str]) -> str | None:
    """Return why there is nothing to decode from region by region, or None where there is something."""
    for subject in subjects:
        rois = list(store.responses(subject).voxels["roi"])
        if _partial(rois):
            return None
    names = sorted(set(map(str, rois)))
    found = f"all are of '{names[0]}'" if len(names) == 1 and names != [NO_ROI] else "none is named"
    return (
        f"{study.study}: no ROI that is a part of the brain among the voxels of {', '.join(subjects)} ({found}), so "
        "there is nothing to compare; name ROIs in the source (voxels.csv, source.atlas, or BOLD Moments by region)"
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
    names = list(dict.fromkeys(name for one in rois.values() for name in _in_order(one)))
    names = [name for name in names if any(name in one for one in known.values()) and _is_among(name, among)]
    found, skipped, notes = [], {}, []
    for name, sides in _grouped(names, config.sides).items():
        voxels = {
            subject: voxels_in(rois[subject], [one for one in sides if one in there], subject)
            for subject, there in known.items()
            if not there.isdisjoint(sides)
        }
        few = {s: len(rows) for s, rows in voxels.items() if len(rows) < config.fewest_voxels}
        whole = [s for s, rows in voxels.items() if len(rows) == len(rois[s])]
        kept = {s: rows for s, rows in voxels.items() if s not in few and s not in whole}
        why = f"fewer than {config.fewest_voxels} usable voxels in {_listed(few)}" if few else ""
        why = f"holds every voxel of {', '.join(whole)}" if whole else why
        if kept:
            found.append(Region(name, sides, kept))
            notes += [f"{name}: {why}"] if why else []
        else:
            skipped[name] = why
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
        raise ConfigError(
            f"regions: no ROI is left to decode from ({reasons or 'none is named'}); lower regions.fewest_voxels, or "
            "name more ROIs in training.rois"
        )
    order = sorted(range(len(found)), key=lambda at: -sum(map(len, found[at].voxels.values())))
    skipped |= {found[at].name: f"not among the {config.most} largest" for at in order[config.most :]}
    return Regions([found[at] for at in sorted(order[: config.most])], skipped, notes)


def same_voxels(features: NDArray[Any]) -> Index:
    """Return a number for each voxel, (voxel,), equal where two columns of features (row, voxel) are the same bytes.

    Where a dataset comes region by region, a voxel of two regions comes twice, under either name.
    """
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(column.tobytes()).digest() for column in features.T)
    return np.array([seen.setdefault(digest, len(seen)) for digest in digests], dtype=np.int64)


def outside(voxels: Index, same: Index) -> Index:
    """Return the voxels that are none of these, nor the same as one of them; see `same_voxels`."""
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


def _grouped(known: Sequence[str], sides: str) -> dict[str, tuple[str, ...]]:
    """Return the store's names of each ROI: both sides of one that has two, unless it is there without a side too."""
    grouped: dict[str, tuple[str, ...]] = {}
    for name in known:
        whole, other = name[1:], SIDES.get(name[:1], "") + name[1:]
        both = sides == "joined" and name[:1] in SIDES and whole and other in known and whole not in known
        grouped.setdefault(whole if both else name, tuple(sorted((name, other))) if both else (name,))
    return grouped


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{subject} ({count})" for subject, count in counts.items())
