"""330,000 voxels, and more data than the process may hold: written, estimated, and read all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("whole_brain.py")
CHECKOUT = Path(__file__).resolve().parents[2]
ALLOWANCE_MB = 350


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited by Linux's means")
@pytest.mark.parametrize("rows", [300, pytest.param(2400, marks=pytest.mark.full)])
def test_a_whole_brain_larger_than_memory(rows: int, tmp_path: Path) -> None:
    # Memory is reserved when it is used and goes back when it is freed, so that what counts is what is held.
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "100000",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    command = [sys.executable, str(SCRIPT), str(tmp_path / "features.zarr"), str(rows), str(ALLOWANCE_MB)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
