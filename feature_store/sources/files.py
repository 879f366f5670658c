"""Files that sources name: whether they are there, and whether a name in a table stays inside its folder."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from core.errors import SourceError, SourceMissing


def present(path: Path, mend: str, *, or_run: str = "") -> Path:
    """Return the path of a file that is there.

    Parameters
    ----------
    path : Path
    mend : str
        What to do where there is no such file.
    or_run : str, optional
        A command that fetches the content of a link as well as datalad does.

    Raises
    ------
    SourceMissing
        The file is absent, or is a link whose content was not fetched.
    """
    if path.is_symlink() and not path.exists():
        other = f" or '{or_run}'" if or_run else ""
        raise SourceMissing(f"{path}: a link without its content (git-annex); run 'datalad get {path}'{other}")
    if not path.is_file():
        raise SourceMissing(f"{path}: no such file; {mend}")
    return path


def stays_inside(name: str) -> bool:
    """Say whether a relative name cannot lead out of the folder it is joined to, on any system."""
    windows = PureWindowsPath(name)  # which takes both kinds of slashes for separators
    return not (PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts)


def check_inside(name: str, column: str, folder: str, where: object) -> None:
    """Raise `SourceError` where a name that stands in a table leads out of the folder.

    Parameters
    ----------
    name : the name as it stands
    column : the column that holds it, for the message
    folder : what the name is relative to, for the message
    where : the table, or a line of it
    """
    if not stays_inside(name):
        raise SourceError(
            f"{where}: {column} '{name}' leads out of the folder {folder}/; name a file inside it, without '..' and "
            "without a drive or '/' in front"
        )
