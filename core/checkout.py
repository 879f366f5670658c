"""Where the project is: its code, and the folder that relative paths of a study start from.

That folder, the home, is found as git finds a repository: upwards from the working folder. It is found once, when a
program starts, and the programs that it starts are told.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from core.errors import ConfigError, ServerError

CODE_ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds this project's packages."""
HOME = "BRAIN2VIDEO_HOME"
"""The variable by which a user names the home."""
FOUND_HOME = "BRAIN2VIDEO_FOUND_HOME"
"""The variable that holds the home that this program, or one that started it, found; see `core.environment.prepare`."""
MARKER = ".brain2video"
"""A file that makes its folder a home where that is no checkout."""
FOLDERS = ("data", "outputs", "models")
"""Folders of the home that may be links to another disk."""


def project_root() -> Path:
    """Return the home: `BRAIN2VIDEO_HOME` where it is set, else the one that the program was started in.

    Raises `ConfigError` where there is none.
    """
    root = current_home()
    if root is None:
        here = Path()
        with suppress(OSError):
            here = Path.cwd()
        raise ConfigError(
            f"{here}: no Brain2Video project, which is a checkout or a folder with an "
            f"empty file {MARKER}, here or in a folder above; change into one, or set {HOME}"
        )
    return root


def current_home() -> Path | None:
    """Return the home as `project_root`, or None where there is none."""
    named = os.environ.get(HOME) or os.environ.get(FOUND_HOME)
    return Path(named).resolve() if named else find_home()


def find_home() -> Path | None:
    """Return the nearest home at or above the working folder; None where there is none."""
    with suppress(OSError):  # a working folder that was removed, or one above it that may not be read
        here = Path.cwd()
        return next((folder for folder in (here, *here.parents) if _is_home(folder)), None)
    return None


def _is_home(folder: Path) -> bool:
    """Say whether a folder is a checkout of this project or has the marker."""
    if (folder / MARKER).is_file():
        return True
    project = folder / "pyproject.toml"
    return project.is_file() and bool(re.search(r'(?m)^name = "brain2video"$', project.read_text(encoding="utf-8")))


def other_code() -> Path | None:
    """Return the home where it is a checkout with code of its own, which is not the code that runs; else None."""
    root = project_root()
    own = root / Path(__file__).resolve().relative_to(CODE_ROOT)
    return root if own.is_file() and root != CODE_ROOT else None


def relative_to_root(path: Path) -> str:
    """Return a path relative to the home where it lies inside; references never hold absolute paths.

    A path may name the home, or one of its folders that is a link to another disk, by another way.
    """
    absolute = path.absolute()
    root = current_home()
    if root is None:
        return str(path)
    if absolute.is_relative_to(root):
        return absolute.relative_to(root).as_posix()
    places = {root: Path()} | {(root / name).resolve(): Path(name) for name in FOLDERS if (root / name).is_symlink()}
    for folder in (absolute, *absolute.parents):
        if (place := places.get(folder.resolve())) is not None:
            return (place / absolute.relative_to(folder)).as_posix()
    return str(path)


def require_same_root(root: Path) -> None:
    """Raise `ServerError` where relative paths start elsewhere than in the process that asked for the work."""
    if current_home() != root:
        raise ServerError(
            f"a worker's checkout is {current_home()}, that of the process that asked for the work is {root}; start "
            f"the worker with {HOME}={root}"
        )
