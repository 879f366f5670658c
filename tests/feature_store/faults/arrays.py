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


def rewritten(change: Callable[[str], str]) -> Damage:
    """Change the text of the table of stimuli."""
    return lambda folder: (folder / "stimuli.csv").write_text(change((folder / "stimuli.csv").read_text()))


def save(name: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, values)


def with_row(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame([{**table.iloc[0].to_dict(), **values}])])


def make(root: Path) -> None:
    write_arrays(root / "recordings", np.random.default_rng(5), train=40)


def header(name: str, line: str) -> Callable[[Path], object]:
    """Replace the line of a table that names its columns."""

    def apply(folder: Path) -> None:
        rows = (folder / name).read_text().split("\n", 1)[1]
        (folder / name).write_text(f"{line}\n{rows}")

    return apply


def repetition(value: str) -> Damage:
    return edit("sub-01/trials.csv", lambda t: t.astype({"repetition": object}).replace({"repetition": {1: value}}))


def file(name: str, stimulus: str = "s047") -> Damage:
    """Let a stimulus name another file."""
    return edit("stimuli.csv", lambda t: t.replace(f"{stimulus}.png", name))


def voxel(column: str, value: object) -> Damage:
    """Add a column to the voxels whose second value is this."""
    return edit("sub-01/voxels.csv", lambda t: t.assign(**{column: [1, value, *([1] * (len(t) - 2))]}))


def without(name: str, shape: tuple[int, ...]) -> Damage:
    return save(name, np.zeros(shape, np.float32))


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
    ("file under two spellings", file("./s000.png"), "the file 's000.png' is in training and in test"),
    ("file under Windows's spelling", file(".\\s000.png"), "the file 's000.png' is in training and in test"),
    ("file outside on Windows", file("x\\..\\..\\y.png"), r"file 'x.*y.png' leads out of the folder stimuli/; name a"),
    ("file outside", file("../stimuli.csv"), r"stimuli.csv: file '../stimuli.csv' leads out of the folder stimuli/"),
    ("file further outside", file("a/../../b.png"), "file 'a/../../b.png' leads out of the folder stimuli/; name a"),
    ("file from the root", file("/etc/passwd"), "file '/etc/passwd' leads out of the folder stimuli/"),
    ("file of a drive", file("C:x.png"), "file 'C:x.png' leads out of the folder stimuli/"),
    ("file of a share", file("\\\\host\\x.png"), "leads out of the folder stimuli/"),
    ("no test", edit("stimuli.csv", lambda t: t.assign(split="train")), "no stimulus has the split 'test'"),
    ("no responses", lambda f: (f / "sub-01/responses.npy").unlink(), "no subject; expected a folder such as sub-01"),
    ("counts", save("sub-01/responses.npy", np.zeros((5, 3))), r"shape \(5, 3\) and trials.csv 96 rows"),
    ("text", save("sub-01/responses.npy", np.array(["a"] * 96)), "expected real numbers"),
    ("pickle", save("sub-01/responses.npy", np.array([{}] * 96)), "not a plain numpy array"),
    ("garbage", lambda f: (f / "sub-01/responses.npy").write_bytes(b"x"), "not a plain numpy array"),
    ("unknown", edit("sub-01/trials.csv", lambda t: t.replace("s000", "s00")), "'s00' is not in the stimulus table"),
    ("repeat", edit("sub-01/trials.csv", lambda t: t.assign(repetition=0)), "has repetition 0 twice"),
    ("number", edit("sub-01/trials.csv", lambda t: t.assign(repetition="x")), "repetition 'x' is not a whole number"),
    *(
        (f"number {value}", repetition(value), f"trials.csv row [0-9]+: repetition '{value}' is not a whole number")
        for value in ("1.5", "-7", "1e30", "inf", "nan", "2147483648")
    ),
    (
        "no voxel",
        without("sub-01/responses.npy", (96, 0)),
        r"responses.npy: has the shape \(96, 0\) and holds no value",
    ),
    (
        "no voxel in time",
        without("sub-01/responses.npy", (96, 4, 0)),
        r"shape \(96, 4, 0\) and holds no value; expected",
    ),
    (
        "unlabelled voxels",
        save("sub-01/unlabelled.npy", np.zeros((5, 59))),
        r"unlabelled.npy: has the shape \(5, 59\); expected \(row, 60\) .* has the shape \(96, 60\); save it with the",
    ),
    ("unlabelled time", save("sub-01/unlabelled.npy", np.zeros((5, 4, 60))), r"\(5, 4, 60\); expected \(row, 60\)"),
    ("unlabelled line", save("sub-01/unlabelled.npy", np.zeros(60)), r"shape \(60,\); expected \(row, 60\)"),
    ("no unlabelled row", without("sub-01/unlabelled.npy", (0, 60)), r"shape \(0, 60\); expected .* one row at least"),
    ("unlabelled text", save("sub-01/unlabelled.npy", np.array([["a"] * 60])), "unlabelled.npy: holds <U1; expected"),
    ("unlabelled pickle", save("sub-01/unlabelled.npy", np.array([{}])), "unlabelled.npy: not a plain numpy array"),
    ("no time", without("sub-01/responses.npy", (96, 0, 60)), r"shape \(96, 0, 60\) and holds no value; expected"),
    (
        "both names",
        edit("stimuli.csv", lambda t: t.assign(stimulus=1)),
        "stimuli.csv: has both stimulus and stimulus_id; keep one",
    ),
    (
        "both names in trials",
        edit("sub-01/trials.csv", lambda t: t.assign(stimulus=1)),
        "trials.csv: has both stimulus and stimulus_id; keep one",
    ),
    ("column without a name", header("sub-01/trials.csv", "stimulus_id,"), "trials.csv: column 2 has no name; name it"),
    (
        "column twice",
        edit("stimuli.csv", lambda t: t.assign(split2=1).rename(columns={"split2": "split"})),
        "stimuli.csv: column 5 has the name 'split', as one before it has",
    ),
    ("columns too few", header("sub-01/trials.csv", "stimulus_id"), "trials.csv: not a CSV table .* line 2, saw 2"),
    *(
        (f"column {name!r}", voxel(name, 1), f"voxels.csv: the column '{name}' cannot name a folder; rename it, with")
        for name in ("../x", "a/b", ".hidden", "größe", "x" * 65)
    ),
    *(
        (f"column {name!r}", voxel(name, 1), f"voxels.csv: the column '{name}' has a name that the store keeps for it")
        for name in ("zarr.json", "MANIFEST.json", "c")
    ),
    (
        "column of trials",
        edit("sub-01/trials.csv", lambda t: t.assign(**{"a/b": 1})),
        "trials.csv: the column 'a/b' cannot name a folder",
    ),
    ("voxel's place", voxel("x", "left"), "voxels.csv row 2: x 'left' is no number; fix it, or leave it empty"),
    ("voxel's ncsnr", voxel("ncsnr_test_published", "inf"), "row 2: ncsnr_test_published 'inf' is no number"),
    ("voxel's index", voxel("k", "2.5"), "voxels.csv row 2: k '2.5' is not a whole number"),
    ("voxel without an index", voxel("k", ""), "voxels.csv row 2: k '' is not a whole number"),
    ("voxels", edit("sub-01/voxels.csv", lambda t: t.head(2)), "has 2 rows; responses.npy has 60 voxels"),
    *(
        (f"class {value!r}", edit("stimuli.csv", lambda t, v=value: t.assign(group=[v, *["a"] * (len(t) - 1)])), line)
        for value, line in {"n/a": "row 1: group is 'n/a'; name every", "": "row 1: group is ''; name every"}.items()
    ),
    *(
        (f"nameless stimulus {value!r}", edit("stimuli.csv", lambda t, v=value: t.replace("s001", v)), line)
        for value, line in {"": "row 2: stimulus_id is ''", "N/A": "row 2: stimulus_id is 'N/A'; name the sti"}.items()
    ),
    *(
        (f"repetition {value!r}", repetition(value), rf"trials.csv row \d+: repetition '{value}' is not a whole number")
        for value in ("NA", "1,0", "1 x", "")
    ),
    (
        "onset's comma",
        edit("sub-01/trials.csv", lambda t: t.assign(onset_s="4,5")),
        "row 1: onset_s '4,5' is no number",
    ),
    (
        "a presentation twice",
        edit("sub-01/trials.csv", lambda t: t.assign(run=1, onset_s=0.0)),
        r"trials.csv row \d+: repeats row \d+: stimulus 's\d+' at 0 s of run-1; remove one, or name the session",
    ),
    (
        "open quote",
        rewritten(lambda read: read.replace("picture s001", '"picture s001').replace("picture s003", '"picture s003"')),
        "stimuli.csv row 2: a quote is opened and not closed, so that it takes in the next rows; close it",
    ),
    (
        "semicolons",
        rewritten(lambda read: read.replace(",", ";")),
        "stimuli.csv: lacks the column 'stimulus_id'; ';' stands between its columns",
    ),
    ("binary csv", lambda f: (f / "stimuli.csv").write_bytes(b"\xff\xfe\x00"), "not a CSV table"),
    (
        "embeddings",
        save("targets/patches.npy", np.zeros((3, 2))),
        r"shape \(3, 2\); expected \(stimulus, value, …\) with 48 rows",
    ),
]
FAULTS = [
    Fault(f"arrays: {name}", make, lambda root, damage=damage: damage(root / "recordings"), read, message)
    for name, damage, message in CASES
]
