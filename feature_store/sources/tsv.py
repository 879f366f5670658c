"""Names and tables as BIDS writes them: entities of a file name, tab-separated text, and hints at what was meant."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.config import nearest
from core.errors import SourceError
from feature_store.cells import missing, stripped

MANY = 10
"""As many names fit into a message."""
INDICES = ("run", "echo", "flip", "inv", "split", "chunk")
"""Entities whose labels are numbers: ``run-01`` is ``run-1``."""


def visible(paths: Iterable[Path]) -> list[Path]:
    """Return the files, in order, that are not hidden; macOS lays ``._name`` beside a file that it copies."""
    return sorted(path for path in paths if not path.name.startswith("."))


def label_of(entity: str, label: str) -> str:
    """Return a label as labels are compared: without its entity, and an index without leading zeros."""
    label = label.removeprefix(f"{entity}-")
    return str(int(label)) if entity in INDICES and label.isdecimal() else label


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities of a BIDS file name, in order, as `label_of` writes them.

    Raises `SourceError` for parts that are none, an entity that is named twice, or an index that is no number.
    """
    entities: dict[str, str] = {}
    for part in path.name.split(".")[0].split("_")[:-1]:
        key, dash, label = part.partition("-")
        if not (key and dash and label):
            raise SourceError(
                f"{path}: '{part}' is no BIDS entity; expected names such as sub-01_task-movie_bold.nii.gz"
            )
        if key in entities:
            raise SourceError(f"{path}: its name has {key}- twice; keep one")
        if key in INDICES and not label.isdecimal():
            raise SourceError(f"{path}: {key} '{label}' is no number; BIDS numbers it, as in {key}-2; rename it")
        entities[key] = label_of(key, label)
    return entities


def natural(text: str) -> list[str | int]:
    """Return a sorting key by which ``run-9`` comes before ``run-10``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def hint(name: str, known: list[str]) -> str:
    """Return `nearest`'s clause, with some of the names where none is close and there are many."""
    clause = nearest(name, known)
    if "did you mean" in clause or len(known) <= MANY:
        return clause
    return f"; there are {len(known)}, such as {', '.join(known[:MANY])}"


def read_tsv(path: Path, required: list[str]) -> pd.DataFrame:
    """Read a tab-separated table as text columns; row n of its index stood on line n + 2.

    Raises `SourceError` where it cannot be parsed or lacks a column.
    """
    # By default a field too many would make an index of the first column, and blank lines would not count as lines.
    as_it_stands: dict[str, Any] = {"index_col": False, "skip_blank_lines": False, "keep_default_na": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(path, sep="\t", dtype=str, encoding="utf-8-sig", **as_it_stands)
    except pd.errors.ParserWarning as error:
        raise SourceError(f"{path}: rows have more fields than the header names; remove tabs at their end") from error
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        if quote := re.search(r"EOF inside string starting at row (\d+)", reason):
            raise _open_quote(path, int(quote[1])) from error
        raise SourceError(f"{path}: not a tab-separated table ({reason}); save it as UTF-8 TSV") from error
    table = stripped(table)
    table.columns = table.columns.str.strip()
    with path.open(encoding="utf-8-sig") as file:  # of two columns of one name pandas calls the second otherwise
        names = [name.strip().strip('"') for name in file.readline().split("\t")]
    for name in (name for name in names if names.count(name) > 1):
        raise SourceError(f"{path}: has the column '{name}' twice; name one otherwise, or remove it")
    for line in np.flatnonzero(table.apply(lambda column: column.str.contains("\n", regex=False)).any(axis=1)):
        raise _open_quote(path, int(line) + 1)
    table = table[(table != "").any(axis=1)]
    for column in required:
        if column not in table.columns:
            commas = len(table.columns) == 1 and "," in table.columns[0]
            known = "; it is separated by commas, BIDS has tabs" if commas else hint(column, list(table.columns))
            raise SourceError(f"{path}: lacks the column '{column}'{known}")
    return table


def _open_quote(path: Path, row: int) -> SourceError:
    """Return the error of a quote that is opened in a row and not closed there; the header is row 0."""
    return SourceError(f"{path} line {row + 1}: a quote is opened and not closed in this line; close it, or remove it")


def with_places(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table of `read_tsv` with the column ``place``: each row's file and line, for messages."""
    return table.assign(place=[f"{path} line {row + 2}" for row in table.index])


def seconds(table: pd.DataFrame, column: str, *, may_lack: bool = False) -> "pd.Series[float]":
    """Return a column of a table of `with_places` in seconds; NaN where one is missing and may be.

    Raises `SourceError` for the first cell that is no finite number, such as one with a unit or a decimal comma.
    """
    lacking = missing(table[column]) & may_lack
    numbers = pd.to_numeric(table[column].mask(lacking), errors="coerce").astype("float64")
    for row in np.flatnonzero(~np.isfinite(numbers) & ~lacking):
        raise _no_time(table, column, int(row))
    return numbers


def durations(table: pd.DataFrame, column: str = "duration") -> "pd.Series[float]":
    """Return a column of durations in seconds, as `seconds` does; one may be missing, and none is negative."""
    numbers = seconds(table, column, may_lack=True)
    for row in np.flatnonzero(numbers < 0):
        raise _no_time(table, column, int(row))
    return numbers


def _no_time(table: pd.DataFrame, column: str, row: int) -> SourceError:
    return SourceError(
        f"{table['place'].iloc[row]}: {column} '{table[column].iloc[row]}' is no time; expected seconds, as in 12.5"
    )
