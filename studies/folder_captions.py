"""Reads captions that were decoded, and those of what was shown, from a table of one line a stimulus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from core.errors import SourceError, SourceMissing
from studies.paired_folders import named

STIMULUS, DECODED, SEEN = "stimulus", "decoded", "seen"


@dataclass(frozen=True)
class Captions:
    """Captions, one a stimulus, empty where there is none.

    Attributes
    ----------
    decoded : (n,)
    seen : (n,), or None where the table has no such column
    notes : what a reader has to know
    """

    decoded: list[str]
    seen: list[str] | None
    notes: list[str]

    @property
    def references(self) -> list[str] | None:
        """What decoded captions are held against: those of what was seen, where every stimulus has one."""
        return self.seen if self.seen and all(self.seen) else None


def read_captions(file: Path | None, stimuli: Sequence[str]) -> Captions | None:
    """Read the captions of some stimuli from a CSV with the columns `stimulus`, `decoded` and, optionally, `seen`.

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, no such table, names a stimulus twice or none of these stimuli.
    """
    if file is None:
        return None
    if not file.is_file():
        raise SourceMissing(f"{file}: no such table of captions; name a CSV of {STIMULUS}, {DECODED} and {SEEN}")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise SourceError(f"{file}: not a CSV ({' '.join(str(error).split())}); replace the file") from error
    absent = [column for column in (STIMULUS, DECODED) if column not in table]
    if absent:
        raise SourceError(f"{file}: has no column '{absent[0]}', found {', '.join(table.columns)}; name it so")
    twice = table[STIMULUS][table[STIMULUS].duplicated()]
    if len(twice):
        raise SourceError(f"{file}: has '{twice.iloc[0]}' twice; keep one line of each stimulus")
    by_name = table.set_index(STIMULUS)
    without = [name for name in stimuli if name not in by_name.index]
    if len(without) == len(stimuli):
        raise SourceError(
            f"{file}: has none of the videos ({named(by_name.index)}, not {named(stimuli)}); name them alike"
        )
    notes = [f"captions: {len(without)} of {len(stimuli)} videos have none ({named(without)})"] if without else []
    told = by_name.get(SEEN)
    if told is not None and len(without) + sum(not told[name] for name in stimuli if name in told.index):
        notes.append("captions of what was seen are not there for every video: decoded ones are not held against them")
    columns = {column: by_name[column].reindex(list(stimuli), fill_value="").tolist() for column in by_name.columns}
    return Captions(columns[DECODED], columns.get(SEEN), notes)
