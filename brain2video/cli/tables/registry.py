"""Shows how a candidate compares with production."""

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_table

if TYPE_CHECKING:
    from models.registry.sets import ModelSet
    from studies.registry.promote import PromotionDecision


def show_decision(study: str, decision: "PromotionDecision") -> None:
    """Show a candidate beside production, metric by metric, and the outcome by the rules of promotion."""
    beside = f" beside {decision.production}" if decision.production is not None else ""
    title = f"{study}: {decision.candidate} (training {decision.candidate.run}){beside}"
    if decision.rows:
        table = Table(title=f"{title}, {decision.stimuli} held-out training stimuli", title_justify="left")
        for name in ("", "production", "candidate", "difference", "asked for", ""):
            table.add_column(name, justify="right" if name else "left")
        for row in decision.rows:
            difference = f"{row.difference:+.4f} {escape(f'[{row.low:+.4f}, {row.high:+.4f}]')}"
            asked = f"{row.rule.difference:+g} {escape(f'[{row.rule.interval:+g} …]')}"
            passes = "[green]✓[/]" if row.passes else "[red]✗[/]"
            table.add_row(row.name, f"{row.production:.4f}", f"{row.candidate:.4f}", difference, asked, passes)
        print_table(table)
    else:
        print_line("", title)
    print_line(decision.outcome, "; ".join(decision.reasons))


def show_in_production(models: "ModelSet") -> None:
    """Show a model set that is in production."""
    print_line("in production", str(models))
