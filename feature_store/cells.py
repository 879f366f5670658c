"""Cells of tables that people write: values that are missing, in all their spellings, and text as it was meant.

Tables are read as text, so that a stimulus ``001``, ``1e5`` or ``NA`` keeps its name. Where a cell may lack a value,
every usual spelling of a missing one counts; where it may not, each of them is refused like any other wrong value.
"""

import re

import pandas as pd

SPELLINGS = frozenset({"", "n/a", "na", "nan", "none", "null", "-", "--", ".", "#n/a", "<na>"})
"""How BIDS, pandas, R, spreadsheets and people write that a value is missing, in lower case."""
NAMELESS = ("", "n/a")
"""Those spellings that cannot be a name, in lower case; ``NA`` may be one."""


def is_missing(value: object) -> bool:
    """Return whether a cell lacks a value, in a column whose cells may lack one."""
    return str(value).strip().lower() in SPELLINGS


def missing(column: "pd.Series") -> "pd.Series[bool]":
    """Return which cells of a column lack a value; see `is_missing`."""
    return column.map(is_missing).astype(bool)


def stripped(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of text without blanks around its cells, an absent cell empty, and no empty rows at its end.

    Spreadsheets leave such rows; in a table of one column, an empty row is a quoted empty cell, which someone meant.
    """
    text: pd.DataFrame = table.fillna("").apply(lambda column: column.str.strip())
    if text.shape[1] == 1:
        return text
    last = max((text != "").any(axis=1).to_numpy().nonzero()[0], default=-1)
    return text.head(int(last) + 1)


def swallowed_row(table: pd.DataFrame) -> int | None:
    """Return the position of the first row of a CSV table one of whose cells holds rows of the file, or None.

    A quote that is opened and not closed swallows all rows up to the next quote. A cell of several lines is a long text
    unless one of its lines has as many commas, not counting those before a blank, as rows have.
    """
    for position, row in enumerate(table.itertuples(index=False)):
        for line in (line for cell in row if "\n" in cell for line in cell.splitlines()[1:]):
            if len(re.findall(r",(?! )", line)) >= len(table.columns) - 1:
                return position
    return None
