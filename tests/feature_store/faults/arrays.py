"""What a folder of arrays may have wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from feature_store.sources.arrays import Arrays

from ...conftest import write_arrays
from . import Fault

Damage = Callable[[Path], object]


def edit(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)

    return apply


def save(name: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, values)


def with_row(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame([{**table.iloc[0].to_dict(), **values}])])


def make(root: Path) -> None:
    write_arrays(root / "recordings", np.random.default_rng(5), train=40)


def read(root: Path) -> None:
    """Read all that a study would."""
    source = Arrays(root / "recordings")
    source.stimuli(), source.stimulus_files(), source.target("patches")
    for subject in source.subjects:
        source.responses(subject)


CASES: list[tuple[str, Damage, str]] = [
    ("no table", lambda f: (f / "stimuli.csv").unlink(), "stimuli.csv: no such table"),
    ("no column", edit("stimuli.csv", lambda t: t.rename(columns={"split": "spilt"})), "'split'; did you mean 'spilt'"),
    ("split", edit("stimuli.csv", lambda t: t.assign(split="val")), "has the split 'val'; expected train or test"),
    ("both", edit("stimuli.csv", lambda t: with_row(t, split="test")), "'s000' is in training and in test"),
    ("twice", edit("stimuli.csv", lambda t: with_row(t)), "'s000' is listed twice in train"),
    ("name", edit("stimuli.csv", lambda t: t.replace("s000", "../s000")), "'../s000' cannot name a file"),
    (
        "file",
        edit("stimuli.csv", lambda t: t.replace("s047.png", "s000.png")),
        "the file 's000.png' is in training and",
    ),
    ("no test", edit("stimuli.csv", lambda t: t.assign(split="train")), "no stimulus has the split 'test'"),
    ("no responses", lambda f: (f / "sub-01/responses.npy").unlink(), "no subject; expected a folder such as sub-01"),
    ("counts", save("sub-01/responses.npy", np.zeros((5, 3))), r"shape \(5, 3\) and trials.csv 96 rows"),
    ("text", save("sub-01/responses.npy", np.array(["a"] * 96)), "expected real numbers"),
    ("pickle", save("sub-01/responses.npy", np.array([{}] * 96)), "not a plain numpy array"),
    ("garbage", lambda f: (f / "sub-01/responses.npy").write_bytes(b"x"), "not a plain numpy array"),
    ("unknown", edit("sub-01/trials.csv", lambda t: t.replace("s000", "s00")), "'s00' is not in the stimulus table"),
    ("repeat", edit("sub-01/trials.csv", lambda t: t.assign(repetition=0)), "has repetition 0 twice"),
    ("number", edit("sub-01/trials.csv", lambda t: t.assign(repetition="x")), "repetition 'x' is not a whole number"),
    ("voxels", edit("sub-01/voxels.csv", lambda t: t.head(2)), "has 2 rows; responses.npy has 60 voxels"),
    ("binary csv", lambda f: (f / "stimuli.csv").write_bytes(b"\xff\xfe\x00"), "not a CSV table"),
    ("embeddings", save("targets/patches.npy", np.zeros((3, 2))), r"shape \(3, 2\); expected 48 rows"),
]
FAULTS = [
    Fault(f"arrays: {name}", make, lambda root, damage=damage: damage(root / "recordings"), read, message)
    for name, damage, message in CASES
]
