"""References that one stage hands to the next: names, paths and digests, never arrays."""

from typing import Any

from pydantic import Field

from core.config import Config


class GroupRef(Config):
    """A published group of a feature store.

    Attributes
    ----------
    kind : "responses" or "targets"
    name : subject or target
    path : relative to the checkout
    digest : digest of the group's content, hence of all its bytes
    shapes : array to shape
    fresh : whether it was already there, made from the same inputs, settings and code
    attributes : the group's own, such as its source, its space, how many voxels hold NaN
    dvc_state : its state in DVC when this was written; see `feature_store.versioning.states`
    pictures : files that show it, relative to the checkout
    """

    kind: str
    name: str
    path: str
    digest: str
    shapes: dict[str, list[int]]
    fresh: bool
    attributes: dict[str, Any] = Field(default_factory=dict)
    dvc_state: str = ""
    pictures: list[str] = Field(default_factory=list)


class TrainingRef(Config):
    """A training run on disk: models, scores.json.

    Attributes
    ----------
    run : name of the run
    folder : relative to the checkout
    fingerprint : digest of stores, settings and code
    digests : part to digest
    fresh : whether it was already there
    """

    study: str
    run: str
    folder: str
    fingerprint: str
    digests: dict[str, str]
    fresh: bool


class RunRef(Config):
    """A run on disk; or the reason why there was nothing to do.

    Attributes
    ----------
    run : name of the run; empty where there was nothing to do
    folder : relative to the checkout
    digest : digest of the file with its results
    note : why there was nothing to do, else empty
    fresh : whether it was already there
    """

    study: str
    run: str
    folder: str
    digest: str
    note: str
    fresh: bool


class ReconstructionRef(RunRef):
    """A reconstruction: videos, metrics.json, gallery.html; the digest is that of metrics.json."""


class RegionsRef(RunRef):
    """A decoding from each ROI: regions.json, whose digest it is, regions.png, and brain.png with coordinates."""
