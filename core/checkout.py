"""Where the checkout is: its code, and the folder that relative paths of a study start from."""

import os
from pathlib import Path

from core.errors import ServerError

CODE_ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds this project's packages."""


def project_root() -> Path:
    """Return the checkout's folder: `BRAIN2VIDEO_HOME` where it is set, else the folder above this package."""
    named = os.environ.get("BRAIN2VIDEO_HOME")
    return Path(named).resolve() if named else CODE_ROOT


def relative_to_root(path: Path) -> str:
    """Return a path relative to the checkout where it lies inside; references never hold absolute paths."""
    absolute = path.absolute()
    return absolute.relative_to(project_root()).as_posix() if absolute.is_relative_to(project_root()) else str(path)


def require_same_root(root: Path) -> None:
    """Raise `ServerError` where relative paths start elsewhere than in the process that asked for the work."""
    if project_root() != root:
        raise ServerError(
            f"a worker's checkout is {project_root()}, that of the process that asked for the work is {root}; start "
            f"the worker with BRAIN2VIDEO_HOME={root}"
        )
