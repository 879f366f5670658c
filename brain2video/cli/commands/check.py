"""The command that finds what would stop a study, before anything of it is started."""

import typer

from brain2video.cli.options import StudyOptions


def check(study: StudyOptions) -> None:
    """Check everything that can be known beforehand, and show what will be used; exit with 2 where there is a fault."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.drawing import print_notes, show_facts, show_findings
    from studies.status.check import check as look

    chosen = study.load()
    with working():
        checked = look(chosen, study.config)
    if not checked.problems:
        show_facts(chosen.study, checked.facts)
        print_notes(checked.notes)
    show_findings(
        [str(problem) for problem in checked.problems], f"{chosen.study}: nothing that can be known beforehand stops it"
    )
    if checked.problems:
        raise typer.Exit(2)
