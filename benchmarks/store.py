"""What the feature store costs: batches and a scan as multiples of RAM, beside other readers; ingest beside numpy.

Run it as ``python benchmarks/store.py [--trials 3000] [--voxels 20480]``. All readers read the same values; each figure
is the median over rounds that take the readers in turn; RAM (numpy on an array in memory) is the baseline of each.
Ingest includes its checksums, its manifest and every fsync; `numpy.save` is given with its fsync too.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from rich.console import Console
from rich.table import Table

from feature_store.chunks import Compression
from feature_store.reader import Responses
from feature_store.rows import RowView
from feature_store.writer import GroupWriter

BATCH, BATCHES, ROUNDS, INGEST_ROUNDS = 64, 20, 5, 3
Array = np.ndarray[Any, Any]


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--voxels", type=int, default=20480)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    betas = rng.standard_normal((chosen.trials, chosen.voxels), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="store-benchmark-") as name:
        folder = Path(name)
        show_readers(betas, folder, rng)
        show_ingest(betas, folder)
        show_compression(folder, rng)


def write_store(folder: Path, values: Array, compression: Compression = "none") -> Path:
    """Write values as one subject's training responses and return the group."""
    store = folder / "features.zarr"
    axes = ("trial", "voxel") if values.ndim == 2 else ("trial", "time", "voxel")
    with GroupWriter(store, "responses/sub-01", encoding_type="responses", fingerprint=compression) as group:
        group.array("train/betas", values.shape, "float32", lambda a, b: values[a:b], axes, compression=compression)
        group.table("train/trials", pd.DataFrame({"stimulus": [f"s{i}" for i in range(len(values))], "repetition": 0}))
        group.table("voxels", pd.DataFrame({"roi": ["all"] * values.shape[-1]}))
    return store / "responses" / "sub-01"


def open_readers(values: Array, folder: Path) -> dict[str, Any]:
    """Write the same values in every form and open each."""
    group = write_store(folder, values)
    np.save(folder / "betas.npy", values)
    with h5py.File(folder / "betas.h5", "w") as file:
        file["betas"] = values
    return {
        "RAM": values,
        "this store": Responses(group).view("train")[0],
        "numpy memmap": np.load(folder / "betas.npy", mmap_mode="r"),
        "h5py, contiguous": h5py.File(folder / "betas.h5")["betas"],
        "zarr-python, the same files": zarr.open_group(group, mode="r")["train/betas"],
    }


def take(reader: Any, rows: Array) -> Array:
    """Read a random batch as each reader likes it best."""
    if isinstance(reader, h5py.Dataset):
        order = np.argsort(rows)
        batch = np.empty((len(rows), *reader.shape[1:]), reader.dtype)
        batch[order] = reader[rows[order]]
        return batch
    if isinstance(reader, zarr.Array):
        return np.asarray(reader.oindex[rows])
    return np.asarray(np.take(reader, rows, axis=0) if isinstance(reader, np.ndarray) else reader[rows])


def scan(reader: Any, target: Array) -> None:
    """Copy everything into an array that is there already, as each reader does it best."""
    if isinstance(reader, RowView):
        reader.read_into(target)
    elif isinstance(reader, h5py.Dataset):
        reader.read_direct(target)
    else:
        np.copyto(target, reader[:] if isinstance(reader, zarr.Array) else reader)


def seconds(work: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def show_readers(values: Array, folder: Path, rng: np.random.Generator) -> None:
    """Measure batches and scans of all readers in turn."""
    readers = open_readers(values, folder)
    batches = [rng.choice(len(values), BATCH, replace=False) for _ in range(BATCHES)]
    target = np.empty_like(values)
    for name, reader in readers.items():
        scan(reader, target)  # the first touch verifies this store's chunks and fills the page cache for all
        assert np.array_equal(take(reader, batches[0]), values[batches[0]]), name
    spent: dict[str, dict[str, list[float]]] = {name: {"batch": [], "scan": []} for name in readers}
    for _ in range(ROUNDS):
        for name, reader in readers.items():
            few = batches[:2] if name.startswith("zarr") else batches
            spent[name]["batch"].append(seconds(lambda r=reader, f=few: [take(r, rows) for rows in f]) / len(few))
            spent[name]["scan"].append(seconds(lambda r=reader: scan(r, target)))
    table = Table(
        title=f"reading {values.shape[0]:,} × {values.shape[1]:,} float32, as multiples of RAM (lower is better)"
    )
    for column in ("reader", f"random batch of {BATCH}", "full scan"):
        table.add_column(column, justify="left" if column == "reader" else "right")
    for name in readers:
        row = [ratio_to(spent, name, what) for what in ("batch", "scan")]
        table.add_row(name, *(f"{value:.2f}" for value in row))
    Console(width=120).print(table)


def ratio_to(spent: dict[str, dict[str, list[float]]], name: str, what: str) -> float:
    """Return the median over rounds of a reader's time over RAM's in the same round."""
    pairs = zip(spent[name][what], spent["RAM"][what], strict=True)
    return statistics.median(mine / base for mine, base in pairs)


def show_ingest(values: Array, folder: Path) -> None:
    """Measure writing a group beside `numpy.save`, each with its fsync."""
    spent: dict[str, list[float]] = {"this store": [], "numpy.save": []}
    for _ in range(INGEST_ROUNDS):
        for name, write in (("numpy.save", save_with_fsync), ("this store", write_store)):
            target = folder / "ingest"
            target.mkdir()
            spent[name].append(seconds(lambda w=write, t=target: w(t, values)))
            shutil.rmtree(target)
    table = Table(title=f"ingest of {values.nbytes / 1e6:,.0f} MB, checksums and fsync included")
    for column in ("writer", "MB/s", "throughput over numpy.save"):
        table.add_column(column, justify="left" if column == "writer" else "right")
    base = spent["numpy.save"]
    for name, times in spent.items():
        ratio = statistics.median(b / t for b, t in zip(base, times, strict=True))
        table.add_row(name, f"{values.nbytes / 1e6 / statistics.median(times):,.0f}", f"{ratio:.2f}")
    Console(width=120).print(table)


def save_with_fsync(folder: Path, values: Array) -> None:
    """Write one `.npy` file and flush it to the disk."""
    with (folder / "betas.npy").open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


def bold_windows(rng: np.random.Generator, trials: int = 400, voxels: int = 4000) -> Array:
    """Return windows as scanners give them: a mean of about 1,000, drift, a response and noise, in whole units."""
    shape = np.sin(np.linspace(0, np.pi, 9))[None, :, None]
    level = rng.uniform(400, 1500, voxels)
    drift = np.cumsum(rng.normal(0, 2, (trials, 9, voxels)), axis=1)
    noise = rng.normal(0, 12, (trials, 9, voxels))
    return np.round(level + 15 * rng.normal(size=(trials, 1, voxels)) * shape + drift + noise).astype(np.float32)


def show_compression(folder: Path, rng: np.random.Generator) -> None:
    """Measure what compression saves and costs, on simulated BOLD windows and on betas."""
    table = Table(title="compression: size saved, and cost of a first scan as a multiple of the uncompressed one")
    for column in ("values", "compression", "× smaller", "write", "first scan"):
        table.add_column(column, justify="left" if column in ("values", "compression") else "right")
    windows = bold_windows(rng)
    scaled = ((windows - windows.mean(axis=0)) / windows.std(axis=0)).astype(np.float32)
    betas = rng.standard_normal((3600, 4000), dtype=np.float32)
    for what, values in (("BOLD windows", windows), ("BOLD windows, z-scored", scaled), ("betas", betas)):
        base: tuple[float, float] | None = None
        for compression in ("none", "lz4", "zstd"):
            target = folder / f"{what}-{compression}"
            wrote = seconds(lambda t=target, v=values, c=compression: write_store(t, v, c))
            group = target / "features.zarr" / "responses" / "sub-01"
            size = sum(path.stat().st_size for path in (group / "train" / "betas").rglob("*") if path.is_file())
            memory = np.empty_like(values)
            scans = [seconds(lambda g=group, m=memory: scan(Responses(g).view("train")[0], m)) for _ in range(3)]
            read = statistics.median(scans)
            base = base or (wrote, read)
            figures = (values.nbytes / size, wrote / base[0], read / base[1])
            table.add_row(what, compression, *(f"{figure:.2f}" for figure in figures))
            shutil.rmtree(target)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
