"""What one stage hands to the next: references with digests, never arrays."""

from core.config import Config


class GroupRef(Config):
    """A published group of a feature store.

    Attributes
    ----------
    kind : "responses" or "targets"
    name : subject or target
    path : relative to the checkout
    digest : SHA-256 of the group's manifest
    shapes : array to shape
    fresh : whether it was already there, made from the same inputs, settings and code
    """

    kind: str
    name: str
    path: str
    digest: str
    shapes: dict[str, list[int]]
    fresh: bool


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


class ReconstructionRef(Config):
    """A reconstruction run on disk: videos, metrics.json, gallery.html.

    Attributes
    ----------
    run : name of the run; empty where there was nothing to render
    folder : relative to the checkout
    digest : digest of metrics.json
    note : why there was nothing to render, else empty
    fresh : whether it was already there
    """

    study: str
    run: str
    folder: str
    digest: str
    note: str
    fresh: bool
