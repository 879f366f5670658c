"""A torch dataset over joined rows: batches are read from the store when they are asked for, each of one subject.

>>> pairs = Store(path).pairs(["sub-01", "sub-02"], "latents", "train", repeats="single")    # doctest: +SKIP
>>> data = PairsDataset(pairs)                                                               # doctest: +SKIP
>>> sampler = SubjectBatches(pairs, size=64, seed=0)                                         # doctest: +SKIP
>>> loader = DataLoader(data, batch_sampler=sampler, collate_fn=data.collate)                # doctest: +SKIP
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from core.seeds import rng_for
from feature_store.reader import Pairs

Item = dict[str, Any]
"""``{"subject", "stimulus", "response": (voxel,), "target": (…)}``; in a batch the latter three have an axis more."""


class PairsDataset(Dataset[Item]):  # type: ignore[misc]
    """The rows of all subjects, one subject after another, in the order of `Pairs.ids`."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._subjects = list(pairs)
        self._starts = np.cumsum([0, *(len(part) for part in pairs.values())])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Item:
        """Return one row."""
        batch = self.__getitems__([row])
        return {name: value if name == "subject" else value[0] for name, value in batch.items()}

    def __getitems__(self, rows: list[int]) -> Item:
        """Return a batch, read at once; raises `IndexError` for rows outside, or of several subjects."""
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        owners = np.unique(np.searchsorted(self._starts, wanted, side="right") - 1)
        if len(owners) != 1:
            raise IndexError("a batch holds rows of one subject; draw it with SubjectBatches")
        part, local = self._pairs[self._subjects[owners[0]]], wanted - self._starts[owners[0]]
        return {
            "subject": self._subjects[owners[0]],
            "stimulus": [part.stimuli[row] for row in local],
            "response": torch.from_numpy(np.array(part.responses[local])),
            "target": torch.from_numpy(np.array(part.targets[local])),
        }

    @staticmethod
    def collate(batch: Item) -> Item:
        """Return a batch as `__getitems__` made it."""
        return batch


class SubjectBatches(Sampler[list[int]]):  # type: ignore[misc]
    """Draws batches of one subject each, every row once an epoch, in an order that seed and epoch decide.

    A batch has `size` rows; a subject's last one may be smaller.
    """

    def __init__(self, pairs: Pairs, *, size: int, seed: int) -> None:
        self._lengths = [len(part) for part in pairs.values()]
        self._size, self._seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return sum(-(-length // self._size) for length in self._lengths)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the current epoch; set `epoch` before each."""
        rng = rng_for(self._seed, "batches", self.epoch)
        starts = np.cumsum([0, *self._lengths])
        batches = []
        for start, length in zip(starts, self._lengths, strict=False):
            order = start + rng.permutation(length)
            batches += [order[first : first + self._size].tolist() for first in range(0, length, self._size)]
        yield from (batches[index] for index in rng.permutation(len(batches)))
