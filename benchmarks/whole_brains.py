"""Ten whole brains on a laptop: ingested, versioned, trained on and scored, with memory that does not grow with them.

``python benchmarks/whole_brains.py [--subjects 10] [--voxels 100000] [--trials 4000]``: simulated subjects of 1.6 GB
each go through the project's own code one after another (`studies.stores.responses`, DVC's commit of each group,
`studies.training.fit` with its scores), each stage in a process of its own (``whole_brains.py STAGE HOME …``) whose
private memory is limited by the system; more than `--memory-gb` resident, mapped
pages of files included, is an error. Training is run on 1, 2 and all subjects, which shows what a further one adds.
Baseline of each stage: `numpy.save` and `numpy.load` of one subject's values, flushed to the disk as the store is. It
takes about as much disk as the subjects and two more, in the system's place for temporary files, and removes it.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from feature_store.versioning import commit_outputs
from studies.runs import SCORES
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import load_study
from studies.training.fit import fit

CHECKOUT = Path(__file__).resolve().parents[1]
PRIVATE_SHARE = 0.6
"""How much of the memory that is allowed may be private: the rest is for imports and for mapped pages."""
FLAT_BYTES = 500e6
"""How much more memory all subjects may take than one: of the first ones 256 MB of responses, 64 MB of features
and 64 MB of each part are kept, whatever memory there is."""
CAUSES, VALUES = 48, 300
"""What a stimulus is made of, and how many values its embedding has."""
REPEATS = {"train": 3, "test": 10}
SEEING, STRENGTH = 0.05, 0.1
"""Which part of the voxels responds to stimuli at all, and how much, in units of their noise."""
BLOCK = 100
"""Trials simulated, copied or read at a time."""
RECORDINGS = "recordings"
Array = np.ndarray[Any, Any]
Line = dict[str, Any]


def main() -> None:
    """Run all stages and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--voxels", type=int, default=100_000)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--memory-gb", type=float, default=6.0)
    given = parser.parse_args()
    size = 4 * given.voxels * given.trials
    needed, free = (given.subjects + 3) * size, shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        sys.exit(f"{tempfile.gettempdir()}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
    with tempfile.TemporaryDirectory(prefix="whole-brains-") as name:
        home = Path(name)
        version(home, given.subjects)
        lines = run("ingest", home, given, given.subjects, "--commit")
        disk = disk_of(home)
        for subjects in sorted({1, 2, given.subjects}):
            if subjects <= given.subjects:
                lines += run("fit", home, given, subjects)
    show(lines, given, disk, size)
    check(lines, given, disk, size)


def version(home: Path, subjects: int) -> None:
    """Make a git and DVC repository with a stage for every subject's group, and links as in this checkout's own."""
    store = "data/whole-brains/features.zarr/responses/${item.subject}"
    stage = {
        "matrix": {"subject": [f"sub-{number:02d}" for number in range(1, subjects + 1)]},
        "cmd": "brain2video responses -c configs/whole.yaml --subject ${item.subject}",
        "outs": [store],
    }
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=home, check=True, env=environment(home))
    shutil.copy(CHECKOUT / ".dvc" / "config", home / ".dvc" / "config")
    (home / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"responses": stage}}))


def environment(home: Path) -> dict[str, str]:
    """Return what the stages see: everything that is kept lies below `home`."""
    own = {"PYTHONPATH": str(CHECKOUT), "BRAIN2VIDEO_HOME": str(home), "DVC_SITE_CACHE_DIR": str(home / "site")}
    kept = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    return {**kept, **own, "DVC_NO_ANALYTICS": "true"}


def run(stage: str, home: Path, given: argparse.Namespace, subjects: int, *more: str) -> list[Line]:
    """Run one stage in a process of its own, and return what it has measured."""
    shape = ["--subjects", str(subjects), "--voxels", str(given.voxels), "--trials", str(given.trials)]
    private = ["--private-gb", str(PRIVATE_SHARE * given.memory_gb)]
    command = [sys.executable, __file__, stage, str(home), *shape, *private, *more]
    done = subprocess.run(command, cwd=home, env=environment(home), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{stage} of {subjects} subjects ended with {done.returncode}: see above")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def disk_of(home: Path) -> int:
    """Return the bytes on disk of the store and DVC's cache together; a file with two names counts once."""
    folders = (home / "data", home / ".dvc" / "cache")
    found = [path.stat() for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum(512 * blocks for _, blocks in {(one.st_ino, one.st_blocks) for one in found})


def show(lines: list[Line], given: argparse.Namespace, disk: int, size: int) -> None:
    """Print what every stage took, and training by subjects."""
    console = Console(width=120)
    title = f"{given.subjects} subjects of {given.trials:,} × {given.voxels:,} float32 ({size / 1e9:.2f} GB each)"
    table = table_of(title, "stage", "runs", "seconds each", "GB/s", "most resident, GB", "most private, GB")
    for stage in dict.fromkeys(line["stage"] for line in lines if "seconds" in line and line["stage"] != "fit"):
        of = [line for line in lines if line["stage"] == stage]
        seconds, through = sum(line["seconds"] for line in of), sum(line["bytes"] for line in of)
        most = [max(line[name] for line in of) for name in ("resident", "private")]
        figures = (f"{seconds / len(of):.1f}", f"{through / seconds / 1e9:.2f}", *(f"{one / 1e9:.2f}" for one in most))
        table.add_row(stage, str(len(of)), *figures)
    console.print(table)
    console.print(f"store and DVC's cache together: {disk / 1e9:.2f} GB on disk, of {given.subjects * size / 1e9:.2f}")
    columns = ("GB", "seconds", "GB/s", "most resident, GB", "most private, GB", "two-way", "shuffled brain")
    table = table_of("training and scoring", "subjects", *columns)
    for fitted, scored in fits(lines):
        figures = [f"{fitted[name] / 1e9:.2f}" for name in ("resident", "private")]
        speed = f"{fitted['bytes'] / fitted['seconds'] / 1e9:.2f}"
        row = (f"{fitted['bytes'] / 1e9:.1f}", f"{fitted['seconds']:.0f}", speed, *figures)
        found = (f"{scored[name]:.3f}" for name in ("ridge", "shuffled_brain"))
        table.add_row(str(fitted["subjects"]), *row, *found)
    console.print(table)


def table_of(title: str, *columns: str) -> Table:
    """Return an empty table whose columns but the first are numbers."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def fits(lines: list[Line]) -> list[tuple[Line, Line]]:
    """Return every training with its scores."""
    scores = {line["subjects"]: line for line in lines if line["stage"] == "scores"}
    return [(line, scores[line["subjects"]]) for line in lines if line["stage"] == "fit"]


def check(lines: list[Line], given: argparse.Namespace, disk: int, size: int) -> None:
    """Refuse what is not as promised."""
    for line in lines:
        if line.get("resident", 0) > given.memory_gb * 1e9:
            sys.exit(f"{line['stage']}: {line['resident'] / 1e9:.2f} GB resident, more than {given.memory_gb:g}")
    for kind in ("private", "resident"):
        taken = [fitted[kind] / 1e9 for fitted, _ in fits(lines)]
        if taken[-1] > taken[0] + FLAT_BYTES / 1e9:
            sys.exit(f"training takes {taken[-1]:.2f} GB ({kind}) for all subjects and {taken[0]:.2f} for one")
    if disk > 1.05 * given.subjects * size + 50e6:
        sys.exit(f"store and cache take {disk / 1e9:.2f} GB for {given.subjects * size / 1e9:.2f}: a second copy")
    for _, scored in fits(lines):
        if scored["ridge"] < 0.8 or abs(scored["shuffled_brain"] - 0.5) > 0.1:
            sys.exit(f"two-way identification {scored['ridge']:.3f}, of shuffled brains {scored['shuffled_brain']:.3f}")


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


STAGES = {"ingest": ingest_all, "fit": fit_some}


def run_stage() -> None:
    """Run one stage in this process, whose memory is limited; print a line of JSON for each thing it has measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("home", type=Path)
    parser.add_argument("--subjects", type=int, required=True)
    parser.add_argument("--voxels", type=int, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--private-gb", type=float, required=True, help="private memory, beyond that of imports")
    parser.add_argument("--commit", action="store_true", help="commit each group to the DVC repository of HOME")
    given = parser.parse_args()
    os.environ["BRAIN2VIDEO_HOME"] = str(given.home)
    limit(int(given.private_gb * 1e9))
    STAGES[given.stage](given.home, given)


if __name__ == "__main__":
    run_stage() if sys.argv[1:2] and sys.argv[1] in STAGES else main()
