"""Finds a BIDS folder's files: its runs in their order, and for each its events, sidecars, confounds and brain mask.

File names are read as the Brain Imaging Data Structure has them (Gorgolewski et al. 2016): ``sub-01_task-movie_bold``
is a row of entities and a suffix. Events and sidecars may lie above the run, by the inheritance principle.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from core.config import nearest
from core.errors import SourceError, SourceMissing

DERIVED = {"space", "res", "den", "cohort", "desc", "label"}
"""Entities that preprocessing adds to a run's name."""
ALTERNATIVES = DERIVED | {"echo", "part"}
"""Entities in which images of one and the same run differ."""
MANY = 10
"""As many names fit into a message."""
CONFOUNDS = ("_timeseries.tsv", "_regressors.tsv")
"""How confound tables end; fMRIPrep used the second until version 20.1."""


@dataclass(frozen=True)
class Run:
    """One run of one subject, with the files that belong to it.

    Attributes
    ----------
    image : the 4-D NIfTI
    entities : the image's entities, for example ``{"sub": "01", "task": "movie", "run": "2"}``
    events : the table of events that applies, or None
    sidecars : JSON files that describe the image, the most general first; later ones take precedence
    confounds : the table of confounds beside the image, or None
    mask : the brain mask beside the image, or None
    """

    image: Path
    entities: dict[str, str]
    events: Path | None
    sidecars: tuple[Path, ...]
    confounds: Path | None
    mask: Path | None

    @property
    def session(self) -> str:
        """The session's label, empty where the dataset has no sessions."""
        return self.entities.get("ses", "")

    @property
    def task(self) -> str:
        """The task's label."""
        return self.entities.get("task", "")

    @property
    def number(self) -> int:
        """The run's number; 1 where its name has none."""
        return int(self.entities.get("run", "1"))


@dataclass(frozen=True)
class Layout:
    """A BIDS folder and which of its images are meant; labels are without ``ses-`` and the like.

    Attributes
    ----------
    root : the folder of the raw dataset
    images : the folder of the images: `root`, or one of preprocessed runs
    wanted : per entity the labels that are meant; an entity that is absent here may have any
    """

    root: Path
    images: Path
    wanted: dict[str, list[str]]

    def subjects(self) -> list[str]:
        """Return the subjects that have a folder, as ``sub-01``.

        Raises
        ------
        SourceMissing
            The folder is absent or has no subject.
        """
        for folder, key in ((self.root, "source.path"), (self.images, "source.derivatives")):
            if not folder.is_dir():
                raise SourceMissing(f"{folder}: no such folder; set {key} to a BIDS folder, which has sub-…")
        there = sorted((path.name for path in self.images.glob("sub-*") if path.is_dir()), key=natural)
        if not there:
            raise SourceMissing(f"{self.images}: no subject; expected BIDS folders such as sub-01; set source.path")
        return there

    def runs(self, subject: str) -> list[Run]:
        """Return a subject's runs, ordered by session, task and the run's number.

        Raises
        ------
        SourceMissing, SourceError
            There is no run, none of a label that is wanted, or two images of one run.
        """
        folders = sorted([self.images / subject / "func", *(self.images / subject).glob("ses-*/func")])
        images = [path for folder in folders for path in folder.glob("*_bold.nii*") if is_nifti(path)]
        if not images:
            raise SourceMissing(f"{self.images / subject}: no BOLD run; expected func/{subject}_task-…_bold.nii.gz")
        named = {path: entities_of(path) for path in images}
        for entity, labels in self.wanted.items():
            named = _chosen(named, entity, labels, self.images / subject)
        _check_one_image_each(named)
        return sorted((self._run(path, names) for path, names in named.items()), key=_order)

    def _run(self, image: Path, entities: dict[str, str]) -> Run:
        folder = self.root / image.parent.relative_to(self.images)
        raw = {name: label for name, label in entities.items() if name not in DERIVED}
        events = inherited(self.root, folder, "events.tsv", raw)
        sidecars = inherited(self.root, folder, "bold.json", raw)
        if self.images != self.root:
            sidecars += inherited(self.images, image.parent, "bold.json", entities)
        return Run(
            image=image,
            entities=entities,
            events=events[-1] if events else None,
            sidecars=tuple(sidecars),
            confounds=_beside(image, raw | {"desc": "confounds"}, lambda path: path.name.endswith(CONFOUNDS)),
            mask=_beside(image, entities | {"desc": "brain"}, _is_mask),
        )


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities of a BIDS file name, in their order.

    Raises
    ------
    SourceError
        A part of the name is no ``key-label``, or the run is no number.
    """
    entities = {}
    for part in path.name.split(".")[0].split("_")[:-1]:
        key, dash, label = part.partition("-")
        if not (key and dash and label):
            raise SourceError(
                f"{path}: '{part}' is no BIDS entity; expected names such as sub-01_task-movie_bold.nii.gz"
            )
        entities[key] = label
    if not entities.get("run", "1").isdecimal():
        raise SourceError(f"{path}: run '{entities['run']}' is no number; BIDS numbers runs, as in run-2; rename it")
    return entities


def inherited(root: Path, folder: Path, ending: str, entities: dict[str, str]) -> list[Path]:
    """Return the files that apply to a run by inheritance, the most general first.

    A file applies if it lies in the run's folder or above it, and each of its entities is one of the run's.

    Parameters
    ----------
    root : Path
        The dataset's folder, where the search ends.
    folder : Path
        The run's folder.
    ending : str
        Suffix and extension, for example ``"events.tsv"``.
    entities : the run's entities
    """
    levels = [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]
    found: list[Path] = []
    for level in reversed(levels):
        here = [path for path in level.glob(f"*{ending}") if path.name.split("_")[-1] == ending]
        applies = {path: names for path in here if (names := entities_of(path)).items() <= entities.items()}
        found += sorted(applies, key=lambda path: len(applies[path]))
    return found


def is_nifti(path: Path) -> bool:
    """Return whether a name is that of a NIfTI file; CIFTI's ``.dtseries.nii`` is another format."""
    return path.name.split(".")[1:] in (["nii"], ["nii", "gz"])


def natural(text: str) -> list[str | int]:
    """Return a sorting key by which ``run-9`` comes before ``run-10``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def hint(name: str, known: list[str]) -> str:
    """Return a clause naming the closest known name, or some of them where none is close and there are many."""
    clause = nearest(name, known)
    if "did you mean" in clause or len(known) <= MANY:
        return clause
    return f"; there are {len(known)}, such as {', '.join(known[:MANY])}"


def bare(labels: Iterable[str], entity: str) -> list[str]:
    """Return labels without their entity: ``sub-01`` and ``01`` are the same."""
    return [label.removeprefix(f"{entity}-") for label in labels]


def _order(run: Run) -> tuple[list[str | int], list[str | int], int, str]:
    return natural(run.session), natural(run.task), run.number, run.image.name


def _chosen(
    named: dict[Path, dict[str, str]], entity: str, labels: list[str], where: Path
) -> dict[Path, dict[str, str]]:
    there = sorted({names[entity] for names in named.values() if entity in names}, key=natural)
    for label in labels:
        if label not in there:
            known = nearest(label, there) or f"; no file's name has {entity}-"
            raise SourceMissing(f"{where}: no BOLD run with {entity}-{label}{known}")
    return {path: names for path, names in named.items() if names.get(entity) in labels}


def _check_one_image_each(named: dict[Path, dict[str, str]]) -> None:
    seen: dict[tuple[tuple[str, str], ...], Path] = {}
    for path, names in sorted(named.items()):
        key = tuple(sorted(item for item in names.items() if item[0] not in ALTERNATIVES))
        if key in seen:
            raise SourceError(
                f"{path}: is of the same run as {seen[key].name}; one image a run is expected; choose with "
                "source.space and source.desc, or move one away"
            )
        seen[key] = path


def _is_mask(path: Path) -> bool:
    return is_nifti(path) and path.name.split(".")[0].endswith("_mask")


def _beside(image: Path, entities: dict[str, str], fits: Callable[[Path], bool]) -> Path | None:
    """Return the file in the image's folder that has these entities, for example the run's mask."""
    for path in sorted(image.parent.glob(f"*_desc-{entities['desc']}_*")):
        if fits(path) and entities_of(path) == entities:
            return path
    return None
