"""The writer is killed at random moments: what was published stands, and the next run gives the very same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core.files import digest_folder
from feature_store import Store, verify
from feature_store.manifest import read_manifest

SCRIPT = Path(__file__).with_name("kill_writer.py")
CHECKOUT = Path(__file__).resolve().parents[2]


def start(store: Path, fingerprint: str) -> "subprocess.Popen[str]":
    """Start the writer and wait until it writes."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, str(SCRIPT), str(store), fingerprint]
    writer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def finish(store: Path, fingerprint: str) -> float:
    """Run the writer to its end and return the seconds it wrote."""
    writer, began = start(store, fingerprint), time.monotonic()
    assert writer.wait(timeout=60) == 0
    return time.monotonic() - began


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.full)])
def test_a_killed_writer_loses_nothing(kills: int, tmp_path: Path, rng: np.random.Generator) -> None:
    undisturbed, older = tmp_path / "a" / "features.zarr", tmp_path / "b" / "features.zarr"
    duration = finish(undisturbed, "new")
    expected = digest_folder(undisturbed)
    finish(older, "older")
    struck = 0
    for kill in range(kills):
        store = tmp_path / f"kill-{kill}" / "features.zarr"
        had_older = bool(kill % 2)
        if had_older:
            shutil.copytree(older, store)
        for moment in rng.uniform(0, 1.05 * duration, size=1 + kill % 2):  # some are killed twice
            writer = start(store, "new")
            time.sleep(float(moment))
            writer.send_signal(signal.SIGKILL)
            struck += writer.wait() == -signal.SIGKILL
            check_what_stands(store, had_older)
        finish(store, "new")
        assert digest_folder(store) == expected, f"kill {kill}: the resumed store has other bytes"
        assert not list((store.parent / ".staging").iterdir()), "nothing is left in staging"
        shutil.rmtree(store.parent)
    assert struck >= kills * 0.7, "most kills must fall into the writing"


def check_what_stands(store: Path, had_older: bool) -> None:
    """After a kill a group is the older one, the new one, or none where there was none; never half of one."""
    group = store / "responses" / "sub-01"
    if had_older:
        assert read_manifest(group).fingerprint in ("older", "new")
    if group.exists():
        assert list(verify(group)) == []
        values, _ = Store(store).responses("sub-01").values("train")
        assert values.shape == (120, 500)
