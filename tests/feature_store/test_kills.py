"""The writer is killed at random moments: what was published stands, and the next run gives the very same bytes."""

import shutil
import signal
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np
import pytest

from core.files import digest_folder
from feature_store import Store, verify
from feature_store.manifest import read_manifest

from ..forking import forking
from .kill_writer import main


@pytest.fixture
def context() -> Iterator[ForkServerContext]:
    with forking("tests.feature_store.kill_writer") as made:
        yield made


def start(context: ForkServerContext, store: Path, fingerprint: str) -> ForkServerProcess:
    """Start the writer and wait until it writes."""
    receiver, sender = context.Pipe(duplex=False)
    writer = context.Process(target=main, args=(store, fingerprint, sender))
    writer.start()
    sender.close()
    assert receiver.recv() == "writing"
    return writer


def finish(context: ForkServerContext, store: Path, fingerprint: str) -> float:
    """Run the writer to its end and return the seconds it wrote."""
    writer, began = start(context, store, fingerprint), time.monotonic()
    writer.join(60)
    assert writer.exitcode == 0
    return time.monotonic() - began


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.full)])
def test_a_killed_writer_loses_nothing(
    kills: int, context: ForkServerContext, tmp_path: Path, rng: np.random.Generator
) -> None:
    undisturbed, older = tmp_path / "a" / "features.zarr", tmp_path / "b" / "features.zarr"
    duration = finish(context, undisturbed, "new")
    expected = digest_folder(undisturbed)
    duration = min(duration, finish(context, older, "older"))
    struck = 0
    for kill in range(kills):
        store = tmp_path / f"kill-{kill}" / "features.zarr"
        had_older = bool(kill % 2)
        if had_older:
            shutil.copytree(older, store)
        for moment in rng.uniform(0, 1.05 * duration, size=1 + kill % 2):  # some are killed twice
            writer = start(context, store, "new")
            time.sleep(float(moment))
            writer.kill()
            writer.join()
            struck += writer.exitcode == -signal.SIGKILL
            check_what_stands(store, had_older)
        finish(context, store, "new")
        assert digest_folder(store) == expected, f"kill {kill}: the resumed store has other bytes"
        assert not list((store.parent / ".staging").iterdir()), "nothing is left in staging"
        shutil.rmtree(store.parent)
    assert struck >= kills * 0.5, "most kills must fall into the writing"


def check_what_stands(store: Path, had_older: bool) -> None:
    """After a kill a group is the older one, the new one, or none where there was none; never half of one."""
    group = store / "responses" / "sub-01"
    if had_older:
        assert read_manifest(group).fingerprint in ("older", "new")
    if group.exists():
        assert list(verify(group)) == []
        values, _ = Store(store).responses("sub-01").values("train")
        assert values.shape == (120, 500)
