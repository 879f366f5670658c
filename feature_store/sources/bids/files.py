"""Finds a BIDS folder's files: its runs in their order, and for each its events, sidecars, confounds and brain mask.

File names are read as the Brain Imaging Data Structure has them (Gorgolewski et al. 2016): ``sub-01_task-movie_bold``
is a row of entities and a suffix. Events and sidecars may lie above the run, by the inheritance principle.

Subject, session, task and the run's number make a run. Files that differ in other entities alone, such as ``rec`` or
``echo``, are of one run: taken for several, each would be counted as a repetition.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from core.config import nearest
from core.errors import SourceError, SourceMissing
from feature_store.sources.tsv import entities_of, label_of, natural, visible

DERIVED = {"space", "res", "den", "cohort", "desc", "label", "hemi", "seg"}
"""Entities that preprocessing adds to a run's name."""
ACQUIRED = ("acq", "ce", "dir")
"""Entities in which one run's files differ, unless several of their labels are asked for: then each is a run."""
RUN = ("sub", "ses", "task", "run")
"""Entities that make a run."""
NONE = "none"
"""The label that asks for the files whose names lack an entity."""
SETTINGS = {"task": "source.task", "ses": "source.sessions", "space": "source.space", "desc": "source.desc"}
"""The settings that choose by an entity; `source.entities` chooses by any other."""
CONFOUNDS = ("_timeseries.tsv", "_regressors.tsv")
"""How confound tables end; fMRIPrep used the second until version 20.1."""

Named = dict[Path, dict[str, str]]
"""Files, each with its entities."""


@dataclass(frozen=True)
class Run:
    """One run of one subject, with the files that belong to it."""

    image: Path
    entities: dict[str, str]
    """The image's, for example ``{"sub": "01", "task": "movie", "run": "2"}``."""
    events: Path | None
    sidecars: tuple[Path, ...]
    """JSON files that describe the image, the most general first; later ones take precedence."""
    confounds: Path | None
    mask: Path | None
    """The brain mask beside the image."""
    variant: str = ""
    """What tells it from other runs of its task and number, such as ``"_dir-AP"``; see `ACQUIRED`."""

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
    """A raw BIDS folder and which of its images are meant; labels are as `label_of` writes them."""

    root: Path
    images: Path
    """The folder of the images: `root`, or one of preprocessed runs."""
    wanted: dict[str, list[str]]
    """Per entity the labels that are meant, `NONE` for its absence; an entity that is absent here may have any."""

    def subjects(self) -> list[str]:
        """Return the subjects that have a folder, as ``sub-01``; raises `SourceMissing` where there is none."""
        for folder, key in ((self.root, "source.path"), (self.images, "source.derivatives")):
            if not folder.is_dir():
                raise SourceMissing(f"{folder}: no such folder; set {key} to a BIDS folder, which has sub-…")
        there = sorted((path.name for path in self.images.glob("sub-*") if path.is_dir()), key=natural)
        if not there:
            raise SourceMissing(f"{self.images}: no subject; expected BIDS folders such as sub-01; set source.path")
        return there

    def runs(self, subject: str) -> list[Run]:
        """Return a subject's runs, ordered by session, task and the run's number.

        Raises `SourceError` where there is no run, none of a label that is wanted, two images of one run, a run without
        an image of the labels that are wanted, or a file that lies in another's folder.
        """
        where = self.images / subject
        folders = self._folders(self.images, subject)
        images = [path for folder in folders for path in visible(folder.glob("*_bold.nii*")) if _is_image(path)]
        if not images:
            others = [path for folder in folders for path in visible(folder.glob("*.nii")) if is_cifti(path)]
            found = f"found {others[0].name}, a CIFTI file, which is not read" if others else "no BOLD run"
            raise SourceMissing(f"{where}: {found}; expected func/{subject}_task-…_bold.nii.gz")
        named = {path: entities_of(path) for path in images}
        for path, entities in named.items():
            _check_folder(path, entities, subject)
        for entity in (*RUN, *ACQUIRED):
            named = self._chosen(named, entity, where)
        whole = named
        for entity in (entity for entity in self.wanted if entity not in (*RUN, *ACQUIRED)):
            named = self._chosen(named, entity, where)
        self._check_none_lost(whole, named)
        self._check_one_image_each(named)
        return sorted((self._run(path, entities) for path, entities in named.items()), key=_order)

    def unread_events(self, subject: str, runs: Iterable[Run]) -> list[Path]:
        """Return the tables of events in a subject's own folders that are of wanted runs and apply to no image."""
        used = {run.events for run in runs}
        tables = [file for folder in self._folders(self.root, subject) for file in visible(folder.glob("*_events.tsv"))]
        others = {file: entities_of(file) for file in tables if file not in used}
        return [
            file
            for file, entities in others.items()
            if all(entities[entity] in labels for entity, labels in self.wanted.items() if entity in entities)
            and not any(entities.items() <= run.entities.items() for run in runs)
        ]

    def _folders(self, root: Path, subject: str) -> list[Path]:
        return sorted([root / subject / "func", *(root / subject).glob("ses-*/func")])

    def _run(self, image: Path, entities: dict[str, str]) -> Run:
        folder = self.root / image.parent.relative_to(self.images)
        raw = {name: label for name, label in entities.items() if name not in DERIVED}
        # Tables and masks of several echoes, or of magnitude and phase, are one, and so lack these entities.
        joint = [{name: label for name, label in of.items() if name not in ("echo", "part")} for of in (raw, entities)]
        events = inherited(self.root, folder, "events.tsv", raw)
        _check_nearest(events, image)
        sidecars = inherited(self.root, folder, "bold.json", raw)
        if self.images != self.root:
            sidecars += inherited(self.images, image.parent, "bold.json", entities)
        tables = [names | {"desc": "confounds"} for names in (raw, joint[0])]
        masks = [names | {"desc": "brain"} for names in (entities, joint[1])]
        return Run(
            image=image,
            entities=entities,
            events=events[-1] if events else None,
            sidecars=tuple(sidecars),
            confounds=_beside(image, tables, lambda path: path.name.endswith(CONFOUNDS)),
            mask=_beside(image, masks, _is_mask),
            variant="".join(f"_{name}-{entities.get(name, NONE)}" for name in self._kinds()),
        )

    def _kinds(self) -> list[str]:
        """Return the entities of `ACQUIRED` whose labels are runs of their own: several are asked for by name."""
        return [name for name in ACQUIRED if len(self.wanted.get(name, [])) > 1]

    def _key(self, entities: dict[str, str]) -> tuple[str, ...]:
        own = [entities.get(name, NONE) for name in (*RUN[:-1], *self._kinds())]
        return (*own, entities.get("run", "1"))

    def _chosen(self, named: Named, entity: str, where: Path) -> Named:
        """Return the files that have one of the wanted labels of an entity."""
        labels = self.wanted.get(entity)
        if labels is None:
            return named
        there = sorted({names[entity] for names in named.values() if entity in names}, key=natural)
        for label in labels:
            if label not in there and label != NONE:
                known = nearest(label, there) or f"; no file's name has {entity}-"
                raise SourceMissing(f"{where}: no BOLD run with {entity}-{label}{known}")
        chosen = {path: names for path, names in named.items() if names.get(entity, NONE) in labels}
        if not chosen:
            raise SourceMissing(f"{where}: no BOLD run without {entity}-{nearest(NONE, there)}; fix {_setting(entity)}")
        return chosen

    def _check_none_lost(self, whole: Named, chosen: Named) -> None:
        """Raise `SourceError` where a run is there, but none of its images has the labels that are wanted."""
        kept = {self._key(names) for names in chosen.values()}
        for path, names in sorted(whole.items()):
            if self._key(names) in kept:
                continue
            lacking = [
                f"{_setting(entity)} {' or '.join(labels)}"
                for entity, labels in self.wanted.items()
                if entity not in (*RUN, *ACQUIRED) and names.get(entity, NONE) not in labels
            ]
            raise SourceError(
                f"{path}: of this run no image has {' and '.join(lacking)}, as of other runs; preprocess it alike, or "
                "leave the run out with source.task, source.sessions or source.entities.run"
            )

    def _check_one_image_each(self, named: Named) -> None:
        seen: dict[tuple[str, ...], Path] = {}
        for path, names in sorted(named.items()):
            first = seen.setdefault(self._key(names), path)
            if first == path:
                continue
            other, differing = named[first], []
            for entity in sorted(names.keys() | other.keys()):
                if names.get(entity, NONE) != other.get(entity, NONE) and entity != "run":
                    differing.append(_choice(entity, other, names))
            choose = f"choose with {', or with '.join(differing)}" if differing else "move one away"
            raise SourceError(f"{path}: is of the same run as {first.name}; one image a run is expected; {choose}")


def _setting(entity: str) -> str:
    return SETTINGS.get(entity, f"source.entities.{entity}")


def _choice(entity: str, one: dict[str, str], other: dict[str, str]) -> str:
    labels = [names.get(entity, NONE) for names in (one, other)]
    several = f", or [{', '.join(labels)}] where these are runs of their own" if entity in ACQUIRED else ""
    return f"{_setting(entity)}: {labels[0]} or {labels[1]}{several}"


def _check_folder(path: Path, entities: dict[str, str], subject: str) -> None:
    """Raise `SourceError` where an image's name says another subject or session than its folder."""
    session = path.parent.parent.name
    folders = {"sub": subject} | ({"ses": session} if session != subject else {})
    for entity, folder in folders.items():
        if f"{entity}-{entities.get(entity)}" != folder:
            found = f"{entity}-{entities[entity]}" if entity in entities else f"no {entity}-"
            raise SourceError(f"{path}: its name has {found}, its folder is {folder}; rename it, or move it away")


def inherited(root: Path, folder: Path, ending: str, entities: dict[str, str]) -> list[Path]:
    """Return the files that apply to a run by inheritance, the most general first.

    A file applies if it lies in the run's folder or above it, up to `root`, and each of its entities is one of the
    run's. The ending is suffix and extension, for example ``"events.tsv"``.

    Raises `SourceError` where two files of one folder have the same entities, such as ``run-1`` and ``run-01``.
    """
    levels = [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]
    found: list[Path] = []
    for level in reversed(levels):
        here = visible(path for path in level.glob(f"*{ending}") if path.name.split("_")[-1] == ending)
        applies = {path: names for path in here if (names := entities_of(path)).items() <= entities.items()}
        ordered = sorted(applies, key=lambda path: len(applies[path]))
        for path, after in pairwise(ordered):
            if applies[path] == applies[after]:
                raise SourceError(f"{after}: applies to the same runs as {path.name}; move one of them away")
        found += ordered
    return found


def _check_nearest(events: list[Path], image: Path) -> None:
    """Raise `SourceError` where two tables of one folder apply to a run, and neither is the more special one."""
    if len(events) > 1 and events[-1].parent == events[-2].parent:
        more, less = (entities_of(path).items() for path in (events[-1], events[-2]))
        if not less <= more:
            raise SourceError(
                f"{events[-1]}: applies to {image.name}, as does {events[-2].name}; move one of them away, or name the "
                "run's entities in it"
            )


def is_nifti(path: Path) -> bool:
    """Return whether a name is that of a NIfTI file; CIFTI's ``.dtseries.nii`` is another format."""
    return path.name.split(".")[1:] in (["nii"], ["nii", "gz"])


def _is_image(path: Path) -> bool:
    """Return whether a name that ends as a BOLD image's is one; raises `SourceError` for one with a dot too many."""
    if not is_nifti(path) and path.name.endswith((".nii", ".nii.gz")):
        raise SourceError(f"{path}: its name has a dot before its ending; BIDS has none in its entities; rename it")
    return is_nifti(path)


def is_cifti(path: Path) -> bool:
    """Return whether a name is that of a CIFTI-2 file, such as ``x.dtseries.nii``, whose values lie on a surface."""
    return re.search(r"\.[dp](conn|label|scalar|series|tseries|pconn)\.nii$", path.name.lower()) is not None


def bare(labels: Iterable[str], entity: str) -> list[str]:
    """Return labels as `label_of` writes them: ``sub-01`` and ``01`` are the same, and so are ``run-01`` and ``1``."""
    return [label_of(entity, label) for label in labels]


def _order(run: Run) -> tuple[list[str | int], list[str | int], int, str]:
    return natural(run.session), natural(run.task), run.number, run.image.name


def _is_mask(path: Path) -> bool:
    return is_nifti(path) and path.name.split(".")[0].endswith("_mask")


def _beside(image: Path, wanted: list[dict[str, str]], fits: Callable[[Path], bool]) -> Path | None:
    """Return the file in the image's folder that has the first of these entities that any has, such as the run's mask.

    Raises `SourceError` where two files have them.
    """
    there = visible(image.parent.glob(f"*_desc-{wanted[0]['desc']}_*"))
    named = {path: entities_of(path) for path in there if fits(path)}
    for entities in wanted:
        same = [path for path, names in named.items() if names == entities]
        if len(same) > 1:
            raise SourceError(f"{same[1]}: is of the same run as {same[0].name}; one is expected; move one away")
        if same:
            return same[0]
    return None
