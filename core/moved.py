"""Corrects the databases of a home that was moved, copied or mounted elsewhere.

MLflow and ZenML write absolute places into their local databases, and ZenML into its `config.yaml`. They would read and
write where the home lay before, which may be another home by now. What is corrected is always that which lies in the
home itself; what lies elsewhere, and a server's database, is not touched. Imports nothing heavy.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from core.errors import NotAllowed

if TYPE_CHECKING:
    import sqlite3

SQLITE = "sqlite:///"
ZENML_DATABASE = Path("local_stores", "default_zen_store", "zenml.db")
ZENML_PLACES = (("artifact_version", "uri"), ("artifact_visualization", "uri"), ("logs", "uri"))
MLFLOW_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""Tables and columns that hold absolute places."""
ARTIFACTS = "artifacts"
"""The folder beside MLflow's database with one folder an experiment; see `models.registry.client.experiment`."""
STORE = ("mlflow", "store")
"""Where a home keeps MLflow's database."""
RECORD = "location.txt"
"""Beside MLflow's database: the folder that its rows name, so that the rows need not be read at every start."""


def follow(zenml: Path, mlflow: str) -> Iterator[str]:
    """Let the local databases name the folders in which they lie; yield a line for each that was corrected.

    Parameters
    ----------
    zenml : ZenML's folder, `ZENML_CONFIG_PATH`
    mlflow : MLflow's address, `MLFLOW_TRACKING_URI`; only that of a local SQLite file matters

    Raises
    ------
    NotAllowed
        A database names another place and cannot be written.
    """
    yield from _line("ZenML", *_follow_zenml(zenml))
    yield from follow_mlflow(mlflow)


def follow_mlflow(address: str) -> Iterator[str]:
    """Do for MLflow's database alone what `follow` does for both."""
    yield from _line("MLflow", *_follow_mlflow(address))


Moved = tuple[Path | None, Path]
"""Where a database lay before, None where it lies there still; and where it lies."""


def _line(kind: str, old: Path | None, new: Path) -> Iterator[str]:
    if old is not None:
        yield f"{kind}'s database was moved from {old} to {new}: the places that it names were corrected"


def _follow_zenml(folder: Path) -> Moved:
    """Correct ZenML's database and then its config, by which the next start knows that it is done."""
    folder = folder.absolute()
    config, database = folder / "config.yaml", folder / ZENML_DATABASE
    if "ZENML_LOCAL_STORES_PATH" in os.environ or not config.is_file() or not database.is_file():
        return None, folder
    text = config.read_text(encoding="utf-8")
    if f"\n  url: {SQLITE}{database}\n" in text:
        return None, folder
    import yaml

    try:
        content = yaml.safe_load(text)
        store = content["store"]
        old = Path(str(store["url"]).removeprefix(SQLITE))
    except (yaml.YAMLError, KeyError, TypeError):  # ZenML explains it
        return None, folder
    if old == database or old.parts[-3:] != ZENML_DATABASE.parts:  # a server's, or a place of the user's choice
        return None, folder
    before = old.parents[2]

    def moved(place: str) -> str:
        return _under(place, before, folder) or place

    _rewrite(database, ZENML_PLACES, moved)
    for key in ("database", "backup_directory"):
        if isinstance(store.get(key), str):
            store[key] = moved(store[key])
    store["url"] = f"{SQLITE}{database}"
    _write(config, yaml.safe_dump(content))
    return before, folder


def _follow_mlflow(address: str) -> Moved:
    """Correct MLflow's database and then the record that names its folder."""
    if not address.startswith(SQLITE):
        return None, Path()
    database = Path(address.removeprefix(SQLITE)).absolute()
    folder = database.parent.resolve()
    record = folder / RECORD
    if not database.is_file() or (record.is_file() and record.read_text(encoding="utf-8").strip() == str(folder)):
        return None, folder
    before = sorted(_former_folders(database, folder))
    for old in before:
        _rewrite(database, MLFLOW_PLACES, partial(_moved_location, old=old, new=folder))
    if os.access(folder, os.W_OK):
        _write(record, f"{folder}\n")
    return (before[0] if before else None), folder


def _former_folders(database: Path, folder: Path) -> set[Path]:
    """Return the other folders in which rows of MLflow's database say that it lies; none where it cannot be read.

    Such a row names ``FOLDER/artifacts/EXPERIMENT``, as this project's and the UI's experiments do. An experiment that
    keeps its artifacts in a place of the user's choice is not meant.
    """
    import sqlite3

    found = set()
    with suppress(sqlite3.Error), closing(_open(database, "ro")) as connection:  # MLflow's client explains the error
        tables = _tables(connection)
        if "experiments" not in tables:
            return set()
        names = {
            str(value) for row in connection.execute("SELECT name, experiment_id FROM experiments") for value in row
        }
        for table, column in MLFLOW_PLACES:
            if table in tables:
                rows = connection.execute(f"SELECT DISTINCT {column} FROM {table}")
                found |= {_folder_of(path, names) for (place,) in rows if (path := _local(place)) is not None}
    return {
        old for old in found if old not in (None, folder) and (old.parts[-2:] == STORE or folder.parts[-2:] != STORE)
    }


def _folder_of(path: Path, experiments: set[str]) -> Path | None:
    """Return the folder in which a database lay that names a path of an experiment."""
    below = path
    for above in path.parents:
        if above.name == ARTIFACTS and below.name in experiments:
            return above.parent
        below = above
    return None


def _moved_location(place: str, old: Path, new: Path) -> str:
    """Return where what MLflow names lies now; beside the store, the rest of the home moved with it."""
    if old.parts[-2:] == new.parts[-2:] == STORE:
        old, new = old.parents[1], new.parents[1]
    path = _local(place)
    if path is None:
        return place
    moved = _under(str(path), old, new)
    if moved is None:
        return place
    return f"file://{quote(moved)}" if place.startswith("file:") else moved


def _local(place: str | None) -> Path | None:
    """Return the path of a place on this machine; None for any other."""
    if place is not None and place.startswith("file:///"):
        return Path(unquote(place.removeprefix("file://")))
    return Path(place) if place is not None and place.startswith("/") else None


def _under(place: str, old: Path, new: Path) -> str | None:
    """Return a place below `old` as one below `new`; None where it lies elsewhere."""
    return f"{new}{place.removeprefix(str(old))}" if place == str(old) or place.startswith(f"{old}/") else None


def _rewrite(database: Path, places: Iterable[tuple[str, str]], moved: Callable[[str], str]) -> None:
    """Rewrite columns of a database in one transaction."""
    import sqlite3

    try:
        with closing(_open(database, "rw")) as connection:
            connection.create_function("moved", 1, lambda place: place if place is None else moved(place))
            connection.execute("BEGIN IMMEDIATE")
            for table, column in places:
                if table in _tables(connection):
                    connection.execute(f"UPDATE {table} SET {column} = moved({column})")
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise NotAllowed(
            f"{database}: was moved, and the places that it names cannot be corrected ({error}); make it writable, and "
            "run the command again"
        ) from error


def _tables(connection: "sqlite3.Connection") -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _open(database: Path, mode: str) -> "sqlite3.Connection":
    import sqlite3

    return sqlite3.connect(f"file:{quote(str(database))}?mode={mode}", uri=True, timeout=30, isolation_level=None)


def _write(file: Path, text: str) -> None:
    from core.files import disk_explained, write_bytes

    with disk_explained(file):
        write_bytes(file, text.encode())
