"""When BOLD Moments' clips were shown, from the raw dataset's events, where they lie beside the responses.

The prepared responses name no runs. The raw dataset (`sub-01/ses-02/func/*_events.tsv`) has every presentation of every
clip: the k-th presentation of a clip, by session, run and onset, is taken for its repetition k.
"""

from pathlib import Path

import pandas as pd

from core.progress import report
from feature_store.sources.base import SPLITS, Split
from feature_store.sources.tsv import durations, entities_of, natural, read_tsv, seconds, visible, with_places

EVENTS = "ses-*/func/*_task-{split}_run-*_events.tsv"
COLUMNS = ["session", "task", "run", "onset_s", "duration_s"]
"""What is known of a trial's time."""


def event_files(path: Path, subject: str) -> list[Path]:
    """Return a subject's raw events of both splits, none where the raw dataset is not here."""
    files = [file for split in SPLITS for file in visible((path / subject).glob(EVENTS.format(split=split)))]
    return sorted(filter(Path.is_file, files), key=lambda file: natural(file.name))


def presentations(files: list[Path]) -> pd.DataFrame:
    """Return every presentation of a clip, in order: stimulus, session, task, run, onset_s and duration_s.

    Raises `SourceError` where a table cannot be read, lacks a column, or has an onset or a duration that is no time.
    """
    tables = []
    for file in files:
        entities, table = entities_of(file), with_places(read_tsv(file, ["onset", "duration", "stim_file"]), file)
        table = table[table["stim_file"].str.endswith(".mp4")]
        tables.append(
            pd.DataFrame(
                {
                    "stimulus": [Path(name).stem for name in table["stim_file"]],
                    "session": entities.get("ses", ""),
                    "task": entities.get("task", ""),
                    "run": int(entities.get("run", "1")),
                    "onset_s": seconds(table, "onset"),
                    "duration_s": durations(table),
                }
            )
        )
    shown = pd.concat(tables, ignore_index=True).sort_values(["session", "run", "onset_s"], kind="stable")
    return shown.assign(repetition=shown.groupby("stimulus").cumcount())


def with_times(trials: dict[Split, pd.DataFrame], path: Path, subject: str) -> dict[Split, pd.DataFrame]:
    """Return tables of trials with `COLUMNS` of their presentations, where the events of all of them are here.

    A split whose events are absent, or show a clip more or less often than there are responses to it, stays as it is.
    """
    files = event_files(path, subject)
    if not files:
        return trials
    shown, timed = presentations(files), dict[Split, pd.DataFrame]()
    for split, table in trials.items():
        mine = shown[shown["stimulus"].isin(table["stimulus"])]
        joined = table.merge(mine, on=["stimulus", "repetition"], how="left", validate="one_to_one")
        whole = len(mine) == len(table) and bool(joined["onset_s"].notna().all())
        timed[split] = joined.astype({"run": "int64"})[[*table.columns, *COLUMNS]] if whole else table
        if not whole and len(mine):
            report(
                f"{subject}: events of {len(mine)} of {len(table)} {split} trials are here, so no trial has a time",
                1,
                1,
            )
    return timed
