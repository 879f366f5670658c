"""The small world on disk: a simulated dataset in BOLD Moments' layout, where a study asks for one."""

from pathlib import Path

from core.checkout import project_root
from core.errors import ConfigError
from simulation.write import is_there, simulate
from studies.study import Study


def simulate_source(study: Study, destination: Path | None = None, *, replace: bool = False) -> tuple[Path, bool]:
    """Write the study's simulated dataset to its source's folder, or elsewhere, unless it is already there.

    Returns
    -------
    folder, fresh
        The dataset's folder, and whether it was already there.

    Raises
    ------
    ConfigError
        The study does not describe a simulation.
    SourceError
        The folder holds something else.
    """
    if study.simulation is None:
        raise ConfigError(f"{study.study}: has no 'simulation' section; only a simulated study can be simulated")
    folder = destination or project_root() / study.source.path
    fresh = is_there(study.simulation, folder, replace=replace)
    return simulate(study.simulation, folder, replace=replace), fresh
