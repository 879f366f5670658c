"""Parts of runs, kept for the runs after them that need the same: rendered rows, fitted routes.

An entry is named by the digest of all that may show in it, so what is taken from it has the bytes that making it again
would give. Entries may be removed at any time; one that is damaged is made anew.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.errors import Brain2VideoError, NoSpace, NotAllowed
from core.files import digest_json, disk_explained, one_at_a_time, read_json, remove_folder, staged_folder, write_json
from core.progress import report
from studies.runs import file_digests

Made = TypeVar("Made")

RUNS = 3
"""The latest runs whose entries stay."""
FILES, USED = "files.json", "used.json"
"""Of an entry, the digests of its files; of all entries, the names of those that each of the latest runs used."""


class Kept:
    """Where parts of runs are kept.

    Parameters
    ----------
    folder : where entries lie, the runs of one kind of one study; None keeps nothing
    made_from : JSON-able, what every part is made from: settings, digests of inputs, code, the machine
    """

    def __init__(self, folder: Path | None = None, made_from: Mapping[str, Any] | None = None) -> None:
        self._folder, self._made_from = folder, dict(made_from or {})
        self._used: set[str] = set()

    def once(
        self,
        what: str,
        inputs: Mapping[str, Any],
        make: Callable[[], Made],
        write: Callable[[Path, Made], None],
        read: Callable[[Path], Made],
    ) -> Made:
        """Return a part: as an earlier run made it of the same inputs, else made now and kept.

        Parameters
        ----------
        what : what is reported to be unchanged, where it is
        inputs : JSON-able, what this part is made from beside `made_from`
        write, read : put a part into an empty folder, and return it from there with the same bytes
        """
        if self._folder is None:
            return make()
        name = digest_json([self._made_from, inputs])[:32]
        entry = self._folder / name
        self._used.add(name)
        unchanged = _is_whole(entry)
        if unchanged:
            report(f"{what}: unchanged, taken from an earlier run", 1, 1)
        else:
            made = make()
            try:
                with staged_folder(entry, self._folder / ".staging") as building:
                    write(building, made)
                    write_json(building / FILES, file_digests(building))
            except (NoSpace, NotAllowed) as error:
                report(f"{what}: not kept for later runs: {error}", 1, 1)
                return made
        try:  # what was just made is read too: an array's order in memory may show in the last bit of what it predicts
            return read(entry)
        except (OSError, Brain2VideoError):  # removed meanwhile by another process, which has no use for it
            return make() if unchanged else made

    def tidy(self) -> None:
        """Note what this run used, and remove what none of the latest `RUNS` runs did."""
        if self._folder is None or not self._folder.is_dir():
            return
        with suppress(NotAllowed, NoSpace), disk_explained(self._folder), one_at_a_time(self._folder / ".lock"):
            used = sorted(self._used)
            runs = [used, *(run for run in _runs(self._folder / USED) if run != used)][:RUNS]
            write_json(self._folder / USED, runs)
            for entry in self._folder.glob("[0-9a-f]*"):
                if entry.is_dir() and not any(entry.name in run for run in runs):
                    remove_folder(entry)


NOTHING_KEPT = Kept()
"""Makes every part anew."""


def digest_array(values: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's type, shape and values."""
    digest = hashlib.sha256(repr((values.dtype.str, values.shape)).encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _is_whole(entry: Path) -> bool:
    try:
        files = dict(read_json(entry / FILES))
        there = file_digests(entry)
    except (OSError, ValueError, TypeError):
        return False
    there.pop(FILES, None)
    return there == files


def _runs(file: Path) -> list[list[str]]:
    try:
        return [[str(name) for name in run] for run in read_json(file)]
    except (OSError, ValueError, TypeError):
        return []
