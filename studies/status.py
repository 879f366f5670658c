"""What a study has: its stores and their version control, its runs, what is in production."""

from dataclasses import dataclass

from core.errors import Brain2VideoError
from core.files import read_json
from feature_store import versioning
from feature_store.manifest import read_manifest
from feature_store.reader import Store
from studies.home import home, shown
from studies.study import Study


@dataclass(frozen=True)
class Line:
    """One line of the status: what, its state in a word or two, and a detail."""

    what: str
    state: str
    detail: str


def stores_status(study: Study) -> list[Line]:
    """Return one line per group of the study's store."""
    try:
        store = Store(study.store)
    except Brain2VideoError as error:
        return [Line(shown(study.store), "absent", str(error))]
    groups = [store.path / kind / name for kind in ("responses", "targets") for name in store.names(kind)]
    states = versioning.states(home(), groups)
    return [
        Line(f"{group.parent.name}/{group.name}", states[group], read_manifest(group).digest[:12]) for group in groups
    ]


def remotes_status() -> list[Line]:
    """Return one line per DVC remote that does not verify what it hands back."""
    return [
        Line(f"remote {name}", "not verified", f"run 'dvc remote modify {name} verify true'")
        for name in versioning.unverified_remotes(home())
    ]


def runs_status(study: Study) -> list[Line]:
    """Return one line for the latest training and one for the latest reconstruction."""
    lines = []
    for what, folder, record in (
        ("training", study.outputs / "training" / "latest", "training.json"),
        ("reconstruction", study.outputs / "latest", "manifest.json"),
    ):
        file = folder / record
        if file.is_file():
            lines.append(Line(what, folder.resolve().name, f"commit {read_json(file)['git_commit'][:12]}"))
        else:
            lines.append(Line(what, "none", f"run 'brain2video {'train' if what == 'training' else 'reconstruct'}'"))
    return lines


def production_status(study: Study) -> Line:
    """Return which versions are in production, or why there are none."""
    from models.registry.production import resolve

    try:
        chosen = resolve(study.study, study.parts)
    except Brain2VideoError as error:
        return Line("production", "none", str(error))
    return Line("production", str(chosen), f"training {chosen.run}")
