"""One honest sentence from a report: above the controls only where the intervals do not overlap."""

from collections.abc import Mapping
from typing import Any

from evaluation.wording import metric_label, number, ordered_metrics, row_label, space_label

CONTROLS = ("mean_predictor", "shuffled_brain")
Entry = Mapping[str, Any]


def headline(rows: Mapping[str, Mapping[str, Entry]]) -> str | None:
    """Return the metric a reader is told of first: two-way identification of pixels, else of any space, else any."""
    names = ordered_metrics(rows.get("reconstruction", {}))
    return next((name for name in names if name.endswith(".two_way")), names[0] if names else None)


def is_above(one: Entry, other: Entry) -> bool | None:
    """Say whether one's interval lies wholly on the better side of the other's; None where either has no interval."""
    bounds = [*one["ci95"], *other["ci95"]]
    if any(bound is None for bound in bounds):
        return None
    low, high, other_low, other_high = bounds
    return bool(low > other_high) if one["higher_is_better"] else bool(high < other_low)


def verdict(report: Mapping[str, Any], name: str | None = None) -> str:
    """Say in one sentence what a report shows.

    Parameters
    ----------
    report : dict
        What `metrics.json` holds.
    name : str, optional
        The `space.metric` to speak of; by default see `headline`.

    Returns
    -------
    str
        For example "Reconstructions are identified .93 of the time (pixels, two-way; chance .50): above the mean
        predictor and the shuffled brain, below the oracle's .99."
    """
    rows = report["rows"]
    name = name or headline(rows)
    entry = rows.get("reconstruction", {}).get(name)
    if name is None or entry is None:
        return "Nothing was reconstructed, so there is nothing to judge."
    if entry["value"] is None:
        return f"Reconstructions have no score ({metric_label(name)}): {_why_none(entry)}."
    clauses = [*_against_controls(rows, name, entry), *_against_oracle(rows, name, entry)]
    return f"{_opening(name, entry)}{': ' if clauses else ''}{', '.join(clauses)}."


def _why_none(entry: Entry) -> str:
    undefined = entry.get("undefined")
    return f"{undefined} of them are not finite or have no other to be told from" if undefined else "none was scored"


def _opening(name: str, entry: Entry) -> str:
    space = space_label(name.rpartition(".")[0])
    chance = "" if entry["chance"] is None else f"; chance {number(entry['chance'])}"
    if name.endswith(".two_way"):
        return f"Reconstructions are identified {number(entry['value'])} of the time ({space}, two-way{chance})"
    return f"Reconstructions score {number(entry['value'])} ({metric_label(name)}{chance})"


def _against_controls(rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry) -> list[str]:
    """Return "above the A and the B", "not above the A", and what was not run or cannot be said."""
    found: dict[bool | None, list[str]] = {}
    absent = []
    for row in CONTROLS:
        control = rows.get(row, {}).get(name)
        if control is None:
            absent.append(f"no {row_label(row)} was run")
        else:
            found.setdefault(is_above(entry, control), []).append(f"the {row_label(row)}")
    wording = {True: "above", False: "not above", None: "with too few clips to compare with"}
    said = [f"{wording[answer]} {_either(found[answer], answer)}" for answer in (True, False, None) if answer in found]
    if True in found and False in found:
        said = [" but ".join(said[:2]), *said[2:]]
    return said + absent


def _either(names: list[str], answer: bool | None) -> str:
    return (" or " if answer is False else " and ").join(names)


def _against_oracle(rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry) -> list[str]:
    oracle = rows.get("oracle", {}).get(name)
    if oracle is None or oracle["value"] is None:
        return []
    below = is_above(oracle, entry)
    if below is None:
        return []
    return [f"{'below' if below else 'not clearly below'} the oracle's {number(oracle['value'])}"]
