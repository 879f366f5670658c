"""What a study costs as it grows, by subject, voxel, clip and worker: ``python benchmarks/scale.py [--quick]``.

Every stage is run at growing sizes, in processes of its own whose peak of memory is read at their end; medians of
repeated runs. How each grows is fitted (`studies.planning.rates.fit_growth`), the rates of `brain2video plan` are drawn
from it, and the plan is checked: it predicts runs larger than those it was fitted on, which are then made.
``--write FILE`` keeps the rates (`benchmarks/rates.json` is what the project ships; `.state/rates.json` are your own,
which the plan then goes by), ``--picture FILE`` the chart.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _scale_runs import ROOT, run_child
from _scale_sizes import FULL, QUICK

if TYPE_CHECKING:
    from _scale_bench import Bench

    from studies.planning.rates import Rates


def main() -> None:
    """Measure, fit, predict, run what was predicted, and show what it says of 10, 100 and 1,000 subjects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, two minutes; rates are rough")
    parser.add_argument("--rounds", type=int, help="runs of every size, of which the median counts; 3, quick 1")
    parser.add_argument("--write", type=Path, help="keep the rates in this file", metavar="FILE")
    parser.add_argument("--picture", type=Path, help="draw the growth into this PNG", metavar="FILE")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        run_child(json.loads(given.child))
        return
    from _scale_bench import Bench

    temporary = ROOT / ".state" / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="scale-", dir=temporary) as folder:
        sizes = QUICK if given.quick else FULL
        bench = Bench(Path(folder), replace(sizes, rounds=given.rounds or sizes.rounds))
        bench.measure()
        rates = bench.rates()
        show_growth(rates)
        show_memory(rates, bench)
        show_checks(bench.check(rates))
    show_scales(rates)
    if given.write is not None:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text(f"{json.dumps(rounded(rates.model_dump(mode='json')), indent=1)}\n", encoding="utf-8")
        print(f"rates: {given.write}")
    if given.picture is not None:
        from _scale_picture import growth_png

        given.picture.write_bytes(growth_png(rates))
        print(f"picture: {given.picture}")
    print(f"measured in {time.perf_counter() - started:.0f} s")


def rounded(value: Any) -> Any:
    """Return numbers with four digits: more were not measured."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def show_growth(rates: "Rates") -> None:
    """Print how every stage grows."""
    from rich.table import Table

    table = Table(title="growth: medians of repeated runs, seconds", title_justify="left")
    for name in ("", "sizes", "seconds", "exponent", "line: constant + slope", "nearer"):
        table.add_column(name)
    for one in rates.growth:
        line = f"{one.constant:.3g} + {one.slope:.3g} · {one.unit}"
        sizes, times = (" ".join(f"{x:.3g}" for x in values) for values in (one.sizes, one.seconds))
        table.add_row(one.of, sizes, times, f"{one.exponent:.2f} ± {one.error:.2f}", line, one.better)
    show(table)


def show_memory(rates: "Rates", bench: "Bench") -> None:
    """Print the peaks, and their slope in MB a subject."""
    from rich.table import Table

    table = Table(title="peak memory of a process (VmHWM), MB", title_justify="left")
    for name in ("", *(f"size {number + 1}" for number in range(4)), "slope"):
        table.add_column(name, justify="right" if name else "left")
    for name, peaks in bench.peaks.items():
        per = name.partition(" over ")[2].rstrip("s")
        ends = (bench.sizes.clips[0], bench.sizes.clips[-1])
        at = ends if per == "clip" else bench.sizes.subjects
        slope = f"{np.polyfit(at, peaks, 1)[0] / 1e6:+.2f} MB a {per}" if len(peaks) > 1 else ""
        table.add_row(name, *(f"{peak / 1e6:,.0f}" for peak in peaks), *[""] * (4 - len(peaks)), slope)
    show(table)
    if rates.two_workers is not None:
        print(f"two workers extract {rates.two_workers:.2f} times as fast as one")


def show_checks(checks: list[tuple[str, float, float]]) -> None:
    """Print what was predicted beside what was then measured."""
    from rich.table import Table

    table = Table(title="the plan, checked on larger runs than it was fitted on, seconds", title_justify="left")
    for name in ("", "predicted", "measured", "ratio"):
        table.add_column(name, justify="right" if name else "left")
    for what, predicted, measured in checks:
        table.add_row(what, f"{predicted:.2f}", f"{measured:.2f}", f"{measured / predicted:.2f}")
    show(table)


def show_scales(rates: "Rates") -> None:
    """Print what BOLD Moments with 10, 100 and 1,000 subjects would take, as `brain2video plan` does."""
    from brain2video.cli.tables.plan import scales_table
    from studies.planning.plan import plan
    from studies.planning.rates import Found
    from studies.study import load_study

    whole = ("source.responses=MNI152", "source.rois=null")
    for what, overrides in (("by region", ()), ("whole brains", whole)):
        study = load_study(ROOT / "configs" / "bold_moments.yaml", overrides)
        made = plan(study, found=Found(rates, "measured now"), subjects=(10, 100, 1000))
        table = scales_table(made)
        table.title = f"BOLD Moments, {what}, with so many subjects (~ estimated, never run by us)"
        show(table)


def show(table: Any) -> None:
    """Print a table as wide as it needs."""
    from rich.console import Console

    Console(width=150).print(table)


if __name__ == "__main__":
    main()
