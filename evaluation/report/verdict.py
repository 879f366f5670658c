"""The verdict: one to three sentences on what a report shows. The first is the answer, the others what limits it."""

from collections.abc import Mapping
from typing import Any

from evaluation.metrics import metric, metric_names
from evaluation.report.wording import (
    TWO_WAY,
    WITHIN_CLASS,
    Entry,
    Outcome,
    adjusted_p,
    difference,
    headline,
    interval_words,
    is_above,
    metric_label,
    number,
    ordered_metrics,
    ordered_rows,
    outcome,
    p_words,
    row_group,
    row_label,
    row_phrase,
    space_label,
)
from evaluation.statistics.scores import MEAN, NOISE_CEILING, ORACLE, RECONSTRUCTION, SHUFFLED
from evaluation.statistics.spaces import is_centred

ALWAYS = (SHUFFLED, MEAN)
"""Controls whose absence the verdict reports."""
LISTED = 4
"""Controls that are named in one list; of more, the others are counted."""
MARGIN = 0.02
"""The reconstruction counts as equivalent to the oracle where the 95 % interval of their paired difference lies within
this margin, of metrics whose largest value is 1; of others equivalence is never claimed."""
Rows = Mapping[str, Mapping[str, Entry]]


def verdict(report: Mapping[str, Any], name: str | None = None) -> str:
    """Return one to three sentences on what a report shows.

    The metric is `wording.headline`: within class where stimuli have classes. The reconstruction is above a control (or
    below it) only where the interval of the paired difference excludes 0 and the adjusted p of the two-sided test is
    below .05; else it is "not shown to be above". One that is not above the shuffled brain shows nothing that comes
    from the brain, and the sentence begins with that. In a report without paired comparisons, intervals that do not
    overlap decide.

    Where test clips are training clips, the sentence begins with their number, and where all of them are, no control is
    claimed to be beaten: recall would beat it too. A second sentence reports test trials that lie so near to training
    trials in time that autocorrelation may explain the score, a third scores that fall with the distance to training.

    Parameters
    ----------
    report : the content of `metrics.json`, of this or of an older version
    name : a `space.metric`, by default `headline`

    Returns
    -------
    str
        For example "Reconstructions are identified .93 of the time (pixels, two-way; chance .50; 48 clips of one
        subject): above the shuffled brain and the mean predictor (adjusted p < .001), below the oracle's .99 by .060
        [.040, .080]."
    """
    rows = report["rows"]
    name = name or headline(rows)
    entry = rows.get(RECONSTRUCTION, {}).get(name)
    if name is None or entry is None:
        return "Nothing was reconstructed, so there is nothing to judge."
    if entry["value"] is None:
        return f"Reconstructions have no score ({metric_label(name)}): {_why_none(entry)}."
    return " ".join([_answer(report, name, entry), *_time(report), *_distance(report, name)])


def _why_none(entry: Entry) -> str:
    undefined = entry.get("undefined")
    return f"{undefined} of them are not finite or have nothing to be compared with" if undefined else "none was scored"


def _answer(report: Mapping[str, Any], name: str, entry: Entry) -> str:
    rows: Rows = report["rows"]
    tests = {row: tested[name] for row, tested in report.get("comparisons", {}).items() if name in tested}
    n, leaked = int(entry.get("n", report.get("n_test", 0))), leaked_clips(report)
    lead = _leak(leaked, report)
    score = _score(report, name, entry, n)
    if leaked and leaked >= int(report.get("n_test", leaked)):
        return f"{lead}reconstructions {score}, and recall of training clips would be too."
    if _against(SHUFFLED, rows, name, tests) in ("open", "worse"):
        return _capital(f"{lead}reconstructions {_not_above_shuffled(rows, name, score, tests)}.")
    clauses = [*_against_controls(rows, name, tests), *_against_ceilings(rows, name, tests, n)]
    return _capital(f"{lead}reconstructions {score}{': ' if clauses else ''}{', '.join(clauses)}.")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def leaked_clips(report: Mapping[str, Any]) -> int:
    """Return how many test clips a report found in training, under their name or in another file.

    The two checks mostly find the same clips, so the larger count is returned, which may be too low but not too high.
    """
    leaks = (report.get("diagnoses") or {}).get("leaks") or {}
    return max(int((leaks.get(kind) or {}).get("count") or 0) for kind in ("stimuli", "clips"))


def _leak(leaked: int, report: Mapping[str, Any]) -> str:
    if not leaked:
        return ""
    total = report.get("n_test", leaked)
    if leaked >= total:
        clips = "the only test clip is a training clip" if total == 1 else f"all {total} test clips are training clips"
        return _capital(f"{clips}, so nothing is shown about unseen ones: ")
    clips = "clip is a training clip" if leaked == 1 else "clips are training clips"
    return f"{leaked} of {total} test {clips}; with {'it' if leaked == 1 else 'them'}, "


def _score(report: Mapping[str, Any], name: str, entry: Entry, n: int) -> str:
    """Return the score with its metric, chance, number of clips and of subjects."""
    space, _, short = name.rpartition(".")
    remarks = [] if entry["chance"] is None else [f"chance {number(entry['chance'])}"]
    remarks += ["lower is better"] if not entry["higher_is_better"] else []
    remarks += [_sample(report, n) + _in_blocks(entry)] if n else []
    if short == WITHIN_CLASS:
        what = "; ".join([f"{space_label(space)}, two-way", *_among_all(report["rows"], space), *remarks])
        return f"are identified {number(entry['value'])} of the time among clips of their own class ({what})"
    if short == TWO_WAY:
        what = "; ".join([f"{space_label(space)}, two-way", *remarks])
        return f"are identified {number(entry['value'])} of the time ({what})"
    return f"score {number(entry['value'])} ({'; '.join([metric_label(name), *remarks])})"


def _sample(report: Mapping[str, Any], n: int) -> str:
    """Return how many clips and subjects there are: "48 clips of one subject"."""
    clips = f"{n} clip{'' if n == 1 else 's'}"
    together = report.get("group_decoder") or []
    if together:
        return f"{clips} by a group decoder of {len(together)} subjects"
    subjects = report.get("subjects", [report["subject"]] if "subject" in report else [])
    count = subjects if isinstance(subjects, int) else len(subjects)
    of = f" of {'one subject' if count == 1 else f'{count} subjects'}" if count else ""
    return f"{clips}{of}"


def _in_blocks(entry: Entry) -> str:
    """Return the length of the blocks that neighbours in time are counted by, where there are such."""
    length = entry.get("block_length", 1)
    return f" in blocks of {length}" if length > 1 else ""


def _among_all(rows: Rows, space: str) -> list[str]:
    """Return why identification is judged within class: how far the class alone leads among all clips."""
    name = f"{space}.{TWO_WAY}"
    entry, category = (rows.get(row, {}).get(name) for row in (RECONSTRUCTION, "category"))
    if entry is None or entry["value"] is None:
        return []
    known = "knowing the class helps"
    if category is not None and category["value"] is not None:
        known = f"the true class alone reaches {number(category['value'])}"
    return [f"among all clips {number(entry['value'])}, where {known}"]


def _against(row: str, rows: Rows, name: str, tests: Mapping[str, Entry]) -> Outcome | None:
    """Return how the reconstruction compares with a row: by the paired comparison, else by intervals that overlap."""
    if row in tests:
        return outcome(tests[row])
    ours, theirs = rows[RECONSTRUCTION][name], rows.get(row, {}).get(name)
    if theirs is None:
        return None
    above, below = is_above(ours, theirs), is_above(theirs, ours)
    return None if above is None else "better" if above else "worse" if below else "open"


def _words(entry: Entry) -> tuple[str, str]:
    """Return what better and worse are called: of a metric where lower is better, above and below would mislead."""
    return ("above", "below") if entry["higher_is_better"] else ("better than", "worse than")


def _not_above_shuffled(rows: Rows, name: str, score: str, tests: Mapping[str, Entry]) -> str:
    shuffled, tested = rows[SHUFFLED][name], tests.get(SHUFFLED)
    better, worse = _words(shuffled)
    is_worse = _against(SHUFFLED, rows, name, tests) == "worse"
    claim = f"are {worse if is_worse else f'not shown to be {better}'} the shuffled brain"
    detail = f"they {score}, the shuffled brain {number(shuffled['value'])}"
    if tested is not None and tested["value"] is not None:
        detail += f", difference {difference(tested['value'])}{interval_words(tested['ci95'])}, {_p(tested)}"
    return f"{claim}: {detail}"


def _p(tested: Entry) -> str:
    p = adjusted_p(tested)
    return "no p" if p is None else f"{'adjusted ' if 'p_adjusted' in tested else ''}{p_words(p)}"


def _against_controls(rows: Rows, name: str, tests: Mapping[str, Entry]) -> list[str]:
    """Return "above the A and the B", "not shown to be above the C", and the controls without a comparison."""
    scored = [row for row in rows if row != RECONSTRUCTION and row_group(row) == "control" and name in rows[row]]
    first = [row for row in ALWAYS if row in scored]
    found: dict[Outcome | None, list[str]] = {}
    for row in [*first, *(row for row in ordered_rows(scored) if row not in first)]:
        found.setdefault(_against(row, rows, name, tests), []).append(row)
    better, worse = _words(rows[RECONSTRUCTION][name])
    claims = []
    if "better" in found:
        weakest = max((tests[row] for row in found["better"] if row in tests), key=lambda one: adjusted_p(one) or 0.0,
                      default=None)  # fmt: skip
        p = "" if weakest is None else f" ({_p(weakest)})"
        claims.append(f"{better} {_listed(found['better'])}{p}")
    if "open" in found:
        claims.append(f"not shown to be {better} {_listed(found['open'], last='or', every=True)}")
    if "worse" in found:
        claims.append(f"{worse} {_listed(found['worse'], every=True)}")
    if "better" in found and len(claims) > 1:
        claims = [" but ".join(claims[:2]), *claims[2:]]
    missing = [f"with too few clips to compare with {_listed(found[None], every=True)}"] if None in found else []
    return [*claims, *missing, *(f"no {row_label(row)} was run" for row in ALWAYS if name not in rows.get(row, {}))]


def main_metric(scored: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """Return the metric that a target of a training is judged by: the criterion of its routes, less the training mean.

    Parameters
    ----------
    scored : one of its `targets`
    scores : the content of `scores.json`
    """
    names = ordered_metrics(scored["rows"][scored["chosen"] or scored["routes"][0]])
    of_criterion = [name for name in names if name.endswith(f".{scores['selection']['criterion']}")]
    centred = [name for name in of_criterion if is_centred(name.rpartition(".")[0])]
    return next(iter([*centred, *of_criterion, *names]))


def training_verdict(scores: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each target of a training: what its registered route reaches on test stimuli, beside what.

    Parameters
    ----------
    scores : the content of `scores.json`
    """
    sentences = []
    registered = {role: scored for role, scored in scores["targets"].items() if scored["chosen"]}
    for role, scored in registered.items():
        name, rows, tests = main_metric(scored, scores), scored["rows"], scored.get("comparisons", {})
        ours = rows[scored["chosen"]]
        beside = {row: entries for row, entries in rows.items() if row_group(row) == "control"}
        tested = {row: by_metric[name] for row, by_metric in tests.items() if name in by_metric}
        clauses = _against_controls({**beside, RECONSTRUCTION: ours}, name, tested)
        value = f"{metric_label(name)} {number(ours[name]['value'])}{interval_words(ours[name]['ci95'])}"
        sentences.append(f"{role}: {value}, {', '.join(clauses)}.")
    return sentences


def _listed(rows: list[str], *, last: str = "and", every: bool = False) -> str:
    """Return rows as a list in words; beyond `LISTED`, the others are counted unless `every` one is asked for."""
    names = [row_phrase(row) for row in rows]
    if len(names) > LISTED and not every:
        shown = LISTED - 1
        names = [*names[:shown], f"{len(names) - shown} other controls"]
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end


def _against_ceilings(rows: Rows, name: str, tests: Mapping[str, Entry], n: int) -> list[str]:
    """Return how the reconstruction compares with the oracle, and the noise ceiling where it is above it."""
    clauses = []
    oracle = rows.get(ORACLE, {}).get(name)
    if oracle is not None and oracle["value"] is not None:
        clauses = _against_oracle(oracle, rows, name, tests, n)
    ceiling = rows.get(NOISE_CEILING, {}).get(name)
    if ceiling is not None and _against(NOISE_CEILING, rows, name, tests) == "better":
        better, _ = _words(ceiling)
        clauses.append(f"{better} the {row_label(NOISE_CEILING)}'s {number(ceiling['value'])}, which is no bound here")
    return clauses


def _against_oracle(oracle: Entry, rows: Rows, name: str, tests: Mapping[str, Entry], n: int) -> list[str]:
    """Return "below the oracle's .99 by .06 [.04, .08]", that they are equivalent, or that neither is shown."""
    found, tested = _against(ORACLE, rows, name, tests), tests.get(ORACLE)
    value = f"the oracle's {number(oracle['value'])}"
    if found is None:
        return []
    better, worse = _words(oracle)
    if found != "open":
        return [f"{worse if found == 'worse' else better} {value}{_by(tested)}"]
    if tested is not None and tested["value"] == 0 and not any(tested["ci95"]):
        return [f"equal to {value} in every clip"]  # a fact about these clips; such an interval is too narrow to infer
    if tested is not None and is_equivalent(name, tested):
        return [f"not clearly {worse} {value} (within {number(MARGIN)}: {_detail(tested)})"]
    clips = f" with {n} clip{'' if n == 1 else 's'}" if n else ""
    return [f"not told apart from {value}{clips}" + (f" ({_detail(tested)})" if tested is not None else "")]


def _by(tested: Entry | None) -> str:
    """Return " by .06 [.04, .08]", the difference without its sign."""
    if tested is None or tested["value"] is None or None in tested["ci95"]:
        return ""
    low, high = sorted(abs(bound) for bound in tested["ci95"])
    return f" by {difference(abs(tested['value']))}{interval_words((low, high))}"


def _detail(tested: Entry) -> str:
    return f"difference {difference(tested['value'])}{interval_words(tested['ci95'])}"


def is_equivalent(name: str, tested: Entry) -> bool:
    """Return whether a paired difference is shown to be at most `MARGIN` either way: its interval lies within it.

    The test by inclusion of the interval (Westlake 1976, *Biometrics* 32:741; Schuirmann 1987, *Journal of
    Pharmacokinetics and Biopharmaceutics* 15:657); with a 95 % interval its level is 2.5 %.
    """
    short = name.rpartition(".")[2]
    if short not in metric_names() or metric(short).span[1] != 1.0 or None in tested["ci95"]:
        return False
    low, high = tested["ci95"]
    return bool(low >= -MARGIN and high <= MARGIN)


def _time(report: Mapping[str, Any]) -> list[str]:
    """Return the sentence on test trials that lie too near to training trials in time, where there are such."""
    time = (report.get("diagnoses") or {}).get("time") or {}
    if not time.get("dense"):
        return []
    return [f"{time_words(time)}, so the score cannot be told from autocorrelation in time."]


def time_words(time: Mapping[str, Any]) -> str:
    """Return how many test trials lie near training trials: "40 of 48 test trials lie within 8 s of a training …"."""
    count, of = time["count"], time["of"]
    lie = "trial lies" if of == 1 else "trials lie"
    return f"{count} of {of} test {lie} within {time['within_s']:g} s of a training trial of the same run or movie"


def _distance(report: Mapping[str, Any], name: str) -> list[str]:
    """Return the sentence on scores that fall with the distance to training, where they clearly do."""
    by_metric = ((report.get("diagnoses") or {}).get("distance") or {}).get("metrics") or {}
    split = by_metric.get(name) or {}
    relation = split.get("rank_correlation") or {"ci95": [None, None]}
    high = relation["ci95"][1]
    if high is None or high >= 0:
        return []
    low = relation["ci95"][0]
    text = "Scores get worse with the distance to the training clips, as in recall: rank correlation "
    text += f"{number(relation['value'])} [{number(low)}, {number(high)}]"
    far = next((part for part in split.get("parts", []) if part["name"] == "far" and part["value"] is not None), None)
    return [text + ("." if far is None else f", the far third {number(far['value'])}{_bounds(far)}.")]


def _bounds(entry: Entry) -> str:
    low, high = entry["ci95"]
    return "" if low is None or high is None else f" [{number(low)}, {number(high)}]"
