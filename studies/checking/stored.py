"""Checks that what a store holds can be trained on and scored, before hours of fitting."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from core.errors import Brain2VideoError, ModelError
from feature_store import Store
from feature_store.reader import Responses
from feature_store.sources.base import SPLITS
from models.decoders.rows import row_blocks
from models.encoders.linear import mean_over_time, scale_of
from studies.checking.trials import Shown, faults_of_regions, faults_of_trials
from studies.study import TrainingConfig


def faults_of_store(
    store: Store, subjects: Sequence[str], training: TrainingConfig, seed: int
) -> Iterator[Brain2VideoError]:
    """Yield what of the stored trials, voxels and responses cannot be trained on or scored."""
    stored = {subject: store.responses(subject) for subject in subjects}
    tables = {s: {split: own.trials(split) for split in SPLITS} for s, own in stored.items()}
    shown = Shown.of(tables, {s: math.prod(own.rows("train/betas").shape[1:-1]) for s, own in stored.items()})
    faults = list(faults_of_trials(shown, training.routes, training.stimuli, seed))
    for subject, own in stored.items():
        faults += faults_of_regions(own.voxels["roi"], training.rois, subject)
    yield from faults
    takes_all = any(getattr(route.encoder, "voxels", None) is None for route in training.routes.values())
    if takes_all and not faults:  # a route that selects voxels may leave out those that are missing
        for own in stored.values():
            yield from _faults_of_values(own, training.rois)


def _faults_of_values(own: Responses, rois: list[str] | None) -> Iterator[Brain2VideoError]:
    """Yield a fault where voxels that training would keep hold NaN in the test set, which nothing can be made of."""
    if not own.attributes.get("nan_voxels", {}).get("test"):
        return
    test = own.view("test", rois=rois)[0]
    missing = np.zeros(test.shape[-1], bool)
    for rows in row_blocks(test):
        missing |= ~np.isfinite(mean_over_time(test[rows])).all(axis=0)
    bad = int((missing & scale_of(own.view("train", rois=rois)[0])[2]).sum())
    if bad:
        yield ModelError(f"{own.subject}: {bad} voxels hold NaN that had none in training; remove or fill them")
