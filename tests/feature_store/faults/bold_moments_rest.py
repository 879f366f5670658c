"""What rows of rest beside BOLD Moments' regions may have wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.sources.bold_moments.layout import REST_KEY

from ..bold_moments_disk import dump, read_all, rest_path, write_rest
from . import Fault
from .bold_moments import cut, unlinked


def rest(values: Any) -> Callable[[Path], Any]:
    return lambda root: dump(rest_path(root, "rMT"), {REST_KEY: values})


CASES: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "a region without rest",
        lambda r: rest_path(r, "rMT").unlink(),
        "roi-rMT_rest_normalized.pkl: no such file; other regions have rest: simulate again, or remove theirs",
    ),
    ("rest of other voxels", rest(np.zeros((4, 2))), r"rest_data_allvoxel has shape \(4, 2\) .*, expected \(4, 3\)"),
    ("rest of other rows", rest(np.zeros((5, 3))), r"has shape \(5, 3\) of float64, expected \(4, 3\) of floats"),
    ("rest of trials", rest(np.zeros((4, 1, 3))), r"has shape \(4, 1, 3\) of float64, expected \(4, 3\)"),
    ("rest of whole numbers", rest(np.zeros((4, 3), int)), r"of int64, expected \(4, 3\) of floats"),
    ("rest of NaN", rest(np.full((4, 3), np.nan)), "rMT.*: rest_data_allvoxel holds no finite value"),
    ("rest as a list", lambda r: dump(rest_path(r), [1.0]), r"lMT_rest.*: lacks rest_data_allvoxel \(found: list\)"),
    ("rest without its key", lambda r: dump(rest_path(r), {"x": 1}), r"lacks rest_data_allvoxel \(found: x\)"),
    (
        "rest that is a link",
        lambda r: unlinked(rest_path(r)),
        r"a link without its content \(git-annex\); run 'datalad",
    ),
    ("rest cut", lambda r: cut(rest_path(r)), "lMT_rest_normalized.pkl: cut short or no pickle"),
]
FAULTS = [Fault(f"bold_moments: {name}", write_rest, spoil, read_all, message) for name, spoil, message in CASES]
