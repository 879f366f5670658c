"""Names and tables as BIDS writes them: entities of a file name, tab-separated text, and hints at what was meant."""

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from core.config import nearest
from core.errors import SourceError

MANY = 10
"""As many names fit into a message."""


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities of a BIDS file name, in order; raises `SourceError` for other parts or a run of no number."""
    entities = {}
    for part in path.name.split(".")[0].split("_")[:-1]:
        key, dash, label = part.partition("-")
        if not (key and dash and label):
            raise SourceError(
                f"{path}: '{part}' is no BIDS entity; expected names such as sub-01_task-movie_bold.nii.gz"
            )
        entities[key] = label
    if not entities.get("run", "1").isdecimal():
        raise SourceError(f"{path}: run '{entities['run']}' is no number; BIDS numbers runs, as in run-2; rename it")
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
        raise SourceError(f"{path}: not a tab-separated table ({reason}); save it as UTF-8 TSV") from error
    table = table.fillna("")
    table = table[(table != "").any(axis=1)]
    for column in required:
        if column not in table.columns:
            commas = len(table.columns) == 1 and "," in table.columns[0]
            known = "; it is separated by commas, BIDS has tabs" if commas else hint(column, list(table.columns))
            raise SourceError(f"{path}: lacks the column '{column}'{known}")
    return table
