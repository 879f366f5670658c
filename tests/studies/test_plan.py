"""The plan beside what is then really written and held in memory: bytes, chunks, files, parts of models, peaks."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from safetensors.numpy import load_file
from typer.main import get_command

from brain2video.cli.commands.download import download
from core.errors import ConfigError, ModelError
from feature_store.schema import MANIFEST
from studies.planning.facts import find_facts
from studies.planning.memory import TOGETHER
from studies.planning.plan import Plan, plan, shapes_of
from studies.planning.routes import STAGES, Network
from studies.planning.store_size import array_size, group_sizes
from studies.status.freshness import freshness
from studies.stores.responses import ingest, simulate_source, subjects_of
from studies.stores.targets import extract
from studies.study import Study, load_study
from studies.training.fit import fit

from ..conftest import use_home, write_arrays
from .conftest import write_study
from .routes_source import make_stores

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RIDGE = ["training.routes={ridge: {}}"]
NO_VIDEO = [
    "targets={clip: {extractor: clip, weights: openai/clip-vit-large-patch14}}",
    "roles={b: clip}",
    "training.baselines=[]",
    *(f"{key}=null" for key in ("generator", "captioner")),
]
"""What leaves a study without networks that take long to trace."""
ASSUMED = {"subjects": "3", "voxels": "20000", "train": "100x3", "test": "20x5"}


def size_of(planned: Plan) -> int:
    """Return the bytes of all groups."""
    return sum(group.size for group in planned.groups)


def written(group: Path) -> tuple[int, int, int, int]:
    """Return a group's chunk files, all its files, the bytes of the chunks and of everything."""
    files = [path for path in group.rglob("*") if path.is_file()]
    chunks = [path for path in files if "/c/" in path.relative_to(group).as_posix()]
    return len(chunks), len(files), sum(p.stat().st_size for p in chunks), sum(p.stat().st_size for p in files)


def hold_against_disk(study: Study) -> None:
    """Plan, write every group, and compare: chunks and their bytes are exact, metadata within a tenth."""
    sizes = {one.name: one for one in group_sizes(find_facts(study), shapes_of(study.targets, study.source))}
    for subject in subjects_of(study.source):
        ingest(study, subject)
    for target in study.targets:
        extract(study, target)
    made = {path.parent.relative_to(study.store).as_posix() for path in study.store.glob(f"*/*/{MANIFEST}")}
    assert made == set(sizes)
    for name, size in sizes.items():
        chunks, files, stored, everything = written(study.store / name)
        assert (size.chunks, size.files, size.stored) == (chunks, files, stored), name
        assert size.size - size.stored == pytest.approx(everything - stored, rel=0.1), name


def test_arrays_take_the_planned_bytes(study: Study) -> None:
    hold_against_disk(study)


def test_edge_chunks_and_windows_take_the_planned_bytes(
    home: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With chunks so small that the last of many is padded; a subject with windows and rows without a stimulus."""
    monkeypatch.setattr("feature_store.schema.CHUNK_BYTES", 4096)
    folder = write_arrays(tmp_path / "recordings", rng, train=37, test=7, voxels=61, subjects=("sub-01", "sub-02"))
    rows = np.load(folder / "sub-02" / "responses.npy")
    np.save(folder / "sub-02" / "responses.npy", np.stack([rows, rows + 1, rows], axis=1))
    np.save(folder / "sub-02" / "unlabelled.npy", np.stack([rows, rows + 1, rows], axis=1)[:23])
    study = load_study(
        write_study(home, folder, targets={"given": {"extractor": "given", "file": "patches"}}, roles={"z": "given"})
    )
    assert find_facts(study).subjects[1].times == 3
    hold_against_disk(study)


def test_a_simulated_study_takes_the_planned_bytes(home: Path, small_models: Path) -> None:
    study = demo_of(home, small_models, n_train=24, n_test=6, subjects=1, rest=11)
    simulate_source(study)
    hold_against_disk(study)


def demo_of(home: Path, models: Path, **simulation: Any) -> Study:
    """Return the demo's study, smaller and with weights of the test's own."""
    return load_study(CONFIGS / "demo.yaml", overrides(models, **simulation))


def overrides(models: Path, **simulation: Any) -> list[str]:
    """Return what makes the demo's study a smaller one."""
    made = {"n_train": 12, "n_test": 6, "subjects": 1, "rest": 5, **simulation}
    changed = [f"simulation.{key}={value}" for key, value in made.items()]
    changed += [f"source.counts.train={made['n_train']}", f"source.counts.test={made['n_test']}", "source.subjects=[1]"]
    folders = {"latents": "text_to_video", "blip": "blip", "clip": "clip"}
    return [*changed, *(f"targets.{name}.weights={models / folder}" for name, folder in folders.items())]


def test_before_a_simulation_the_declared_sizes_are_near(home: Path) -> None:
    study = load_study(CONFIGS / "demo.yaml", ["simulation.voxels=1500", *RIDGE])
    facts = find_facts(study)
    assert facts.origin == "declared by the dataset"
    assert [one.rows("train") for one in facts.subjects] == [1200, 1200]
    made = plan(study)
    assert size_of(made) == pytest.approx(41.1e6, rel=0.02)  # what the demo's store holds
    assert any("not simulated yet" in note for note in made.notes)


def test_array_size_pads_the_last_chunk() -> None:
    size = array_size((1001, 40_000), "float32")  # 160 MB: chunks of 32 MB, which 1,001 rows do not fill
    assert size == (7, 7 * (143 * 40_000 * 4 + 4))


def bold_moments(*changed: str) -> Study:
    """Return the published dataset's study, with a route whose training needs no tracing."""
    return load_study(CONFIGS / "bold_moments.yaml", [*RIDGE, *changed])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The plan of the published dataset's study, with nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        use_home(tmp_path_factory.mktemp("published"), patch)
        return plan(bold_moments(), subjects=(10,))


def states_of(study: Study) -> dict[str, str]:
    return {path.relative_to(study.store).as_posix(): one.state for path, one in freshness(study).items()}


def test_what_is_done_is_told_from_what_is_left(study: Study) -> None:
    before = plan(study, states=states_of(study))
    assert {one.state for one in before.groups} == {"not made"}
    assert before.size_left == size_of(before)
    ingest(study, "sub-01")
    half = plan(study, states=states_of(study))
    assert half.size_left == sum(one.size for one in half.groups if one.name == "targets/pixels")
    extract(study, "pixels")
    assert plan(study, states=states_of(study)).size_left == 0


def test_a_changed_recording_is_work_again(study: Study) -> None:
    ingest(study, "sub-01")
    file = Path(study.source.path) / "sub-01" / "responses.npy"
    np.save(file, np.load(file) + 1)
    made = plan(study, states=states_of(study))
    state = {one.name: one.state for one in made.groups}["responses/sub-01"]
    assert state.startswith("stale")
    assert made.size_left == size_of(made)


def test_the_parts_of_a_route_take_the_planned_bytes(home: Path, arrays_folder: Path) -> None:
    """Of every route, as safetensors on the disk; their headers and the settings beside them are not planned."""
    network = {"hidden": 64, "components": 8, "steps": 2}
    routes = {
        "ridge": {},
        "components": {"regressor": {"kind": "ridge", "components": 8}},
        "matched": {"regressor": {"kind": "ridge", "variance_matching": 0.5}},
        "pca": {"encoder": {"kind": "pca", "components": 12}, "regressor": {"kind": "ridge", "components": 8}},
        "mlp": {"regressor": {"kind": "mlp", **network}},
        "residual": {"regressor": {"kind": "residual", **network}},
        "mbm": {"encoder": {"kind": "mbm", "pretraining": {"steps": 2}, "alignment": None}},
    }
    for name, route in routes.items():
        study = load_study(write_study(home, arrays_folder, training={"routes": {name: route}}))
        planned = plan(study).outputs[0]
        make_stores(study)
        files = list((home / fit(study).folder).rglob("*.safetensors"))
        assert len(files) == planned.files == 2
        tensors = sum(value.nbytes for file in files for value in load_file(file).values())
        assert planned.size == pytest.approx(tensors, rel=0.05, abs=500), name  # alphas and their errors


@pytest.mark.parametrize(
    "name",
    [
        path.name
        if path.stem in ("bids_example", "digits69_routes")
        else pytest.param(path.name, marks=pytest.mark.full)
        for path in sorted(CONFIGS.glob("*.yaml"))
    ],
)
def test_every_shipped_study_is_planned_with_nothing_here(home: Path, name: str) -> None:
    supposed = ASSUMED if name == "bids_example.yaml" else None
    study = load_study(CONFIGS / name)
    made = plan(study, subjects=(10, 100), supposed=supposed)
    assert made.size_left == size_of(made) > 0
    assert [one.subjects for one in made.scales] == [10, 100]
    assert made.scales[0].store < made.scales[1].store < 10 * made.scales[0].store
    assert made.scales[0].memory <= made.scales[1].memory
    assert [one.stage for one in made.peaks] == [
        stage for stage in STAGES if stage in {one.stage for one in made.peaks}
    ]
    assert {one.stage for one in made.networks} <= {one.stage for one in made.peaks}
    assert not any("not counted" in note for note in made.notes)


def test_a_plan_survives_json(published: Plan) -> None:
    text = json.dumps(asdict(published))
    assert TypeAdapter(Plan).validate_json(text) == published


def test_nothing_known_is_asked_for_in_one_line(home: Path) -> None:
    study = load_study(CONFIGS / "bids_example.yaml")
    with pytest.raises(ConfigError, match=r"data/bids_example/dataset: no recordings here.*--assume subjects=12"):
        plan(study)
    with pytest.raises(ConfigError, match="--assume: lacks train, test; say for example"):
        plan(study, supposed={"subjects": "1", "voxels": "9"})
    with pytest.raises(ConfigError, match="--assume train=3by4: expected STIMULIxREPETITIONS"):
        plan(study, supposed={**ASSUMED, "train": "3by4"})
    with pytest.raises(ConfigError, match="--assume: 'voxel' is not one of"):
        plan(study, supposed={**ASSUMED, "voxel": "3"})


def test_nothing_is_supposed_of_what_is_here(study: Study) -> None:
    with pytest.raises(ConfigError, match="has its recordings or its stores here"):
        plan(study, supposed=ASSUMED)


def test_the_store_tells_where_the_recordings_are_gone(study: Study) -> None:
    ingest(study, "sub-01")
    extract(study, "pixels")
    known = find_facts(study)
    Path(study.source.path).rename(Path(study.source.path).with_name("gone"))
    facts = find_facts(study)
    assert facts.origin == "as the store holds it"
    for one, before in zip(facts.subjects, known.subjects, strict=True):
        assert (one.voxels, one.rows("train"), one.rows("test")) == (before.voxels, before.rows("train"), 16)
    made = plan(study)
    for one in made.groups:
        assert one.state.startswith("there")
        assert sum(path.stat().st_size for path in (study.store / one.name).rglob("*") if path.is_file()) == (
            pytest.approx(one.size, rel=0.02)
        )


def test_unknown_weights_of_a_target_are_one_line(home: Path) -> None:
    study = bold_moments("targets.clip.weights=someone/clip-of-theirs")
    with pytest.raises(ModelError, match="someone/clip-of-theirs: these weights are not here, .*openai/clip-vit"):
        plan(study)


def test_an_unknown_generator_is_a_note_and_the_rest_is_planned(home: Path) -> None:
    made = plan(bold_moments("generator.weights=someone/video-of-theirs"))
    assert any(note.startswith("memory of generator is not counted: someone/video-of-theirs") for note in made.notes)
    assert {one.size for one in made.weights if one.name == "someone/video-of-theirs"} == {None}
    assert size_of(made) > 0


def test_weights_that_are_here_are_said_to_be(home: Path) -> None:
    (home / "data/weights/openai/clip-vit-large-patch14").mkdir(parents=True)
    there = {one.name: one.there for one in plan(bold_moments(*NO_VIDEO, "judges={}")).weights}
    assert [name for name, here in there.items() if here] == ["openai/clip-vit-large-patch14"]


def test_the_bucket_is_asked_by_a_command_that_is_understood(home: Path) -> None:
    """With what the study reads, to the region."""
    ask = plan(bold_moments(*NO_VIDEO, "source.rois=[V1v, EBA]")).ask or ""
    words = shlex.split(ask)
    assert words[:4] == ["brain2video", "download", "bold-moments", "data/bold_moments/ds005165"]
    command = get_command(download).commands["bold-moments"]  # type: ignore[attr-defined]
    given = command.make_context("bold-moments", words[3:]).params
    assert list(given["subject"]) == ["1"]
    assert (list(given["roi"]), list(given["responses"]), given["dry_run"]) == (["V1v", "EBA"], ["rois"], True)
    assert plan(load_study(CONFIGS / "digits69.yaml")).ask is None


def test_shapes_are_those_of_the_published_models(home: Path) -> None:
    study = bold_moments()
    assert shapes_of(study.targets, study.source) == {
        "latents": ((24, 4, 40, 72), "float16"),
        "blip": ((226, 768), "float16"),
        "clip": ((768,), "float16"),
        "pixels": ((8, 3, 20, 36), "float16"),
    }


def test_networks_that_lie_together_add_up_and_their_work_does_not(published: Plan) -> None:
    found = [one for one in published.networks if one.stage == "reconstruct"]
    *parts, together = found
    assert together.part == TOGETHER
    assert together.weights == sum(one.weights for one in parts)
    assert together.working == max(one.working for one in parts)
    generator = next(one for one in parts if one.part == "generator")
    assert generator.weights == pytest.approx(2 * (83_653_863 + 1_411_233_860 + 340_387_840), rel=1e-3)


def test_what_a_study_keeps_on_the_processor_is_not_counted_on_a_gpu(home: Path) -> None:
    study = bold_moments("targets.latents.device=cpu", "captioner.device=cpu")
    found = {(one.stage, one.part): one for one in plan(study).networks}
    assert not found["extract", "latents"].on_gpu
    assert not found["reconstruct", "captioner"].on_gpu
    assert found["reconstruct", TOGETHER].working < 5e9 < found["extract", "latents"].working


def test_a_card_holds_what_is_no_larger() -> None:
    network = Network("reconstruct", "generator", weights=6 * 10**9, working=12 * 10**9, least=3 * 10**9)
    assert [network.fits(card) for card in (8, 9, 17, 18, 24)] == ["no", "smaller batch", "smaller batch", "yes", "yes"]


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read by Linux's means")
def test_peaks_are_above_what_is_measured_and_not_far(home: Path, small_models: Path) -> None:
    """Every stage of a small study, each measured in a process of its own."""
    network = {"kind": "mlp", "steps": 4, "validate_every": 2}
    routes = {"ridge": {}, "mlp": {"regressor": network}}
    changed = ["simulation.voxels=20000", f"training.routes={json.dumps(routes)}", "training.sheet=0"]
    study = load_study(CONFIGS / "demo.yaml", [*overrides(small_models, n_train=120, n_test=12, rest=0), *changed])
    simulate_source(study)
    planned = {one.stage: one.size for one in plan(study).peaks}
    file = home / "study.json"
    file.write_text(study.model_dump_json())
    checkout = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("plan_peaks.py")), str(file)]
    measured = {}
    for stage in ("ingest", "extract", "train"):
        done = subprocess.run([*command, stage], env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        measured[stage] = int(done.stdout.splitlines()[-1])
    for stage, most in measured.items():
        assert 0.4 * planned[stage] < most < planned[stage], (stage, measured, planned)
