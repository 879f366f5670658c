"""Logs what was made with a registered set as a run of its own, so that it can be looked at where models are chosen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID as PARENT
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE as NOTE
from mlflow.utils.time import get_current_time_millis

from models.registry.client import client, experiment, explained
from models.registry.sets import ModelSet


def log_reconstruction(
    chosen: ModelSet, run: str, metrics: Mapping[str, float], note: str, artifacts: Sequence[Path]
) -> str:
    """Log a reconstruction to the study's experiment and return MLflow's id of the run.

    Parameters
    ----------
    chosen : ModelSet
        What it was made with; its training run is named in a tag.
    run : str
        The reconstruction's name.
    metrics : by name; what is not finite is left out
    note : the run's description
    artifacts : files, such as the gallery, which MLflow shows

    Raises
    ------
    ServerError
        MLflow cannot be reached, or refuses; the run is marked as failed where there is one.
    """
    connection = client()
    now = get_current_time_millis()
    tags = {"kind": "reconstruction", "training": chosen.run, "models": str(chosen), NOTE: note}
    if chosen.mlflow_run:
        tags[PARENT] = chosen.mlflow_run
    with explained(f"logging the reconstruction {run}"):
        made = connection.create_run(experiment(chosen.study), run_name=run, tags=tags)
        run_id = str(made.info.run_id)
        try:
            logged = [Metric(name, float(value), now, 0) for name, value in metrics.items() if np.isfinite(value)]
            connection.log_batch(run_id, metrics=logged)
            for path in artifacts:
                connection.log_artifact(run_id, str(path))
        except BaseException:
            connection.set_terminated(run_id, "FAILED")
            raise
        connection.set_terminated(run_id, "FINISHED")
    return run_id
