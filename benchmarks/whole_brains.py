"""Ten whole brains on a laptop: ingested, versioned, trained on and scored, with memory that does not grow with them.

``python benchmarks/whole_brains.py [--subjects 10] [--voxels 100000] [--trials 4000]``: simulated subjects of 1.6 GB
each go through the project's own code one after another (`studies.stores.responses`, DVC's commit of each group,
`studies.training.fit`
with its scores), in processes whose private memory is limited by the system; more than `--memory-gb` resident, mapped
pages of files included, is an error. Training is run on 1, 2 and all subjects, which shows what a further one adds.
Baseline of each stage: `numpy.save` and `numpy.load` of one subject's values, flushed to the disk as the store is. It
takes about as much disk as the subjects and two more, in the system's place for temporary files, and removes it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

STAGES = Path(__file__).with_name("_brains_stages.py")
CHECKOUT = STAGES.parents[1]
PRIVATE_SHARE = 0.6
"""How much of the memory that is allowed may be private: the rest is for imports and for mapped pages."""
FLAT_BYTES = 500e6
"""How much more memory all subjects may take than one: of the first ones 256 MB of responses, 64 MB of features
and 64 MB of each part are kept, whatever memory there is."""
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
    command = [sys.executable, str(STAGES), stage, str(home), *shape, *private, *more]
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
    columns = (
        "subjects",
        "GB",
        "seconds",
        "GB/s",
        "most resident, GB",
        "most private, GB",
        "two-way",
        "shuffled brain",
    )
    table = table_of("training and scoring", *columns)
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


if __name__ == "__main__":
    main()
