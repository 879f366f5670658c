"""Scores as the cells of tables: with their interval, with the adjusted p of a comparison, missing."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape


def plain(entry: Mapping[str, Any] | None) -> str:
    """Write a score: ".93", "missing" where it is undefined, nothing where the row has none."""
    from evaluation.report.wording import number

    if entry is None:
        return ""
    missing = f"{entry['undefined']} missing" if entry.get("undefined") else "missing"
    return missing if entry["value"] is None else number(entry["value"])


def with_interval(entry: Mapping[str, Any] | None) -> str:
    """Write a score in bold with its interval beside it: ".93 [.90, .96]"."""
    from evaluation.report.wording import number

    if entry is None:
        return ""
    low, high = entry["ci95"]
    interval = "" if low is None or high is None else escape(f" [{number(low)}, {number(high)}]")
    return f"[bold]{plain(entry)}[/]{interval}"


def in_lines(entry: Mapping[str, Any] | None, compared: Mapping[str, Any] | None = None) -> str:
    """Write a score of three decimals, and below it its interval and the adjusted p of a comparison."""
    from evaluation.report.wording import number

    if entry is None or entry["value"] is None:
        return plain(entry)
    low, high = entry["ci95"]
    interval = "" if low is None or high is None else f"\n[{number(low)}, {number(high)}]"
    return f"[bold]{number(entry['value'], 3)}[/]{escape(interval)}{p_below(compared)}"


def p_below(compared: Mapping[str, Any] | None) -> str:
    """Write the adjusted p of a comparison on a line of its own: "p < .001", "p = .43"."""
    p = adjusted_p_cell(compared)
    return "" if not p else f"\np {p}" if p.startswith("<") else f"\np = {p}"


def adjusted_p_cell(compared: Mapping[str, Any] | None) -> str:
    """Write the adjusted p of a comparison, and "worse" where the reconstruction is: "< .001", ".43", ".002 worse"."""
    from evaluation.report.wording import adjusted_p, outcome, p_words

    p = adjusted_p(compared or {})
    worse = " worse" if outcome(compared) == "worse" else ""
    return "" if p is None else p_words(p).removeprefix("p ").removeprefix("= ") + worse


def column_name(name: str) -> str:
    """Return a metric's name in few words, as the head of a narrow column: "pixels", "two-way"."""
    from evaluation.report.wording import short_label, space_label

    space = space_label(name.rpartition(".")[0])
    return escape(f"{space}\n{short_label(name).removeprefix(space).strip()}")


def heading(name: str) -> str:
    """Return a metric's name as the head of a column: "centred latents,", "correlation", "minus ridge"."""
    from evaluation.report.wording import metric_label

    metric, *more = name.split("\n")
    return escape("\n".join([metric_label(metric).replace(", ", ",\n", 1), *more]))
