"""What `scale.py` measured, and what it draws from it: growth, rates, and larger runs predicted and made."""

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _scale_runs import NETWORKS, ROOT, study_of, write_clips, write_source
from _scale_sizes import READ, RENDER, REPEATS, STIMULI, TEST, Sizes

if TYPE_CHECKING:
    from studies.planning.rates import Growth, Rates

FRAMES = {"latents": 96.6e6, "blip": 1.7e6, "clip": 1.7e6}
"""Products of a frame in the small world's networks."""
BASES = (("ingest", "subjects"), ("extract", "clips"), ("fit", "subjects"))


class Bench:
    """Runs the jobs and keeps what they measured."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self.seconds: dict[str, list[float]] = {}
        self.peaks: dict[str, list[int]] = {}
        self.extracted: list[dict[str, float]] = []
        self.workers: dict[int, float] = {}
        self.one: dict[str, float] = {}
        self._homes = 0

    def child(self, kind: str, **job: Any) -> tuple[Any, int]:
        """Run one job in a process of its own, with a home of its own; return what it measured, and its peak."""
        self._homes += 1
        home = self.folder / f"home-{self._homes}"
        environment = {**os.environ, "BRAIN2VIDEO_HOME": str(home), "TMPDIR": str(self.folder)}
        job = {"kind": kind, "rounds": self.sizes.rounds, **job}
        command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), "--child", json.dumps(job)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{kind} failed:\n{done.stderr[-3000:]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer["measured"], int(answer["peak"])

    def source(self, stimuli: int, voxels: int, subjects: int, repeats: int = REPEATS) -> str:
        """Return a source of that size, written where it is not there yet."""
        folder = self.folder / f"source-{stimuli}-{voxels}-{subjects}-{repeats}"
        if not folder.is_dir():
            write_source(folder, subjects=subjects, stimuli=stimuli, test=TEST, repeats=repeats, voxels=voxels)
        return str(folder)

    def clips(self, count: int) -> str:
        """Return a source of so many clips."""
        folder = self.folder / f"clips-{count}"
        if not folder.is_dir():
            write_clips(folder, count)
        return str(folder)

    def measure(self) -> None:
        """Run every stage at every size."""
        for name in ("ingest", "extract", "fit", "network", "render", "score"):
            started = time.perf_counter()
            getattr(self, f"_{name}")()
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)

    def _ingest(self) -> None:
        sources = [self.source(STIMULI, voxels, 1) for voxels in self.sizes.voxels]
        self.seconds["ingest over voxels"] = self.child("ingest", sources=sources)[0]
        sources = [self.source(STIMULI, self.sizes.voxels[1], 1, repeats) for repeats in self.sizes.repeats]
        self.seconds["ingest over trials"] = self.child("ingest", sources=sources)[0]
        self._over_subjects("ingest", lambda n: {"sources": [self.source(STIMULI, self.sizes.voxels[1], n)]})

    def _over_subjects(self, stage: str, job: Any) -> None:
        """Run a stage with more and more subjects, each in a process of its own where its peak is to be known."""
        jobs = [job(n) for n in self.sizes.subjects]
        if not self.sizes.apart:
            jobs = [{name: [job[name][0] for job in jobs] for name in jobs[0]}]
        answers = [self.child(stage, **one) for one in jobs]
        self.seconds[f"{stage} over subjects"] = [seconds for measured, _ in answers for seconds in measured]
        self.peaks[f"{stage} over subjects"] = [peak for _, peak in answers]

    def _extract(self) -> None:
        sources = [self.clips(count) for count in self.sizes.clips]
        self.extracted, most = self.child("extract", sources=sources)
        least = [self.child("extract", sources=sources[:1], rounds=1)[1]] if self.sizes.apart else []
        self.peaks["extract over clips"] = [*least, most]
        for target in NETWORKS:
            self.seconds[f"extract {target} over clips"] = [one[target] for one in self.extracted]
        self.seconds["read over pixels"] = self.child("read", source=self.clips(self.sizes.clips[0]), sizes=READ)[0]
        self.workers = dict(enumerate(self.child("workers", source=sources[-1])[0], start=1))

    def _fit(self) -> None:
        least = self.sizes.fit_voxels[0]
        by_stimuli = [self.source(stimuli, least, 1) for stimuli in self.sizes.stimuli]
        by_voxels = [self.source(STIMULI, voxels, 1) for voxels in self.sizes.fit_voxels]
        ridge = [None] * len(by_stimuli)
        self.seconds["fit over stimuli"] = self.child("fit", sources=by_stimuli, routes=ridge)[0]
        self.seconds["fit over voxels"] = self.child("fit", sources=by_voxels, routes=ridge)[0]
        self._over_subjects(
            "fit", lambda n: {"sources": [self.source(STIMULI, self.sizes.fit_voxels[1], n)], "routes": [None]}
        )
        networks = [mlp(steps) for steps in self.sizes.steps]
        self.seconds["fit mlp over steps"] = self.child(
            "fit", sources=[by_stimuli[0]] * len(networks), routes=networks
        )[0]

    def _network(self) -> None:
        from studies.planning.models import transformer_flops

        self.one["network_flops"] = transformer_flops(197, 768, 12, 3072) / self.child("network")[0]
        folder = self.folder / "videos"
        folder.mkdir()
        self.one["video_pixel_bytes"] = self.child("video", folder=str(folder))[0]

    def _render(self) -> None:
        measured, peak = self.child("render", counts=self.sizes.rendered, settings=RENDER)
        self.seconds["render over clips"], self.peaks["render"] = measured, [peak]

    def _score(self) -> None:
        of_clips = [(count, (8, 32, 32)) for count in self.sizes.scored]
        of_sides = [(self.sizes.scored[0], (8, side, side)) for side in self.sizes.sides]
        measured, peak = self.child("score", sizes=[*of_clips, *of_sides])
        count = len(of_clips)
        self.seconds["score over clips"], self.seconds["score over pixels"] = measured[:count], measured[count:]
        self.peaks["score"] = [peak]

    def rates(self) -> "Rates":
        """Return the rates that the plan goes by."""
        from studies.planning.rates import Machine, Rates

        growths = self.growths()
        network = self.one["network_flops"]
        read = growths["read over pixels"]
        plain = growths["extract pixels over clips"]
        rest = {name: self._beyond(growths[f"extract {name} over clips"].slope, plain.slope, name) for name in FRAMES}
        ingest_subject, ingest_voxel, ingest_value = self._ingest_rates()
        fit_s, response_s, algebra = self._fit_rates()
        score_clip, score_pixel = self._score_rates()
        forwards = round(RENDER["steps"] * RENDER["strength"]) * 2
        rendering = growths["render over clips"].slope - render_flops() / network
        base = {name: self.peaks[f"{name} over {what}"][0] for name, what in BASES}
        subject_bytes = {
            stage: float(np.polyfit(self.sizes.subjects, self.peaks[f"{name} over subjects"], 1)[0])
            for stage, name in (("ingest", "ingest"), ("train", "fit"))
            if self.sizes.apart
        }
        return Rates(
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            machine=Machine(cores=os.cpu_count() or 1, memory_bytes=memory_bytes(), threads=threads()),
            ingest_subject_s=ingest_subject,
            ingest_voxel_s=ingest_voxel,
            ingest_value_s=ingest_value,
            target_s=plain.constant,
            clip_s=max(0.0, plain.slope - read.slope * 8 * 32 * 32),
            pixel_s=read.slope,
            network_flops=network,
            frame_s=max(0.0, float(np.mean(list(rest.values())))),
            forward_s=max(0.0, rendering / forwards),
            response_s=response_s,
            algebra_flops=algebra,
            fit_s=fit_s,
            step_s=growths["fit mlp over steps"].slope / 2,
            score_clip_s=score_clip,
            score_pixel_s=score_pixel,
            video_pixel_bytes=self.one["video_pixel_bytes"],
            base_bytes={
                "ingest": base["ingest"],
                "extract": base["extract"],
                "select": base["fit"],
                "train": base["fit"],
                "reconstruct": self.peaks["render"][0],
                "evaluate": self.peaks["score"][0],
            },
            subject_bytes=subject_bytes,
            two_workers=self.workers[1] / self.workers[2] if self.workers else None,
            growth=tuple(growths.values()),
        )

    def _beyond(self, slope: float, plain: float, target: str) -> float:
        """Return what a frame costs a small network beyond reading the clip and the network's products."""
        return (slope - plain - FRAMES[target] * 8 / self.one["network_flops"]) / 8

    def growths(self) -> dict[str, "Growth"]:
        """Return how everything that was run at several sizes grows."""
        from studies.planning.rates import fit_growth

        sizes, pixels = self.sizes, [float(np.prod(size)) for size in READ]
        over: dict[str, tuple[str, Any]] = {
            "ingest over voxels": ("voxels", sizes.voxels),
            "ingest over trials": ("trials", [(STIMULI + TEST) * repeats for repeats in sizes.repeats]),
            "ingest over subjects": ("subjects", sizes.subjects),
            **{f"extract {name} over clips": ("clips", sizes.clips) for name in NETWORKS},
            "read over pixels": ("pixels of a clip", pixels),
            "fit over stimuli": ("stimuli", sizes.stimuli),
            "fit over voxels": ("voxels", sizes.fit_voxels),
            "fit over subjects": ("subjects", sizes.subjects),
            "fit mlp over steps": ("steps", sizes.steps),
            "render over clips": ("clips", sizes.rendered),
            "score over clips": ("clips", sizes.scored),
            "score over pixels": ("pixels of a clip", [8.0 * side**2 for side in sizes.sides]),
        }
        return {name: fit_growth(name, unit, at, self.seconds[name]) for name, (unit, at) in over.items()}

    def _ingest_rates(self) -> tuple[float, float, float]:
        """Return seconds of a subject, of a voxel and of a value, over all that was ingested."""
        from studies.planning.rates import relative_rates

        sizes = self.sizes
        runs = [(1, voxels, REPEATS) for voxels in sizes.voxels]
        runs += [(1, sizes.voxels[1], repeats) for repeats in sizes.repeats]
        runs += [(subjects, sizes.voxels[1], REPEATS) for subjects in sizes.subjects]
        counts = np.array([[n, n * voxels, n * voxels * (STIMULI + TEST) * repeats] for n, voxels, repeats in runs])
        times = [self.seconds[f"ingest over {what}"] for what in ("voxels", "trials", "subjects")]
        subject, voxel, value = relative_rates(counts.astype(float), np.concatenate(times))
        return subject, voxel, measured(value, "a value that is ingested")

    def _fit_rates(self) -> tuple[float, float, float]:
        """Return seconds of a fit whatever its size and of a trial's value, and products a second, over all fits."""
        from studies.planning.rates import relative_rates

        sizes = self.sizes
        runs = [(stimuli, sizes.fit_voxels[0], 1) for stimuli in sizes.stimuli]
        runs += [(STIMULI, voxels, 1) for voxels in sizes.fit_voxels]
        runs += [(STIMULI, sizes.fit_voxels[1], subjects) for subjects in sizes.subjects]
        times = [self.seconds[f"fit over {what}"] for what in ("stimuli", "voxels", "subjects")]
        work = [training_work(self.source(*run)) for run in runs]
        counts = np.array([[one.fits, one.responses, one.algebra] for one in work])
        fit_s, response_s, product_s = relative_rates(counts, np.concatenate(times))
        return fit_s, response_s, 1 / measured(product_s, "a ridge's products")

    def _score_rates(self) -> tuple[float, float]:
        """Return seconds of a clip and of a pixel in a row of a report."""
        from studies.planning.rates import relative_rates

        sizes = self.sizes
        shapes = [(count, 32) for count in sizes.scored] + [(sizes.scored[0], side) for side in sizes.sides]
        counts = np.array([[7 * count, 7 * count * 8 * side**2] for count, side in shapes], float)
        times = np.concatenate([self.seconds["score over clips"], self.seconds["score over pixels"]])
        clip, pixel = relative_rates(counts, times)
        return clip, measured(pixel, "a pixel that is scored")

    def check(self, rates: "Rates") -> list[tuple[str, float, float]]:
        """Predict runs larger than those that were fitted on, make them, and return both."""
        from studies.planning.work import Work, seconds_of

        sizes, found = self.sizes, []

        def checked(what: str, work: Work, kind: str, **job: Any) -> None:
            predicted = seconds_of(work, rates)
            measured = self.child(kind, rounds=1, **job)[0]
            last = measured[-1]
            found.append((what, predicted, sum(last.values()) if isinstance(last, dict) else last))

        small, (voxels, repeats) = self.source(STIMULI, sizes.voxels[0], 1), sizes.more_voxels
        source, trials = self.source(STIMULI, voxels, 1, repeats), (STIMULI + TEST) * repeats
        work = Work(subjects=1, voxels=voxels, values=trials * voxels)
        checked(f"ingest, {trials:,} trials × {voxels:,} voxels", work, "ingest", sources=[small, source])
        source = self.source(STIMULI, sizes.voxels[1], sizes.more_subjects)
        voxels = sizes.more_subjects * sizes.voxels[1]
        work = Work(subjects=sizes.more_subjects, voxels=voxels, values=(STIMULI + TEST) * REPEATS * voxels)
        checked(f"ingest, {sizes.more_subjects} subjects", work, "ingest", sources=[small, source])
        source = self.clips(sizes.more_clips)
        checked(
            f"extract, {sizes.more_clips} clips, four targets", extraction_work(source), "extract", sources=[source]
        )
        source, (stimuli, voxels, subjects) = self.source(*sizes.fit_more), sizes.fit_more
        what = f"fit, {stimuli:,} stimuli × {voxels:,} voxels × {subjects} subjects"
        least = self.source(sizes.stimuli[0], sizes.fit_voxels[0], 1)
        checked(what, training_work(source), "fit", sources=[least, source], routes=[None, None])
        clips = sizes.more_rendered
        forwards = round(RENDER["steps"] * RENDER["strength"]) * 2
        work = Work(single=clips * render_flops(), forwards=clips * forwards)
        checked(f"render, {clips} clips", work, "render", counts=[clips], settings=RENDER)
        clips = sizes.more_scored
        work = Work(scored_clips=7 * clips, scored_pixels=7 * clips * 8 * 32 * 32)
        checked(f"score, {clips} clips, seven rows", work, "score", sizes=[(4, (8, 32, 32)), (clips, (8, 32, 32))])
        return found


def mlp(steps: int) -> dict[str, Any]:
    """Return a route with a network of so many steps."""
    return {
        "mlp": {"regressor": {"kind": "mlp", "steps": steps, "hidden": 64, "components": 20, "validate_every": 10000}}
    }


def render_flops() -> float:
    """Return the products of one of the small world's clips as it is rendered here."""
    from studies.planning.models import SMALL_DECODE_FLOPS, SMALL_UNET_FLOPS

    forwards = round(RENDER["steps"] * RENDER["strength"]) * 2
    return forwards * SMALL_UNET_FLOPS + SMALL_DECODE_FLOPS * 8 * 32 * 32


def planned(source: str, *, clips: bool = False) -> Any:
    """Return a source's work as the plan counts it."""
    from studies.planning.plan import work_of_study

    os.environ["BRAIN2VIDEO_HOME"] = str(Path(source).parent / "planned")
    try:
        return work_of_study(study_of(Path(source), clips=clips))
    finally:
        del os.environ["BRAIN2VIDEO_HOME"]


def training_work(source: str) -> Any:
    """Return what selecting and training takes of a study of given embeddings."""
    work = planned(source)
    return work["select"] + work["train"]


def extraction_work(source: str) -> Any:
    """Return what extracting the small world's four targets takes."""
    return planned(source, clips=True)["extract"]


def measured(rate: float, what: str) -> float:
    """Return a rate that the plan divides by or goes by alone, if it shows in what was measured."""
    if rate <= 0:
        raise SystemExit(f"{what}: takes no time that could be told from the rest; measure again on a quiet machine")
    return rate


def memory_bytes() -> int:
    """Return this machine's memory."""
    import psutil

    return int(psutil.virtual_memory().total)


def threads() -> int:
    """Return the threads of the numerical libraries."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
