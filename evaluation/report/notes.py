"""Notes of a report: which stimuli have no score and why, and the order in which notes are read."""

from collections.abc import Iterable, Sequence

import numpy as np

from evaluation.metrics import metric
from evaluation.report.wording import metric_label, named, row_label
from evaluation.statistics.counting import Mask
from evaluation.statistics.scores import RECONSTRUCTION, SHUFFLED
from evaluation.statistics.table import Table

ASIDE = ("skipped ", "not computed", "computed only")
"""What the notes begin with that concern what was not asked for; they come last."""


def in_order(notes: Iterable[str]) -> list[str]:
    """Return notes, each once, those that concern what was scored before those on what was skipped."""
    return sorted(dict.fromkeys(notes), key=lambda note: note.startswith(ASIDE))


def missing_notes(table: Table, stimuli: Sequence[str]) -> list[str]:
    """Return a note on each reason why stimuli have no score: their truth, their prediction, or nothing to compare.

    A stimulus whose truth gives a metric no value is not scored in any row, so that all rows are of common stimuli; one
    without a value for another reason makes the mean of its row undefined.

    Parameters
    ----------
    stimuli : the table's, in its order
    """
    by_truth: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, defined in table.defined.items():
        if not defined.all():
            why = metric(name).without_value or "its truth gives no value"
            by_truth.setdefault((why, _without(stimuli, ~defined)), []).append(metric_label(name))
    notes = [
        f"{named(names)}: {len(without)} of {len(stimuli)} stimuli not scored ({named(without)}: {why}); n = "
        f"{len(stimuli) - len(without)} in every row"
        for (why, without), names in by_truth.items()
    ]
    nothing = _nothing_scored(table)
    return [*notes, *(_why_nothing(name, table.n) for name in nothing), *_not_finite(table, stimuli, nothing)]


def _without(stimuli: Sequence[str], mask: Mask) -> tuple[str, ...]:
    return tuple(stimulus for stimulus, chosen in zip(stimuli, mask, strict=True) if chosen)


def _nothing_scored(table: Table) -> list[str]:
    """Return the metrics of which no row has a value for any stimulus."""
    values = table.values.values()
    scored = {name for row in values for name, own in row.items() if np.isfinite(own).any()}
    return [name for name, defined in table.defined.items() if defined.all() and name not in scored]


def _why_nothing(name: str, n: int) -> str:
    why = metric(name).without_value
    why = f"every stimulus {why}" if why else "the truths give it no value"
    return f"{metric_label(name)}: missing, {'a single stimulus has nothing to be compared with' if n < 2 else why}"


def _not_finite(table: Table, stimuli: Sequence[str], nothing: Sequence[str]) -> list[str]:
    """Return notes on means that predictions leave undefined, one for each row and the stimuli that it lacks."""
    notes, undefined = [], table.undefined()
    for row, by_metric in undefined.items():
        if row == SHUFFLED and RECONSTRUCTION in undefined:
            continue  # its predictions are the reconstruction's
        same: dict[tuple[str, ...], list[str]] = {}
        for name, mask in by_metric.items():
            if name not in nothing:
                same.setdefault(_without(stimuli, mask), []).append(metric_label(name))
        notes += [
            f"{row_label(row)}: missing in {named(names)}, since the prediction of {named(without)} is not finite"
            for without, names in same.items()
        ]
    return notes
