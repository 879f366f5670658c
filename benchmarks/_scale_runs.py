"""What `scale.py` measures, each in a process of its own: stages of small studies in a home of their own."""

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "models" / "small_world"
OUTPUTS = 600
"""Values of the embeddings that ridge is fitted onto."""
ROWS = ("reconstruction", "nearest_training_clip", "prior", "mean_predictor", "noise_ceiling", "oracle")
"""Of a report; the shuffled brain comes with the first."""


def run_child(job: dict[str, Any]) -> None:
    """Do one job, and print what it measured and this process's peak as a line of JSON."""
    measured = JOBS[job["kind"]](job)
    print(json.dumps({"measured": measured, "peak": peak_bytes()}))


def peak_bytes() -> int:
    """Return the largest resident size of this process so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def median_of(rounds: int, work: Callable[[], object], undo: Callable[[], object] = lambda: None) -> float:
    """Return the median seconds of a work that is undone before every round."""
    spent = []
    for _ in range(rounds):
        undo()
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def write_source(folder: Path, *, subjects: int, stimuli: int, test: int, repeats: int, voxels: int) -> None:
    """Write recordings in the layout of `arrays` with given embeddings, by blocks of rows, with some signal in them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"s{index:05d}" for index in range(stimuli + test)]
    splits = ["train"] * stimuli + ["test"] * test
    pd.DataFrame({"stimulus_id": names, "split": splits, "file": "", "caption": ""}).to_csv(
        folder / "stimuli.csv", index=False
    )
    hidden = rng.normal(size=(len(names), 16)).astype(np.float32)
    (folder / "targets").mkdir(exist_ok=True)
    np.save(folder / "targets" / "given.npy", hidden @ rng.normal(size=(16, OUTPUTS)).astype(np.float32))
    for number in range(1, subjects + 1):
        here = folder / f"sub-{number:02d}"
        here.mkdir(exist_ok=True)
        order = np.tile(np.arange(len(names)), repeats)
        pd.DataFrame(
            {"stimulus_id": [names[i] for i in order], "repetition": np.repeat(np.arange(repeats), len(names))}
        ).to_csv(here / "trials.csv", index=False)
        mixing = rng.normal(size=(16, voxels)).astype(np.float32)
        with (here / "responses.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (len(order), voxels)}
            )
            for start in range(0, len(order), 64):
                rows = hidden[order[start : start + 64]] @ mixing
                file.write((rows + rng.standard_normal(rows.shape, np.float32)).tobytes())


def write_clips(folder: Path, count: int) -> None:
    """Write a source of so many clips of the small world, one voxel's worth of recordings beside them."""
    from core.clips import write_clip
    from simulation.draw import draw_clips
    from simulation.world import WORLDS

    clips, shown = draw_clips(WORLDS["easy"], "train", count, 0, 24, 128, 128)
    write_source(folder, subjects=1, stimuli=count - 4, test=4, repeats=1, voxels=60)
    table = pd.read_csv(folder / "stimuli.csv", dtype=str, keep_default_na=False)
    for name, clip in zip(table["stimulus_id"], clips, strict=True):
        write_clip(folder / "stimuli" / f"{name}.mp4", clip, 8.0, min_side=128)
    table["file"] = [f"{name}.mp4" for name in table["stimulus_id"]]
    table["caption"] = [one.captions()[0] for one in shown]
    table.to_csv(folder / "stimuli.csv", index=False)


CLIPS = {"frames": 8, "height": 32, "width": 32, "window_s": 3.0}
NETWORKS = {
    "latents": {"extractor": "latents", "weights": str(ZOO / "text_to_video")},
    "blip": {"extractor": "blip", "weights": str(ZOO / "blip"), "over_frames": "concatenate"},
    "clip": {"extractor": "clip", "weights": str(ZOO / "clip")},
    "pixels": {"extractor": "pixels", "frames": 8, "height": 16, "width": 16},
}


def study_of(folder: Path, *, clips: bool = False, routes: dict[str, Any] | None = None) -> Any:
    """Return a study of a source: of clips and the small world's targets, or of given embeddings."""
    from studies.study import load_study

    content: dict[str, Any] = {"study": "scale", "source": {"kind": "arrays", "path": str(folder)}, "clips": CLIPS}
    content["targets"] = NETWORKS if clips else {"given": {"extractor": "given"}}
    content["roles"] = {"z": "latents" if clips else "given"}
    content["training"] = {"routes": routes or {"ridge": {}}, "sheet": 0}
    home = Path(os.environ["BRAIN2VIDEO_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_study(path)


def warmed_up(items: list[Any]) -> list[Any]:
    """Return the items with the first in front once more: what is imported and opened first is not measured."""
    return [items[0], *items]


def empty(*folders: Path) -> None:
    """Remove folders, so that a stage works again."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def ingest_job(job: dict[str, Any]) -> list[float]:
    """Ingest every source of a list, all its subjects one after another; return the seconds of each."""
    from studies.stores.responses import ingest, subjects_of

    spent = []
    for folder in map(Path, warmed_up(job["sources"])):
        study = study_of(folder)
        names = subjects_of(study.source)
        undo = lambda s=study: empty(s.folder, s.outputs)  # noqa: E731
        spent.append(median_of(job["rounds"], lambda s=study, n=names: [ingest(s, name) for name in n], undo))
    return spent[1:]


def extract_job(job: dict[str, Any]) -> list[dict[str, float]]:
    """Extract every target of every source of a list; return the seconds of each, by target."""
    from studies.stores.targets import extract

    spent = []
    for folder in map(Path, warmed_up(job["sources"])):
        study = study_of(folder, clips=True)
        times = {}
        for target in job.get("targets", list(NETWORKS)):
            undo = lambda s=study: empty(s.folder, s.outputs)  # noqa: E731
            times[target] = median_of(job["rounds"], lambda s=study, t=target: extract(s, t), undo)
        spent.append(times)
    return spent[1:]


def workers_job(job: dict[str, Any]) -> list[float]:
    """Extract pixels so large that a target has many chunks, by one worker process and by two; return the seconds."""
    from core.clips import ClipConfig
    from core.executors import ExecutorConfig
    from models.extractors.settings import PixelsConfig
    from studies.stores.targets import extract
    from studies.study import Roles

    large = {"frames": 8, "height": 256, "width": 256}
    targets = {"clips": ClipConfig(**large, window_s=3.0), "targets": {"pixels": PixelsConfig(**large)}}
    study = study_of(Path(job["source"]), clips=True).model_copy(update={**targets, "roles": Roles(z="pixels")})
    spent = []
    for workers in (1, 2):
        by = ExecutorConfig(kind="processes", workers=workers)
        undo = lambda: empty(study.folder, study.outputs)  # noqa: E731
        work = lambda by=by: extract(study, "pixels", by)  # noqa: E731
        work()  # the workers start
        spent.append(median_of(job["rounds"], work, undo))
    return spent


def fit_job(job: dict[str, Any]) -> list[float]:
    """Fit, score and draw a study's route for every source of a list; return the seconds of each."""
    from studies.stores.responses import ingest, subjects_of
    from studies.stores.targets import extract
    from studies.training.fit import fit

    spent = []
    for folder, routes in zip(map(Path, warmed_up(job["sources"])), warmed_up(job["routes"]), strict=True):
        study = study_of(folder, routes=routes)
        for name in subjects_of(study.source):
            ingest(study, name)
        extract(study, "given")
        undo = lambda s=study: empty(s.outputs / "training")  # noqa: E731
        spent.append(median_of(job["rounds"], lambda s=study: fit(s), undo))
        empty(study.folder, study.outputs)
    return spent[1:]


def read_job(job: dict[str, Any]) -> list[float]:
    """Read one clip at every size of a list; return the seconds of each."""
    from core.clips import ClipConfig, read_clip

    file = sorted((Path(job["source"]) / "stimuli").glob("*.mp4"))[0]
    configs = [ClipConfig(frames=f, height=h, width=w, window_s=3.0) for f, h, w in job["sizes"]]
    return [median_of(job["rounds"], lambda c=config: read_clip(file, c)) for config in warmed_up(configs)][1:]


def network_job(job: dict[str, Any]) -> float:
    """Return the seconds of a vision transformer of ViT-B's size for one picture, random weights, float32."""
    import torch
    from transformers import ViTConfig, ViTModel

    model = ViTModel(ViTConfig()).eval()
    pictures = torch.zeros(4, 3, 224, 224)
    with torch.no_grad():
        model(pictures)
        return median_of(job["rounds"], lambda: model(pictures)) / len(pictures)


def render_job(job: dict[str, Any]) -> list[float]:
    """Render so many clips by the small world's generator, as the demo does; return the seconds of each count."""
    from models.generator.settings import TextToVideoConfig
    from simulation.world import WORLDS

    generator = TextToVideoConfig(weights="text_to_video", **job["settings"]).build(ZOO)
    rng, spent = np.random.default_rng(0), []
    for count in [2, *job["counts"]]:
        z = rng.normal(size=(count, 8, 4, 8, 8)).astype(np.float32)
        captions = [one.captions()[0] for one in WORLDS["easy"].draw("test", count, seed=0)]
        work = lambda z=z, c=captions: generator.render(z, c, list(range(len(c))))  # noqa: E731
        spent.append(median_of(job["rounds"], work))
    return spent[1:]


def score_job(job: dict[str, Any]) -> list[float]:
    """Score a whole report of so many clips at every size of a list; return the seconds of each."""
    from evaluation.config import EvaluationConfig
    from evaluation.statistics.table import Table

    spent = []
    for count, size in warmed_up(job["sizes"]):
        rng = np.random.default_rng(0)
        truth, *rows = (rng.integers(0, 256, (count, *size, 3), dtype=np.uint8) for _ in range(1 + len(ROWS)))

        def report(truth: Any = truth, rows: list[Any] = rows) -> None:
            table = Table({"pixels": truth}, EvaluationConfig(), seed=0)
            for name, row in zip(ROWS, rows, strict=True):
                table.add(name, {"pixels": row})
            table.report()

        spent.append(median_of(job["rounds"], report))
    return spent[1:]


def video_job(job: dict[str, Any]) -> float:
    """Return the bytes that H.264 takes for a pixel, of the small world's clips as a run writes them."""
    from core.clips import write_clip
    from simulation.draw import draw_clips
    from simulation.world import WORLDS

    clips, _ = draw_clips(WORLDS["easy"], "test", 12, 0, 8, 32, 32)
    folder = Path(job["folder"])
    for number, clip in enumerate(clips):
        write_clip(folder / f"{number}.mp4", clip, 8 / 3)
    size = sum(file.stat().st_size for file in folder.glob("*.mp4"))
    return size / (len(clips) * 8 * 256 * 256)


JOBS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ingest": ingest_job,
    "extract": extract_job,
    "workers": workers_job,
    "fit": fit_job,
    "read": read_job,
    "network": network_job,
    "render": render_job,
    "score": score_job,
    "video": video_job,
}
