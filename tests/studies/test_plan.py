"""The plan beside what is then really written: bytes, chunks and files of stores, and what it says of the rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from core.errors import ConfigError
from feature_store.manifest import MANIFEST
from studies.planning.download import recording_files, to_fetch
from studies.planning.facts import find_facts
from studies.planning.models import UNET_AT, UNET_FLOPS, denoise_flops, target_shape
from studies.planning.plan import Plan, plan, shapes_of
from studies.planning.rates import Found, Gpu, Machine, Rates, find_rates, fit_growth, relative_rates
from studies.planning.store_size import array_size, group_sizes
from studies.planning.work import Work, seconds_of, work_of
from studies.stores.responses import ingest, simulate_source, subjects_of
from studies.stores.targets import extract
from studies.study import Roles, Study, load_study
from studies.training.fit import fit

from ..conftest import write_arrays
from .conftest import write_study

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ASSUMED = {"subjects": "3", "voxels": "20000", "train": "100x3", "test": "20x5"}
MACHINE = Machine(cores=2, memory_bytes=8 * 10**9, threads=1)
RATES = Rates(
    date="2000-01-01",
    machine=MACHINE,
    ingest_subject_s=1.0,
    ingest_voxel_s=1e-6,
    ingest_value_s=1e-8,
    target_s=2.0,
    clip_s=0.01,
    pixel_s=1e-8,
    network_flops=1e10,
    frame_s=0.001,
    forward_s=0.01,
    response_s=1e-8,
    algebra_flops=1e10,
    fit_s=0.5,
    step_s=0.01,
    score_clip_s=0.1,
    score_pixel_s=1e-6,
    video_pixel_bytes=0.05,
    base_bytes={"ingest": 10**8, "extract": 10**9, "select": 10**9, "train": 10**9, "reconstruct": 10**9},
)
FOUND = Found(RATES, "rates.json")


def written(group: Path) -> tuple[int, int, int, int]:
    """Return a group's chunk files, all its files, the bytes of the chunks and of everything."""
    files = [path for path in group.rglob("*") if path.is_file()]
    chunks = [path for path in files if "/c/" in path.relative_to(group).as_posix()]
    return len(chunks), len(files), sum(p.stat().st_size for p in chunks), sum(p.stat().st_size for p in files)


def hold_against_disk(study: Study) -> None:
    """Plan, write every group, and compare: chunks and their bytes are exact, metadata within a tenth."""
    sizes = {one.name: one for one in group_sizes(find_facts(study), shapes_of(study))}
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
    made = {"n_train": 12, "n_test": 6, "subjects": 1, "rest": 5, **simulation}
    changed = [f"simulation.{key}={value}" for key, value in made.items()]
    changed += [f"source.counts.train={made['n_train']}", f"source.counts.test={made['n_test']}", "source.subjects=[1]"]
    folders = {"latents": "text_to_video", "blip": "blip", "clip": "clip"}
    changed += [f"targets.{name}.weights={models / folder}" for name, folder in folders.items()]
    return load_study(CONFIGS / "demo.yaml", changed)


def test_before_a_simulation_the_declared_sizes_are_near(home: Path) -> None:
    study = load_study(CONFIGS / "demo.yaml", ["simulation.voxels=1500"])
    facts = find_facts(study)
    assert facts.origin == "declared by the dataset"
    assert [one.rows("train") for one in facts.subjects] == [1200, 1200]
    made = plan(study, found=FOUND)
    assert made.size == pytest.approx(41.1e6, rel=0.02)  # what the demo's store holds
    assert any("not simulated yet" in note for note in made.notes)


def test_array_size_pads_the_last_chunk() -> None:
    size = array_size("betas", (1001, 40_000), "float32")  # 160 MB: chunks of 32 MB, which 1,001 rows do not fill
    assert size.chunks == 7
    assert size.size == 7 * (143 * 40_000 * 4 + 4)


def test_what_is_done_is_told_from_what_is_left(study: Study) -> None:
    before = plan(study, found=FOUND)
    assert {one.state for one in before.groups} == {"not made"}
    assert before.size_left == before.size
    assert all(one.left == one.whole for one in before.hours)
    ingest(study, "sub-01")
    half = plan(study, found=FOUND)
    left = {one.stage: one.left["this machine"] for one in half.hours}
    assert left["ingest"] == 0
    assert left["extract"] > 0
    assert half.size_left == sum(one.size for one in half.groups if one.name == "targets/pixels")
    extract(study, "pixels")
    fit(study)
    after = plan(study, found=FOUND)
    assert after.size_left == 0
    left = {one.stage: one.left["this machine"] for one in after.hours}
    assert left["train"] == left["select"] == 0 < left["evaluate"]
    changed = study.model_copy(update={"seed": 1})
    assert {one.stage: one.left["this machine"] for one in plan(changed, found=FOUND).hours}["train"] > 0


def test_a_changed_recording_is_work_again(study: Study) -> None:
    ingest(study, "sub-01")
    file = Path(study.source.path) / "sub-01" / "responses.npy"
    np.save(file, np.load(file) + 1)
    made = plan(study, found=FOUND)
    state = {one.name: one.state for one in made.groups}["responses/sub-01"]
    assert state.startswith("stale")
    assert made.size_left == made.size


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_every_shipped_study_is_planned_with_nothing_here(home: Path, name: str) -> None:
    supposed = ASSUMED if name == "bids_example.yaml" else None
    made = plan(load_study(CONFIGS / name), found=FOUND, subjects=(10, 100), supposed=supposed)
    assert made.size_left == made.size > 0
    assert [one.subjects for one in made.scales] == [10, 100]
    assert made.scales[0].store < made.scales[1].store < 10 * made.scales[0].store
    assert all(hours > 0 for one in made.scales for hours in one.hours.values())
    assert {one.stage for one in made.hours} <= {one.stage for one in made.peaks}


def test_a_plan_survives_json(home: Path) -> None:
    made = plan(load_study(CONFIGS / "bold_moments.yaml"), found=FOUND, subjects=(10,))
    text = json.dumps(made.record())
    assert TypeAdapter(Plan).validate_json(text) == made


def test_nothing_known_is_asked_for_in_one_line(home: Path) -> None:
    study = load_study(CONFIGS / "bids_example.yaml")
    with pytest.raises(ConfigError, match=r"data/bids_example/dataset: no recordings here.*--assume subjects=12"):
        plan(study, found=FOUND)
    with pytest.raises(ConfigError, match="--assume: lacks train, test; say for example"):
        plan(study, found=FOUND, supposed={"subjects": "1", "voxels": "9"})
    with pytest.raises(ConfigError, match="--assume train=3by4: expected STIMULIxREPETITIONS"):
        plan(study, found=FOUND, supposed={**ASSUMED, "train": "3by4"})
    with pytest.raises(ConfigError, match="--assume: 'voxel' is not one of"):
        plan(study, found=FOUND, supposed={**ASSUMED, "voxel": "3"})


def test_nothing_is_supposed_of_what_is_here(study: Study) -> None:
    with pytest.raises(ConfigError, match="has its recordings or its stores here"):
        plan(study, found=FOUND, supposed=ASSUMED)


def test_the_store_tells_where_the_recordings_are_gone(study: Study) -> None:
    ingest(study, "sub-01")
    extract(study, "pixels")
    known = find_facts(study)
    Path(study.source.path).rename(Path(study.source.path).with_name("gone"))
    facts = find_facts(study)
    assert facts.origin == "as the store holds it"
    assert [one.values for one in facts.subjects] == [one.values for one in known.subjects]
    made = plan(study, found=FOUND)
    assert all(one.there == pytest.approx(one.size, rel=0.02) for one in made.groups)


def test_unknown_weights_are_one_line(home: Path) -> None:
    study = load_study(CONFIGS / "bold_moments.yaml", ["targets.clip.weights=someone/clip-of-theirs"])
    with pytest.raises(ConfigError, match="someone/clip-of-theirs: these weights are not here"):
        plan(study, found=FOUND)


def test_the_published_files_have_the_listed_sizes(shared_data: Path, home: Path) -> None:
    """The dataset's own listing of sub-01, for every kind of response."""
    listing = (shared_data / "bold-moments" / "ds005165_derivatives_sub-01_tree_with_sizes.txt").read_text()
    listed = {line.split()[2]: int(line.split()[1].replace(",", "")) for line in listing.splitlines()}
    for kind in ("rois", "MNI152", "fsLR32k", "fsaverage"):
        study = load_study(CONFIGS / "bold_moments.yaml", [f"source.responses={kind}", "source.rois=null"])
        files = {name: size for name, size in recording_files(study.source).items() if name in listed}  # type: ignore[arg-type]
        assert len(files) > 5
        for name, size in files.items():
            assert abs(size - listed[name]) < 64, name


def test_what_is_fetched_already_counts(home: Path) -> None:
    study = load_study(CONFIGS / "bold_moments.yaml")
    before = to_fetch(study)
    assert before.recordings == before.each > 3e8
    name, size = next((name, size) for name, size in recording_files(study.source).items() if size > 10**7)  # type: ignore[arg-type]
    file = home / study.source.path / name
    file.parent.mkdir(parents=True)
    with file.open("wb") as sparse:
        sparse.truncate(size)
    (home / "data/weights/openai/clip-vit-large-patch14").mkdir(parents=True)
    after = to_fetch(study)
    assert after.recordings_there == size
    clip = next(one for one in after.weights if one.name.startswith("openai"))
    assert clip.there
    assert after.left == before.left - size - (clip.size or 0)


def test_shapes_are_those_of_the_published_models(home: Path) -> None:
    study = load_study(CONFIGS / "bold_moments.yaml")
    shapes = {name: target_shape(study, name, None) for name in study.targets}
    assert shapes["latents"] == ((24, 4, 40, 72), "float16")
    assert shapes["blip"] == ((226, 768), "float16")
    assert shapes["clip"] == ((768,), "float16")
    assert denoise_flops("cerspense/zeroscope_v2_576w", (24, 4, 40, 72)) == pytest.approx(UNET_FLOPS)
    assert denoise_flops("cerspense/zeroscope_v2_576w", (UNET_AT[0] // 2, 4, 40, 72)) == pytest.approx(UNET_FLOPS / 2)


def test_work_grows_with_subjects_where_it_should(home: Path) -> None:
    study = load_study(CONFIGS / "bold_moments.yaml")
    facts = find_facts(study)
    shapes = {name: target_shape(study, name, None) for name in study.targets}
    one, ten = work_of(study, facts, shapes), work_of(study, facts.of_subjects(10), shapes)
    assert ten["ingest"].values == 10 * one["ingest"].values
    assert ten["extract"] == one["extract"]
    assert ten["ingest"].voxels == 10 * one["ingest"].voxels
    assert ten["train"].responses == pytest.approx(10 * one["train"].responses)
    assert 5 * one["train"].algebra < ten["train"].algebra < 10 * one["train"].algebra, "components are shared by all"
    assert ten["reconstruct"] == one["reconstruct"]


def test_training_reads_every_trial_for_every_route_and_decomposes_it_once_for_all_roles(home: Path) -> None:
    alone = ['training.routes={"one": {"regressor": {"kind": "ridge"}}}', "training.baselines=[]"]
    study = load_study(CONFIGS / "bold_moments.yaml", alone)
    facts = find_facts(study)
    shapes = {name: target_shape(study, name, None) for name in study.targets}
    both = work_of(study, facts, shapes)["train"]
    assert both.responses == sum((one.rows("train") + one.rows("test")) * one.voxels for one in facts.subjects)
    apart = [
        work_of(study.model_copy(update={"roles": Roles(**{role: target})}), facts, shapes)["train"].algebra
        for role, target in study.roles.regressed().items()
    ]
    decomposed = sum(2 * 1000**2 * one.voxels + 9 * 1000**3 for one in facts.subjects)  # rows are means
    assert sum(apart) - both.algebra == pytest.approx(decomposed, rel=1e-6)


def test_several_gpus_share_what_can_be_shared() -> None:
    gpu = Gpu(half_flops=1e12, single_flops=1e12, efficiency=0.5)
    networks = Work(single=4e12, network=2e12)
    assert seconds_of(networks, RATES, gpu) == pytest.approx(12)
    assert seconds_of(Work(single=4e12), RATES, gpu, 8, "extract") == pytest.approx(1)
    assert seconds_of(Work(single=4e12), RATES, gpu, 8, "reconstruct") == pytest.approx(8)
    assert seconds_of(Work(network=4e12), RATES, gpu, 8, "train") == pytest.approx(1)
    assert seconds_of(Work(algebra=4e10), RATES, gpu, 8, "train") == pytest.approx(4)
    assert seconds_of(Work(subjects=2), RATES, gpu, 8, "ingest") == pytest.approx(1)


def test_exponents_are_recovered(rng: np.random.Generator) -> None:
    sizes = np.array([1.0, 2, 4, 8, 16, 32])
    noise = np.exp(rng.normal(scale=0.02, size=6))
    squared = fit_growth("squares", "n", sizes, 0.3 * sizes**2 * noise)
    assert abs(squared.exponent - 2) < 3 * squared.error < 0.1
    assert squared.better == "power law"
    line = fit_growth("a line", "n", sizes, (5 + 0.7 * sizes) * noise)
    assert line.better == "line"
    assert line.constant == pytest.approx(5, rel=0.1)
    assert line.slope == pytest.approx(0.7, rel=0.1)
    assert line.at(100) == pytest.approx(75, rel=0.1)


def test_rates_of_several_counts_are_recovered_and_one_that_does_not_show_is_none(rng: np.random.Generator) -> None:
    counts = np.exp(rng.uniform(0, 8, size=(30, 3)))
    assert relative_rates(counts, counts @ [0.2, 0, 0.003]) == pytest.approx((0.2, 0, 0.003), abs=1e-9)


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 sizes and 3 costs; expected 4"):
        fit_growth("few", "n", [1, 2, 3], [1, 2, 3])


def test_rates_are_ones_own_before_those_of_the_project(home: Path) -> None:
    shipped = find_rates()
    own = home / ".state" / "rates.json"
    own.parent.mkdir()
    own.write_text(RATES.model_dump_json())
    assert find_rates() == Found(RATES, ".state/rates.json")
    assert shipped != Found(RATES, ".state/rates.json")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", r"rates.json: no JSON .*; measure again"),
        ('{"date": "today"}', r"rates.json: key 'machine' is missing.*; measure again"),
        (
            RATES.model_dump_json().replace('"fit_s":0.5', '"fit_s":-1'),
            r"rates.json: fit_s: .*found -1.*; measure again",
        ),
        (RATES.model_dump_json().replace('"fit_s"', '"fits"'), r"rates.json: unknown key 'fits'.*; measure again"),
    ],
)
def test_a_broken_file_of_rates_is_one_line(home: Path, content: str, told: str) -> None:
    file = home / "rates.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=told) as error:
        find_rates(file)
    assert "\n" not in str(error.value)


def test_without_rates_there_are_bytes_and_no_hours(home: Path) -> None:
    made = plan(load_study(CONFIGS / "digits69.yaml"), found=None)
    assert made.size > 0
    assert made.hours == ()
    assert any("no rates" in note for note in made.notes)
