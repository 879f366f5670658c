"""Writes and reads a whole brain with less memory than it takes: ``python whole_brain.py STORE ROWS ALLOWANCE_MB``.

The allowance is set as a limit of the process, on top of what its imports took; mapped files do not count.
"""

import resource
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from feature_store import Store
from feature_store.noise_ceiling import missing_values, ncsnr
from feature_store.rows import loaded
from feature_store.writer import GroupWriter

VOXELS, REPEATS = 330_000, 3


def limit_memory(allowance: int) -> None:
    """Refuse allocations beyond what is taken now and the allowance, in bytes."""
    status = Path("/proc/self/status").read_text()
    taken = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (taken + allowance, taken + allowance))


def rows_of(start: int, stop: int) -> np.ndarray:
    """Return trials that say which they are: row number plus a little of each voxel's own."""
    own = np.arange(VOXELS, dtype="f4") / VOXELS
    return np.stack([own + row for row in range(start, stop)])


def main(store: Path, rows: int, allowance: int) -> None:
    """Write, estimate, read batches, means and everything."""
    limit_memory(allowance)
    stimuli = [f"s{row // REPEATS}" for row in range(rows)]
    with GroupWriter(store, "responses/sub-01", encoding_type="responses", fingerprint="f") as group:
        group.array("train/betas", (rows, VOXELS), "float32", rows_of, ("trial", "voxel"))
        group.table("train/trials", pd.DataFrame({"stimulus": stimuli, "repetition": np.arange(rows) % REPEATS}))
        written = group.rows("train/betas")
        assert not missing_values(written).any()
        group.table("voxels", pd.DataFrame({"roi": "all", "ncsnr": ncsnr(written, stimuli)}, index=range(VOXELS)))
    responses = Store(store).responses("sub-01")
    view, _ = responses.view("train")
    assert view.nbytes > allowance
    assert loaded(view, available=allowance) is view
    batch = np.random.default_rng(0).choice(rows, 16, replace=False)
    assert np.array_equal(view[batch], np.concatenate([rows_of(row, row + 1) for row in batch]))
    for start in range(0, rows, 8):
        assert view[start : start + 8][0, 0] == start
    means, names = responses.view("train", repeats="mean")
    assert np.array_equal(means[np.array([5])][0], rows_of(16, 17)[0]), "the middle of three neighbours"
    assert len(names) == rows // REPEATS


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(float(sys.argv[3]) * 1e6))
