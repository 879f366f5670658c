"""Where ZenML, MLflow and DVC keep their state: inside the home, telemetry off, unless the user sets another place.

Imported by the command line, and at the start of every Python program of the checkout's `.venv` (`make` installs a
`.pth` file that does so), so that `zenml`, `mlflow` and `dvc` called by hand see the same state. A variable that the
user has set stays as it is. Imports nothing heavy.
"""

import os
import pwd
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from core.checkout import CODE_ROOT, FOUND_HOME, HOME, current_home, find_home
from core.errors import Brain2VideoError
from core.moved import follow
from core.threads import LIBRARY_VARIABLES, VARIABLE


def defaults(root: Path | None = None) -> dict[str, str]:
    """Return every variable with the value it has by default, those of places only where there is a home.

    Parameters
    ----------
    root : the home; by default `core.checkout.current_home`
    """
    home, threads = root or current_home(), os.environ.get(VARIABLE, "")
    counts = dict.fromkeys(LIBRARY_VARIABLES, threads) if threads.isdecimal() else {}
    return {**({} if home is None else _places(home)), **counts, **SETTINGS}


def _places(root: Path) -> dict[str, str]:
    state = root / ".state"
    return {
        "ZENML_CONFIG_PATH": str(state / "zenml"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow' / 'store' / 'mlflow.db'}",
        "DVC_SITE_CACHE_DIR": str(state / "dvc"),
        "DASK_CONFIG": str(state / "dask"),
        "DASK_TEMPORARY_DIRECTORY": str(state / "dask-scratch"),
        "MPLCONFIGDIR": str(state / "matplotlib"),
    }


SETTINGS = {
    "ZENML_ANALYTICS_OPT_IN": "false",
    "ZENML_PARAMETER_SIZE_THRESHOLD": "4096",  # bytes up to which a step's input is no artifact
    "ZENML_ENABLE_RICH_TRACEBACK": "false",
    "AUTO_OPEN_DASHBOARD": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7, further and further apart, take minutes to give up
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def prepare() -> Brain2VideoError | None:
    """Find the home, set what the user has not set, and let programs find those of the same virtual environment.

    A program that another one started takes the home that it stands in, before that of the other; what the other one
    set by default is then set anew. The databases of a home that was moved are corrected.

    Returns
    -------
    Brain2VideoError or None
        Why the databases cannot be corrected; nothing may be written to them then.
    """
    started_in = os.environ.get(FOUND_HOME)
    named = os.environ.get(HOME)
    root = Path(named).resolve() if named else find_home() or (Path(started_in) if started_in else None)
    if named:
        os.environ[HOME] = str(root)  # which may have been relative
    if root is not None:
        os.environ[FOUND_HOME] = str(root)
    before = defaults(Path(started_in)) if started_in else {}
    for name, value in defaults().items():
        if os.environ.get(name, before.get(name)) == before.get(name):
            os.environ[name] = value
    os.environ["ZENML_CUSTOM_SOURCE_ROOT"] = str(CODE_ROOT)  # what runs, whatever a program that started it runs
    _name_user(root)
    beside, path = os.path.dirname(sys.executable), os.environ.get("PATH", "")  # noqa: PTH120 - costs no import
    if beside not in path.split(os.pathsep):
        os.environ["PATH"] = f"{beside}{os.pathsep}{path}"
    try:
        for line in follow(Path(os.environ.get("ZENML_CONFIG_PATH", "")), os.environ.get("MLFLOW_TRACKING_URI", "")):
            print(f"note: {line}", file=sys.stderr)  # noqa: T201 - in any program, before it has begun
    except Brain2VideoError as error:
        return error
    except (OSError, UnicodeDecodeError):  # what cannot be read is explained by what opens it
        return None
    return None


def _name_user(root: Path | None) -> None:
    """Give a user id that the system does not know, as in a container, a name and a folder; libraries ask for both."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            os.environ["USER"] = os.environ["LOGNAME"] = f"uid-{os.getuid()}"
        if root is not None:
            os.environ.setdefault("HOME", str(root / ".state" / "home"))


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


FAULT = prepare()
"""Why the home's databases cannot be used; the command line reports it, other programs go on."""
if MovedModules not in sys.meta_path:
    sys.meta_path.append(MovedModules)
