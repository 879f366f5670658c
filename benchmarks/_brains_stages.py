"""The stages of `benchmarks/whole_brains.py`, each in a process of its own whose memory is limited.

``python _brains_stages.py STAGE HOME …`` prints one line of JSON for each thing it has measured.
"""

import argparse
import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from feature_store.versioning import commit_outputs
from studies.runs import SCORES
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import load_study
from studies.training.fit import fit

CAUSES, VALUES = 48, 300
"""What a stimulus is made of, and how many values its embedding has."""
REPEATS = {"train": 3, "test": 10}
SEEING, STRENGTH = 0.05, 0.1
"""Which part of the voxels responds to stimuli at all, and how much, in units of their noise."""
BLOCK = 100
"""Trials simulated, copied or read at a time."""
RECORDINGS = "recordings"
Array = np.ndarray[Any, Any]


def names_of(trials: int) -> dict[str, list[str]]:
    """Return the stimuli of either split: a quarter of the trials shows the test ones."""
    test = max(2, trials // 4 // REPEATS["test"])
    train = (trials - test * REPEATS["test"]) // REPEATS["train"]
    return {"train": [f"a{row:05d}" for row in range(train)], "test": [f"b{row:05d}" for row in range(test)]}


def prepare(home: Path, trials: int) -> None:
    """Write what all subjects share: the study, the stimuli and their embeddings, which mix a few causes."""
    rng = np.random.default_rng(0)
    names = names_of(trials)
    folder = home / RECORDINGS
    (folder / "targets").mkdir(parents=True)
    (folder / "stimuli").mkdir()
    rows = [(name, split) for split, of in names.items() for name in of]
    pd.DataFrame(rows, columns=["stimulus_id", "split"]).assign(file="", caption="").to_csv(
        folder / "stimuli.csv", index=False
    )
    causes = rng.standard_normal((len(rows), CAUSES), dtype=np.float32)
    mixed = causes @ rng.standard_normal((CAUSES, VALUES), dtype=np.float32)
    np.save(folder / "targets" / "z.npy", mixed + rng.standard_normal(mixed.shape, dtype=np.float32))
    np.save(home / "causes.npy", causes)
    (home / "configs").mkdir()


def write_study(home: Path, name: str, subjects: int | None = None) -> Path:
    """Write the study's YAML, of some of the subjects or of those whose recordings are there."""
    source: dict[str, Any] = {"kind": "arrays", "path": RECORDINGS}
    if subjects is not None:
        source["subjects"] = [subject(number) for number in range(1, subjects + 1)]
    content = {
        "study": "whole-brains",
        "source": source,
        "targets": {"z": {"extractor": "given"}},
        "roles": {"z": "z"},
        "training": {"routes": {"ridge": {"regressor": {"kind": "ridge", "components": 64}}}},
    }
    path = home / "configs" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def subject(number: int) -> str:
    """Return a subject's name; they are counted from 1 on."""
    return f"sub-{number:02d}"


def simulate(home: Path, number: int, voxels: int, trials: int) -> Path:
    """Write one subject's recordings: one voxel in twenty sees a mixture of the causes, and all have noise."""
    rng = np.random.default_rng(number)
    names = names_of(trials)
    shown = np.concatenate([np.repeat(np.arange(len(of)), REPEATS[split]) for split, of in names.items()])
    shown += np.repeat([0, len(names["train"])], [len(of) * REPEATS[split] for split, of in names.items()])
    shown = shown[rng.permutation(len(shown))]
    listed = np.array([*names["train"], *names["test"]])[shown]
    mixing = rng.standard_normal((CAUSES, voxels), dtype=np.float32) * np.float32(STRENGTH / np.sqrt(CAUSES))
    mixing *= rng.random(voxels, dtype=np.float32) < SEEING
    causes = np.load(home / "causes.npy")
    folder = home / RECORDINGS / subject(number)
    folder.mkdir()
    table = pd.DataFrame({"stimulus_id": listed})
    table.assign(repetition=table.groupby("stimulus_id").cumcount()).to_csv(folder / "trials.csv", index=False)
    described = {"descr": "<f4", "fortran_order": False, "shape": (len(shown), voxels)}
    with (folder / "responses.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, described)
        for first in range(0, len(shown), BLOCK):
            rows = causes[shown[first : first + BLOCK]] @ mixing
            rows += rng.standard_normal(rows.shape, dtype=np.float32)
            rows.tofile(file)
    return folder


class Memory:
    """The most memory that this process has had since it was asked to watch, by looking every few milliseconds."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the system's own record of the most begins anew
        self.private = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """Return the most that was resident, files' mapped pages among it, and the most that was private, in bytes."""
        self._over.set()
        self._thread.join()
        return {"resident": status("VmHWM"), "private": self.private}

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.private = max(self.private, status("RssAnon"))


def status(name: str) -> int:
    """Return what the system says of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


@contextmanager
def measured(stage: str, size: int, **more: Any) -> Iterator[None]:
    """Print what a stage has taken, as a line of JSON; `size` is what it went through, in bytes."""
    memory, start = Memory(), time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    print(json.dumps({"stage": stage, "seconds": seconds, "bytes": size, **memory.stop(), **more}), flush=True)


def limit(allowance: int) -> None:
    """Refuse private memory beyond what imports have taken and the allowance, in bytes."""
    most = status("VmData") + allowance
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def ingest_all(home: Path, given: argparse.Namespace) -> None:
    """Simulate, ingest and commit one subject after another; recordings are removed as soon as they are ingested."""
    prepare(home, given.trials)
    study = load_study(write_study(home, "whole"))
    for number in range(1, given.subjects + 1):
        recordings = simulate(home, number, given.voxels, given.trials)
        size = (recordings / "responses.npy").stat().st_size
        if number == 1:
            baseline(recordings / "responses.npy", home / "baseline.npy", size)
        with measured("ingest", size):
            ingest(study, subject(number))
        shutil.rmtree(recordings)
        if given.commit:
            with measured("commit", size):
                group = study.store / "responses" / subject(number)
                said = commit_outputs(home, [group], "configs/whole.yaml")
                assert said == {group: "committed"}, said
    extract(study, "z")


def baseline(file: Path, copy: Path, size: int) -> None:
    """Measure numpy on the same bytes: a copy written and flushed to the disk, and read."""
    values = np.load(file, mmap_mode="r")
    with measured("numpy.save", size), copy.open("wb") as opened:
        np.save(opened, values)
        opened.flush()
        os.fsync(opened.fileno())
    values, block = np.load(copy, mmap_mode="r"), np.empty((BLOCK, values.shape[1]), np.float32)
    with measured("numpy.load", size):
        for first in range(0, len(values), BLOCK):
            rows = values[first : first + BLOCK]
            np.copyto(block[: len(rows)], rows)
    copy.unlink()


def fit_some(home: Path, given: argparse.Namespace) -> None:
    """Train on some subjects and score their test stimuli, and check that the scores say what was simulated."""
    study = load_study(write_study(home, f"whole-{given.subjects}", given.subjects))
    size = given.subjects * given.trials * given.voxels * 4
    with measured("fit", size, subjects=given.subjects):
        folder = home / fit(study).folder
    rows = json.loads((folder / SCORES).read_text())["targets"]["z"]["rows"]
    found = {name: rows[name]["z.two_way"]["value"] for name in ("ridge", "shuffled_brain")}
    print(json.dumps({"stage": "scores", "subjects": given.subjects, **found}), flush=True)


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["ingest", "fit"])
    parser.add_argument("home", type=Path)
    parser.add_argument("--subjects", type=int, required=True)
    parser.add_argument("--voxels", type=int, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--private-gb", type=float, required=True, help="private memory, beyond that of imports")
    parser.add_argument("--commit", action="store_true", help="commit each group to the DVC repository of HOME")
    given = parser.parse_args()
    os.environ["BRAIN2VIDEO_HOME"] = str(given.home)
    limit(int(given.private_gb * 1e9))
    {"ingest": ingest_all, "fit": fit_some}[given.stage](given.home, given)


if __name__ == "__main__":
    main()
