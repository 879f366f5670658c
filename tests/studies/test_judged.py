"""A reconstruction beside all that it is compared with, from recordings whose answer is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.checkout import project_root as home_folder
from core.files import read_json
from evaluation.report.verdict import verdict
from evaluation.report.wording import number
from evaluation.statistics.scores import (
    CATEGORY,
    CEILINGS,
    MEAN,
    NEAREST,
    NOISE_CEILING,
    NUISANCE,
    ORACLE,
    RECONSTRUCTION,
    SHUFFLED,
)
from models.registry.client import client
from studies.reconstruction.run import reconstruct
from studies.registry.production import resolve_production
from studies.runs import LOGGED
from studies.study import Study, load_study

from ..conftest import write_arrays
from .conftest import Looped, loop, write_study


def metrics_of(study: Study) -> dict:
    return read_json(home_folder() / loop(study).folder / "metrics.json")


def test_every_row_that_can_be_had_is_there_and_the_others_are_named(looped: Looped) -> None:
    metrics = read_json(looped.folder / "metrics.json")
    assert list(metrics["rows"]) == sorted(metrics["rows"])  # canonical JSON; the order of showing is `ROWS`
    controls = {NEAREST, CATEGORY, NUISANCE, MEAN, SHUFFLED}
    assert set(metrics["rows"]) == {RECONSTRUCTION, *controls, *CEILINGS}
    assert set(metrics["comparisons"]) == {*controls, *CEILINGS}
    said = metrics["notes"]
    assert "no prior: z is decoded directly, without a generator that could invent something" in said
    trained = read_json(looped.study.outputs / "training" / "latest" / "scores.json")["targets"]["z"]["rows"]
    ceiling = trained[NOISE_CEILING]["pixels_centred.correlation"]
    assert ceiling["ci95"][0] < ceiling["value"] < ceiling["ci95"][1]
    words = f"{number(ceiling['value'])} [{number(ceiling['ci95'][0])}, {number(ceiling['ci95'][1])}] (z)"
    assert any(note.startswith("noise ceiling:") and words in note for note in said), "one thing in both tables"
    assert "no still and shuffled_frames: clips have one frame" in said
    assert "not computed: other_brain, caption_only, z_only; name them in evaluation.controls" in said
    assert "no time_only: the trials of sub-01 have no run, and clips no movie" in said
    assert "nuisance knows the global signal alone: the trials have no motion confounds" in said
    assert "skipped epe_512, epe_512_luma: computed only where it is named" in said
    assert any(note.startswith("skipped similarity") and note.endswith(": needs judges.clip") for note in said)
    two_way = {row: entries["pixels.two_way"]["value"] for row, entries in metrics["rows"].items()}
    assert two_way[MEAN] == pytest.approx(0.5)
    assert two_way[SHUFFLED] == pytest.approx(0.5, abs=0.1)
    assert two_way[NEAREST] < two_way[RECONSTRUCTION] <= two_way[ORACLE] == 1
    assert metrics["comparisons"][SHUFFLED]["pixels.two_way"]["p"] < 0.01
    assert "above the shuffled brain" in verdict(metrics)


def test_the_noise_ceiling_lies_between_the_reconstruction_and_the_oracle(home: Path, tmp_path: Path) -> None:
    source = write_arrays(tmp_path / "noisy", np.random.default_rng(3), train=200, test=30, repeats=4)
    file = source / "sub-01" / "responses.npy"
    values = np.load(file)
    np.save(file, values + 2 * np.random.default_rng(4).normal(size=values.shape).astype(np.float32))
    rows = metrics_of(load_study(write_study(home, source)))["rows"]
    error = {row: entries["frames.psnr"]["value"] for row, entries in rows.items() if "frames.psnr" in entries}
    correlation = {row: entries["pixels.correlation"]["value"] for row, entries in rows.items()}
    for scored in (error, correlation):
        assert scored[RECONSTRUCTION] < scored[NOISE_CEILING] < scored[ORACLE]


def test_a_stimulus_shown_once_among_others_and_odd_repetitions_have_a_noise_ceiling(
    home: Path, tmp_path: Path
) -> None:
    source = write_arrays(tmp_path / "odd", np.random.default_rng(3), train=60, test=12, repeats=3)
    trials = pd.read_csv(source / "sub-01" / "trials.csv")
    lost = np.flatnonzero(trials["stimulus_id"] == "s065")[1:]
    trials.drop(index=lost).to_csv(source / "sub-01" / "trials.csv", index=False)
    file = source / "sub-01" / "responses.npy"
    np.save(file, np.delete(np.load(file), lost, axis=0))
    rows = metrics_of(load_study(write_study(home, source)))["rows"]
    assert rows[RECONSTRUCTION]["pixels.two_way"]["value"] <= rows[NOISE_CEILING]["pixels.two_way"]["value"]


def test_stimuli_shown_once_have_no_noise_ceiling_and_a_note_says_so(home: Path, tmp_path: Path) -> None:
    source = write_arrays(tmp_path / "once", np.random.default_rng(3), repeats=1)
    metrics = metrics_of(load_study(write_study(home, source)))
    assert NOISE_CEILING not in metrics["rows"]
    assert any("shown once" in note for note in metrics["notes"])


def test_what_ignores_the_brain_is_reported_as_not_above_the_shuffled_brain(home: Path, tmp_path: Path) -> None:
    """The test responses belong to no stimulus: whatever is rendered, it owes nothing to what was seen."""
    source = write_arrays(tmp_path / "deaf", np.random.default_rng(5), train=60, test=24)
    file, trials = source / "sub-01" / "responses.npy", pd.read_csv(source / "sub-01" / "trials.csv")
    values = np.load(file)
    test = np.flatnonzero(trials["stimulus_id"].isin([f"s{index:03d}" for index in range(60, 84)]))
    values[test] = values[test][np.random.default_rng(6).permutation(len(test))]
    np.save(file, values)
    metrics = metrics_of(load_study(write_study(home, source)))
    assert metrics["comparisons"][SHUFFLED]["pixels.two_way"]["p"] >= 0.05
    assert verdict(metrics).startswith("Reconstructions are not shown to be above the shuffled brain:")


def test_the_diagnoses_and_every_stimulus_are_kept(looped: Looped) -> None:
    folder = looped.folder
    metrics, values = read_json(folder / "metrics.json"), read_json(folder / "values.json")
    assert set(metrics["diagnoses"]) == {"dimension", "distance", "leaks", "time"}
    dimension = metrics["diagnoses"]["dimension"]["pixels"]
    assert 0 < dimension["ratio"] < 2
    assert dimension["n"] == 8
    assert metrics["diagnoses"]["leaks"]["stimuli"]["count"] == 0
    assert metrics["diagnoses"]["leaks"]["clips"]["count"] == 0
    assert values["stimuli"] == [f"s{index:03d}" for index in range(40, 48)]
    scored = values["rows"][RECONSTRUCTION]["pixels.two_way"]
    assert np.mean(scored) == pytest.approx(metrics["rows"][RECONSTRUCTION]["pixels.two_way"]["value"])
    assert values["directions"]["pixels.two_way"] is True


def test_it_is_logged_to_mlflow_once_with_its_gallery(looped: Looped) -> None:
    study, folder = looped.study, looped.folder
    run = client().get_run((folder / LOGGED).read_text())
    metrics = read_json(folder / "metrics.json")
    two_way = metrics["rows"][RECONSTRUCTION]["pixels.two_way"]["value"]
    assert run.data.metrics["reconstruction.pixels.two_way"] == pytest.approx(two_way)
    assert run.data.tags["mlflow.note.content"] == verdict(metrics)
    assert "gallery.html" in [one.path for one in client().list_artifacts(run.info.run_id)]
    again = reconstruct(study, resolve_production(study))
    assert again.fresh
    runs = client().search_runs([run.info.experiment_id], "tags.kind = 'reconstruction'")
    assert len(runs) == 1
