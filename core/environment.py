"""Where ZenML, MLflow and DVC keep their state: inside the checkout, telemetry off, unless the user sets another place.

Imported by the command line, and at the start of every Python program of the checkout's `.venv` (`make` installs a
`.pth` file that does so), so that `zenml`, `mlflow` and `dvc` called by hand see the same state. Every variable that is
already set stays as it is. Imports nothing heavy.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from core.checkout import project_root
from core.threads import LIBRARY_VARIABLES, VARIABLE


def defaults() -> dict[str, str]:
    """Return every variable with the value it has by default."""
    root = project_root()
    state, threads = root / ".state", os.environ.get(VARIABLE, "")
    return {
        **(dict.fromkeys(LIBRARY_VARIABLES, threads) if threads.isdecimal() else {}),
        "ZENML_CONFIG_PATH": str(state / "zenml"),
        "ZENML_CUSTOM_SOURCE_ROOT": str(Path(__file__).resolve().parents[1]),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_PARAMETER_SIZE_THRESHOLD": "4096",  # bytes up to which a step's input is no artifact
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "AUTO_OPEN_DASHBOARD": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow' / 'store' / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7, further and further apart, take minutes to give up
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "DVC_NO_ANALYTICS": "true",
        "DVC_SITE_CACHE_DIR": str(state / "dvc"),
        "DASK_CONFIG": str(state / "dask"),
        "DASK_TEMPORARY_DIRECTORY": str(state / "dask-scratch"),
        "MPLCONFIGDIR": str(state / "matplotlib"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "DIFFUSERS_VERBOSITY": "error",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def prepare() -> None:
    """Set what is not set, and let programs find those of the same virtual environment, as DVC's stages do."""
    for name, value in defaults().items():
        os.environ.setdefault(name, value)
    beside, path = os.path.dirname(sys.executable), os.environ.get("PATH", "")  # noqa: PTH120 - costs no import
    if beside not in path.split(os.pathsep):
        os.environ["PATH"] = f"{beside}{os.pathsep}{path}"


def quiet(debug: bool) -> None:
    """Keep the libraries' logs off the terminal, where `brain2video` shows its own progress, unless asked for them."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    level = "DEBUG" if debug else "CRITICAL"
    os.environ.setdefault("ZENML_LOGGING_VERBOSITY", level)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "DEBUG" if debug else "ERROR")


MOVED = {
    "evaluation.sheet": "evaluation.report.sheet",
    "models.parts": "models.decoders.build",
    "studies.evaluate_folder": "from brain2video import EvaluationRequest, evaluate_folder",
    "studies.production": "from brain2video import resolve_production",
    "studies.reconstruct_new": "from brain2video import NewFile, reconstruct_file",
}
"""Modules that were documented under another name, and what to import now."""


class MovedModules:
    """A finder that is asked last: raises `ModuleNotFoundError` for a moved module, with what to import now."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:  # noqa: ARG004, D102
        if name in MOVED:
            raise ModuleNotFoundError(f"{name} is now '{MOVED[name]}'; see docs/api.md", name=name)


prepare()
if MovedModules not in sys.meta_path:
    sys.meta_path.append(MovedModules)
