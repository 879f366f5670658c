"""How much of all arrays' chunks a process holds: beyond a bound, what was used longest ago is let go of.

Pages of a mapped file stay in the memory of a process that has touched them, so that one who reads ten subjects holds
ten subjects. What is let go of comes back from the file when it is touched again, and its checksum need not be read
again: the map stays where it is.
"""

import threading
from weakref import WeakKeyDictionary

import numpy as np
import psutil
from numpy.typing import NDArray

from core.files import release_pages


class Chunk:
    """One chunk's values.

    Parameters
    ----------
    values : (row, …)
    mapped : bool
        Whether they are a file's own pages; else they were unpacked, and are gone once they are let go of.
    """

    def __init__(self, values: NDArray[np.generic], *, mapped: bool) -> None:
        self.nbytes = values.nbytes
        self._values: NDArray[np.generic] | None = values
        self._mapped = mapped

    @property
    def values(self) -> NDArray[np.generic] | None:
        """The values, or None where they must be unpacked again."""
        return self._values

    def let_go(self) -> None:
        """Hold nothing of it any more; arrays that were handed out stay as they are."""
        if self._mapped and self._values is not None:
            release_pages(self._values)
        else:
            self._values = None


class Held:
    """The chunks that are held, from the one used longest ago to the one used last.

    Parameters
    ----------
    most : int
        Bytes that they may take together; the one in use is always held.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._bytes: WeakKeyDictionary[Chunk, int] = WeakKeyDictionary()
        self._total = 0
        self._lock = threading.Lock()

    def use(self, chunk: Chunk, touched: int) -> None:
        """Say that so many bytes of a chunk are about to be touched, and make room for them."""
        with self._lock:
            before = self._bytes.pop(chunk, 0)
            self._bytes[chunk] = held = min(before + touched, chunk.nbytes)
            self._total += held - before
            if self._total > self.most:
                self._make_room(chunk)

    def _make_room(self, newest: Chunk) -> None:
        self._total = sum(self._bytes.values())  # chunks whose array is gone no longer count
        for chunk in list(self._bytes):
            if self._total <= self.most or chunk is newest:
                break
            self._total -= self._bytes.pop(chunk)
            chunk.let_go()


LEAST, SHARE = 2**30, 4
MAPPED = Held(LEAST)
"""Those of this process that are mapped: to touch one again costs next to nothing."""
UNPACKED = Held(max(LEAST, psutil.virtual_memory().available // SHARE))
"""Those that were unpacked, which costs more the second time too: up to a fourth of the memory that was free."""
