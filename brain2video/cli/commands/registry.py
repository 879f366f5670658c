"""Commands around the registry: promote, look at what is there, serve the UI."""

from typing import TYPE_CHECKING, Annotated

import typer

from brain2video.cli.options import StudyOptions

if TYPE_CHECKING:
    from studies.registry.decision import PromotionDecision


def promote(
    study: StudyOptions,
    run: Annotated[str | None, typer.Option("--run", help="The training run; the newest by default.")] = None,
    version: Annotated[
        list[str] | None,
        typer.Option("--version", help="The training run with this version of a part; repeatable.", metavar="PART=N"),
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Return to what was in production before.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote what mlflow/promotion.yaml would refuse.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the comparison, and change nothing.")] = False,
) -> None:
    """Compare a training run with what is in production, and set the alias `production` on its whole set."""
    from brain2video.cli.launch import launch
    from brain2video.cli.progress import working
    from brain2video.cli.tables.drawing import show_lines
    from brain2video.cli.tables.outcomes import show_decision
    from studies.registry.decision import require_accepted
    from studies.registry.promote import candidate_of, compare_with_production, roll_back
    from studies.status.status import production_status

    chosen = study.load()
    if rollback:
        with working():
            roll_back(chosen)
    elif dry_run:
        with working():
            decision = compare_with_production(chosen, run, part_versions(version or []))
        show_decision(chosen.study, decision)
        return
    else:
        candidate = candidate_of(chosen.study, chosen.parts, run, part_versions(version or []))
        result = launch("promotion", study.config, study.overrides, run=candidate.run, force=force, require=False)
        show_decision(chosen.study, result.decision)
        if not force:
            require_accepted(result.decision)
    show_lines(chosen.study, production_status(chosen))


def show_promotion(study: str, decision: "PromotionDecision") -> None:
    """Show what came of a training run's promotion: that it is in production, or why it is not."""
    from brain2video.cli.tables.outcomes import show_decision, show_in_production

    if decision.outcome != "current":
        show_decision(study, decision)
    if decision.accepted:
        show_in_production(decision.candidate)


def part_versions(named: list[str]) -> dict[str, int]:
    """Read ``encoder=3``; `ConfigError` for anything else."""
    from core.errors import ConfigError

    versions = {}
    for text in named:
        part, equals, number = text.partition("=")
        if not equals or not number.isdecimal():
            raise ConfigError(f"--version {text}: expected PART=N, such as encoder=3")
        versions[part] = int(number)
    return versions


def status(
    study: StudyOptions,
    full: Annotated[bool, typer.Option("--full", help="Hash the sources however large they are.")] = False,
) -> None:
    """Show whether a study's stores are up to date, its runs, what is in production, what is newer or does not fit."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.drawing import show_lines
    from studies.status.status import production_status, remotes_status, runs_status, stores_status

    chosen = study.load()
    with working():
        stores = stores_status(chosen, full=full)
        lines = [*stores, *remotes_status(), *runs_status(chosen), *production_status(chosen)]
    show_lines(chosen.study, lines)


def ui(
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Where to listen, on this machine only.")
    ] = 5000,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not show it in a browser.")] = False,
) -> None:
    """Serve the MLflow UI, where versions are compared and promoted."""
    from brain2video.cli.mlflow_ui import serve

    serve(port, browser=not no_browser)
