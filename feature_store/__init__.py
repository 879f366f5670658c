"""The feature store: Zarr groups on disk, one per subject and one per extractor, checked at every read.

>>> from feature_store import Store, verify                    # doctest: +SKIP
>>> store = Store("data/demo/features.zarr")                   # doctest: +SKIP
>>> store.responses("sub-01").values("train", rois=["V1v"])    # doctest: +SKIP
>>> store.pairs(["sub-01"], "latents", "train")                # doctest: +SKIP
"""

from feature_store.manifest import Finding, verify
from feature_store.reader import Pairs, Responses, Store, SubjectPairs, Targets

__all__ = ["Finding", "Pairs", "Responses", "Store", "SubjectPairs", "Targets", "verify"]
