"""Rest: the same voxels re-enact what was never shown, and nothing else of a dataset changes by it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.errors import SourceError
from core.files import digest_folder, read_json
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import REST, ROIS
from simulation.brains import Seen, SimulatedSubject, simulate_subject
from simulation.world import SPLITS, SimulationConfig, render
from simulation.write import _files, counts_of, imagined, shown, simulate

CONFIG = SimulationConfig(n_train=300, n_test=40, voxels=1000, rest=400)
ROWS = 50


@pytest.fixture(scope="module")
def seen() -> tuple[Seen, Seen]:
    """What is shown, and what is re-enacted at rest."""
    (combinations, jitter), (never_shown, other) = shown(CONFIG), imagined(CONFIG)
    return (
        Seen.of(render(combinations, jitter, 8, 32, 32), combinations, CONFIG.seed),
        Seen.of(render(never_shown, other, 8, 32, 32), never_shown, CONFIG.seed, usual=combinations),
    )


@pytest.fixture(scope="module")
def subject(seen: tuple[Seen, Seen]) -> SimulatedSubject:
    """The first subject."""
    return brain(seen)


def brain(seen: tuple[Seen, Seen], **changed: object) -> SimulatedSubject:
    return simulate_subject(seen[0], CONFIG.model_copy(update=changed), 1, seen[1])


def rest_of(subject: SimulatedSubject) -> NDArray[np.float64]:
    return np.concatenate([subject.rest[roi] for roi in ROIS], axis=1)


def evoked_covariance(subject: SimulatedSubject) -> NDArray[np.float64]:
    """Return the covariance of what repeats of a training stimulus share, in which noise has no part."""
    betas = np.concatenate([subject.betas[roi]["train"] for roi in ROIS], axis=-1)
    betas = betas - betas.mean(axis=(0, 1))
    stimuli, repeats, voxels = betas.shape
    total, trials = betas.sum(axis=1), betas.reshape(-1, voxels)
    return np.asarray((total.T @ total - trials.T @ trials) / (stimuli * repeats * (repeats - 1)))


def share_in_components(rows: NDArray[np.float64], covariance: NDArray[np.float64], count: int = 20) -> float:
    """Return how much of a covariance's variance lies in the principal components of some rows."""
    components = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:count]
    return float(np.trace(components @ covariance @ components.T) / np.trace(covariance))


def test_rest_varies_as_responses_to_stimuli_do(
    seen: tuple[Seen, Seen], subject: SimulatedSubject, rng: np.random.Generator
) -> None:
    covariance = evoked_covariance(subject)
    share = share_in_components(rest_of(subject), covariance)
    assert share > 0.2
    assert share > 2 * share_in_components(rest_of(brain(seen, rest_signal=0.0)), covariance), "more than noise alone"
    assert share > 4 * share_in_components(rng.normal(size=(CONFIG.rest, len(covariance))), covariance)
    assert share_in_components(rest_of(brain(seen, rest_signal=1.5)), covariance) > share


def test_rest_is_as_noisy_as_a_trial_and_of_the_same_scale(subject: SimulatedSubject) -> None:
    rows = rest_of(subject)
    assert rows.shape[0] == CONFIG.rest
    assert abs(rows.std(axis=0).mean() - 1) < 0.05
    assert abs(rows.mean(axis=0)).mean() < 0.1
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_rest_mixes_a_few_responses_to_what_is_imagined(seen: tuple[Seen, Seen]) -> None:
    """Without noise, and imagining just three clips, all rows of rest lie in the space of three responses."""
    few = Seen(*(part[:3] for part in (seen[1].light, seen[1].motion, seen[1].dense)))
    shares = []
    for imagines in (few, seen[1]):
        subject = brain((seen[0], imagines), ncsnr=(1e4, 1e4))
        rows = rest_of(subject)[:, subject.ncsnr > 0]
        variances = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
        shares.append(variances[:3] / variances.sum())
    assert shares[0].sum() > 0.999
    assert shares[0][2] > 0.01
    assert shares[1].sum() < 0.7


def test_stimuli_are_answered_as_without_rest(seen: tuple[Seen, Seen], subject: SimulatedSubject) -> None:
    without = simulate_subject(seen[0], CONFIG.model_copy(update={"rest": 0}), 1)
    assert without.rest == {}
    for other in (brain(seen, rest=ROWS), subject):
        np.testing.assert_array_equal(other.ncsnr, without.ncsnr)
        for roi in ROIS:
            for split in SPLITS:
                np.testing.assert_array_equal(other.betas[roi][split], without.betas[roi][split])


@pytest.mark.parametrize("world", ["easy", "full"])
def test_nobody_is_shown_what_is_imagined(world: str) -> None:
    config = CONFIG.model_copy(update={"world": world, "n_train": 2000, "n_test": 400})
    combinations, _ = imagined(config)
    assert {combination.pool for combination in combinations} == {"zoo"}
    assert set(combinations).isdisjoint(shown(config)[0])
    assert len(set(combinations)) == len(combinations)


@pytest.fixture(scope="module")
def with_rest(tiny: SimulationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset with rest; read only."""
    return simulate(tiny.model_copy(update={"rest": ROWS}), tmp_path_factory.mktemp("simulated") / "with rest")


def test_a_dataset_without_rest_is_as_before_it_could_have_any(
    tiny: SimulationConfig, dataset: Path, with_rest: Path, tmp_path: Path
) -> None:
    described = read_json(dataset / "dataset_description.json")["SimulatedBy"]["Config"]
    assert {"rest", "rest_signal"}.isdisjoint(described)
    assert read_json(with_rest / "dataset_description.json")["SimulatedBy"]["Config"]["rest"] == ROWS
    config = tiny.model_copy(update={"rest": ROWS})
    there = {path.relative_to(with_rest).as_posix() for path in with_rest.rglob("*") if path.is_file()}
    assert there == {*_files(config), "dataset_description.json"}
    copy = shutil.copytree(with_rest, tmp_path / "copy")
    for path in copy.rglob("*_rest_normalized.pkl"):
        path.unlink()
    shutil.copy(dataset / "dataset_description.json", copy)
    assert digest_folder(copy) == digest_folder(dataset)
    with pytest.raises(SourceError, match=r"holds a simulation with rest = 0, expected 50; replace it"):
        simulate(config, dataset)


def test_a_lost_file_of_rest_is_written_again(tiny: SimulationConfig, with_rest: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(with_rest, tmp_path / "copy")
    (copy / REST.format(subject="sub-02", roi="lEBA")).unlink()
    simulate(tiny.model_copy(update={"rest": ROWS}), copy)
    assert digest_folder(copy) == digest_folder(with_rest)


def test_the_source_reads_rest(tiny: SimulationConfig, dataset: Path, with_rest: Path) -> None:
    source, without = (
        BoldMomentsConfig(path=str(folder), counts=counts_of(tiny)).build(Path("/")) for folder in (with_rest, dataset)
    )
    shapes = set()
    for subject in source.subjects:
        recording = source.responses(subject)
        assert recording.unlabelled is not None
        assert recording.unlabelled.shape == (ROWS, len(recording.voxels))
        assert len(source.response_files(subject)) == 2 * len(without.response_files(subject)) == 2 * len(ROIS)
        assert without.responses(subject).unlabelled is None
        for split in SPLITS:
            assert np.array_equal(recording.values[split][0:99], without.responses(subject).values[split][0:99])
        shapes.add(recording.unlabelled.shape)
    assert len(shapes) == 2, "subjects have different voxels"
