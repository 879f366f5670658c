"""Reads a store: responses of a subject, targets of an extractor, and their join by stimulus."""

from collections.abc import Sequence
from pathlib import Path

from core.config import nearest
from core.errors import StoreCorrupted, StoreError, StoreMissing
from feature_store.groups import Group, Repeats, Responses, Targets, open_group
from feature_store.manifest import mend
from feature_store.pairs import Pairs, join
from feature_store.schema import CONTAINERS, MANIFEST, STORE_NAME, Kind
from feature_store.sources.base import Split


class Store:
    """A feature store on disk; the entity is a stimulus seen by a subject, a feature view is one group.

    Parameters
    ----------
    path : Path or str
        The root, `features.zarr`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        root = self.path / "zarr.json"
        if not root.is_file():
            raise StoreMissing(f"{self.path}: no feature store; run 'dvc pull' or 'brain2video run' first")
        if root.read_bytes() != CONTAINERS["zarr.json"]:
            raise StoreCorrupted(f"{root}: is not as this project writes it; run 'git checkout {root}' or remove it")

    def names(self, kind: Kind) -> list[str]:
        """Return the published groups of a kind: subjects or targets."""
        return sorted(path.parent.name for path in (self.path / kind).glob(f"[!.]*/{MANIFEST}"))

    def responses(self, subject: str) -> Responses:
        """Open one subject's responses."""
        group = self._open("responses", subject)
        assert isinstance(group, Responses)
        return group

    def target(self, name: str) -> Targets:
        """Open one extractor's targets."""
        group = self._open("targets", name)
        assert isinstance(group, Targets)
        return group

    def pairs(
        self,
        subjects: Sequence[str],
        target: str,
        split: Split,
        *,
        rois: list[str] | None = None,
        repeats: Repeats = "mean",
    ) -> Pairs:
        """Join subjects' responses with a target by stimulus, never by position.

        Parameters
        ----------
        subjects : sequence of str
            For example ``["sub-01", "sub-02"]``.
        target : str
            For example ``"latents"``.
        split : "train" or "test"
        rois : list of str, optional
            Only the voxels of these ROIs.
        repeats : "single" or "mean"
            Every trial, or the mean over the repetitions of each stimulus.

        Returns
        -------
        Pairs
            By subject; rows keep the order of the responses, with their ids, and what was dropped is counted.

        Raises
        ------
        StoreMissing, StoreCorrupted, StoreError
            A group is absent or damaged, a ROI is unknown, or no stimulus is in both groups.
        """
        wanted = self.target(target)
        return Pairs({subject: join(self.responses(subject), wanted, split, rois, repeats) for subject in subjects})

    def _open(self, kind: Kind, name: str) -> Group:
        path = self.path / kind / name
        if not (path / MANIFEST).is_file():
            known = nearest(name, self.names(kind))
            raise StoreMissing(f"{STORE_NAME}/{kind}/{name}: not in {self.path.parent}{known}; {mend(path)}")
        group = open_group(path)
        if group.attributes["encoding-type"] != kind:
            raise StoreError(f"{path}: holds {group.attributes['encoding-type']}, expected {kind}; {mend(path)}")
        return group
