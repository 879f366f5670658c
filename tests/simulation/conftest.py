"""A tiny simulated dataset, written once for all tests of the room."""

from pathlib import Path

import pytest

from simulation.world import SimulatedClips, SimulationConfig
from simulation.write import simulate


@pytest.fixture(scope="session")
def tiny() -> SimulationConfig:
    return SimulationConfig(
        n_train=12,
        n_test=6,
        subjects=2,
        test_repeats=4,
        voxels=138,
        clips=SimulatedClips(frames=6, side=32, fps=2),
        seed=3,
    )


@pytest.fixture(scope="session")
def dataset(tiny: SimulationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once and read only; a test that changes files copies them first."""
    return simulate(tiny, tmp_path_factory.mktemp("simulated") / "dataset")
