"""The feature store: Zarr groups on disk, one per subject and one per extractor, checked at every read.

>>> from feature_store import Store, verify                    # doctest: +SKIP
>>> store = Store("data/demo/features.zarr")                   # doctest: +SKIP
>>> store.responses("sub-01").values("train", rois=["V1v"])    # doctest: +SKIP
>>> store.pairs(["sub-01"], "latents", "train")                # doctest: +SKIP
"""

from feature_store.groups import Responses, Targets
from feature_store.pairs import Pairs, SubjectPairs
from feature_store.reader import Store
from feature_store.verification import Finding, verify

__all__ = ["Finding", "Pairs", "Responses", "Store", "SubjectPairs", "Targets", "verify"]
