"""One honest sentence from a report: above a control only where a paired permutation test says so."""

from collections.abc import Mapping
from typing import Any

from evaluation.report.wording import metric_label, number, ordered_metrics, row_label, space_label
from evaluation.statistics.scores import CONTROLS, MEAN, ORACLE, RECONSTRUCTION, SHUFFLED

ALPHA = 0.05
"""A reconstruction counts as above a control below this p."""
ALWAYS = (SHUFFLED, MEAN)
"""Controls whose absence is said."""
Entry = Mapping[str, Any]


def headline(rows: Mapping[str, Mapping[str, Entry]]) -> str | None:
    """Return the metric a reader is told of first: two-way identification of pixels, else of any space, else any."""
    names = ordered_metrics(rows.get(RECONSTRUCTION, {}))
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

    A reconstruction is above a control where the paired permutation test over test clips says so (p < .05, one-sided);
    in a report without comparisons, where the two intervals do not overlap. One that is not above the shuffled brain
    may owe everything to the generator, and the sentence begins with that.

    Parameters
    ----------
    report : dict
        What `metrics.json` holds.
    name : str, optional
        The `space.metric` to speak of; by default see `headline`.

    Returns
    -------
    str
        For example "Reconstructions are identified .93 of the time (pixels, two-way; chance .50): above the shuffled
        brain and the mean predictor (p < .001), below the oracle's .99."
    """
    rows = report["rows"]
    name = name or headline(rows)
    entry = rows.get(RECONSTRUCTION, {}).get(name)
    if name is None or entry is None:
        return "Nothing was reconstructed, so there is nothing to judge."
    if entry["value"] is None:
        return f"Reconstructions have no score ({metric_label(name)}): {_why_none(entry)}."
    tests = {control: found[name] for control, found in report.get("comparisons", {}).items() if name in found}
    shuffled = tests.get(SHUFFLED, {}).get("p")
    if shuffled is not None and shuffled >= ALPHA:
        return _not_above_the_prior(rows, name, entry, shuffled)
    said = _against_controls(rows, name, entry, tests)
    clauses = [*said, *_against_oracle(rows, name, entry)]
    return f"Reconstructions {_score(name, entry)}{': ' if clauses else ''}{', '.join(clauses)}."


def _not_above_the_prior(rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry, p: float) -> str:
    other = number(rows[SHUFFLED][name]["value"])
    score = f"they {_score(name, entry)}, the shuffled brain {other} ({p_words(p)})"
    return f"Reconstructions are not above the generator's prior: {score}."


def p_words(p: float) -> str:
    """Write a p-value as papers do: "p < .001", "p = .012", "p = .43"."""
    if p < 0.001:
        return "p < .001"
    digits = 3 if p < 0.1 else 2
    return f"p = {f'{p:.{digits}f}'.removeprefix('0')}"


def _why_none(entry: Entry) -> str:
    undefined = entry.get("undefined")
    return f"{undefined} of them are not finite or have no other to be told from" if undefined else "none was scored"


def _score(name: str, entry: Entry) -> str:
    space = space_label(name.rpartition(".")[0])
    chance = "" if entry["chance"] is None else f"; chance {number(entry['chance'])}"
    if name.endswith(".two_way"):
        return f"are identified {_share(entry['value'])} of the time ({space}, two-way{chance})"
    return f"score {number(entry['value'])} ({metric_label(name)}{chance})"


def _against_controls(
    rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry, tests: Mapping[str, Entry]
) -> list[str]:
    """Return "above the A and the B", "not above the C", and what was not run or cannot be said."""
    found: dict[bool | None, list[str]] = {}
    highest = -1.0
    for row in (row for row in CONTROLS if rows.get(row, {}).get(name) is not None):
        p = tests.get(row, {}).get("p")
        answer = is_above(entry, rows[row][name]) if row not in tests else None if p is None else p < ALPHA
        found.setdefault(answer, []).append(f"the {row_label(row)}")
        highest = max(highest, p) if answer and p is not None else highest
    wording = {True: "above", False: "not above", None: "with too few clips to compare with"}
    said = [f"{wording[answer]} {_listed(found[answer], answer)}" for answer in (True, False, None) if answer in found]
    if True in found and highest >= 0:
        said[0] += f" ({p_words(highest)})"
    if True in found and False in found:
        said = [" but ".join(said[:2]), *said[2:]]
    return said + [f"no {row_label(row)} was run" for row in ALWAYS if name not in rows.get(row, {})]


def _listed(names: list[str], answer: bool | None) -> str:
    *first, last = names
    joined = ", ".join(first)
    return f"{joined} {'or' if answer is False else 'and'} {last}" if first else last


def _share(value: float) -> str:
    """Write a share; one that is not quite all is not written as all of them."""
    return number(value, 3) if 0.995 <= value < 1 else number(value)


def _against_oracle(rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry) -> list[str]:
    oracle = rows.get(ORACLE, {}).get(name)
    if oracle is None or oracle["value"] is None:
        return []
    below = is_above(oracle, entry)
    if below is None:
        return []
    return [f"{'below' if below else 'not clearly below'} the oracle's {number(oracle['value'])}"]
