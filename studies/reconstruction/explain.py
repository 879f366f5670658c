"""Says in readable lines what a video was made from, by its own metadata and by the manifest beside it."""

import os
from pathlib import Path
from typing import Any

from core.clips import read_metadata
from core.errors import Brain2VideoError, SourceError
from core.files import digest_file, read_json
from models.registry.client import local_database
from models.registry.production import aliased
from studies.reconstruction.provenance import Machine, MadeFrom, Provenance, read_provenance
from studies.runs import MANIFEST

Lines = list[tuple[str, str]]
AS_WRITTEN = "as written"
SHORT = 12


def explain(video: Path) -> Lines:
    """Return what a video was made from, one (what, value) a line, in the order in which a person asks.

    Whether its models are in production now is told where the registry answers; nothing depends on it.

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, no video, or carries no provenance.
    """
    said = read_provenance(video)
    lines = [
        ("title", read_metadata(video).get("title", said.title)),
        ("study", said.study),
        ("stimulus", said.stimulus),
    ]
    if said.made_from is None:
        lines.append(("shows", "what was seen"))
    else:
        try:
            lines += _reconstructed(said, said.made_from)
        except (KeyError, TypeError) as error:
            raise SourceError(
                f"{video}, provenance: what it was made from and its study do not fit ({error}); it was changed, take "
                "the video as it was written"
            ) from error
    return [*lines, ("git commit", said.git_commit), ("file", written_as(video))]


def _reconstructed(said: Provenance, told: MadeFrom) -> Lines:
    """Return the lines on a reconstruction."""
    kind = "file" if told.input.kind == "file" else "stored"
    batch = ", ".join(said.rendered_with) or "by itself"
    return [
        ("subject", told.subject),
        ("caption", said.caption or "none decoded"),
        ("responses", f"{told.input.name} ({kind}, {told.input.digest[:SHORT]})"),
        ("regions", ", ".join(told.rois) if told.rois else "all voxels"),
        *_models(said, told),
        *_targets(said, told),
        ("generator", _generator(told)),
        ("captioner", _with_revision(_kind(told.captioner), told.captioner_revision)),
        ("seed", str(told.seed)),
        ("rendered with", batch),
        ("machine", _machine(told.machine)),
        ("code", told.code[:SHORT]),
    ]


def _models(said: Provenance, told: MadeFrom) -> Lines:
    now = _production(said.study, list(told.models.versions))
    lines = []
    for part, number in told.models.versions.items():
        digest = told.models.digests.get(part, "digest unknown")[:SHORT]
        state = "" if now is None else _state(number, now[part])
        lines.append((part, f"v{number} ({digest}){state}"))
    return lines


def _state(number: int, held: int | None) -> str:
    if held == number:
        return ", in production"
    return ", not in production, which is empty" if held is None else f", not in production, which is v{held}"


def _production(study: str, parts: list[str]) -> dict[str, int | None] | None:
    """Return the version of each part that is in production, or None where the registry does not answer."""
    database = local_database(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if database is not None and not database.exists():
        return None  # looking must not set one up
    try:
        found = aliased(study, parts)
    except Brain2VideoError:
        return None
    return {part: int(version.version) if version else None for part, version in found.items()}


def _targets(said: Provenance, told: MadeFrom) -> Lines:
    lines = []
    for role, digest in told.targets.items():
        name = said.config["roles"][role]
        made_by, revision = said.config["targets"][name]["extractor"], told.extractors[name]
        lines.append((f"target of {role}", f"{name} ({digest[:SHORT]}) by {made_by}, revision {revision[:SHORT]}"))
    return lines


def _generator(told: MadeFrom) -> str:
    if told.generator is None:
        return "none: z is decoded directly"
    known = [f"{key} {told.generator[key]}" for key in ("strength", "steps", "guidance") if key in told.generator]
    return _with_revision(", ".join(known), told.generator_revision)


def _kind(settings: dict[str, Any] | None) -> str:
    return "none" if settings is None else str(settings.get("kind", "unknown"))


def _with_revision(text: str, revision: str | None) -> str:
    return text if revision in (None, text) else f"{text} (weights {str(revision)[:SHORT]})"


def _machine(machine: Machine) -> str:
    where = machine.gpu or machine.processor
    threads = f"{machine.threads} threads, {machine.blas_threads} of BLAS"
    return f"{where}, {threads}; torch {machine.torch}, numpy {machine.numpy}, av {machine.av}"


def run_folder(video: Path) -> Path:
    """Return the folder of the run that a video would be of: the one above its own."""
    return video.parent.resolve().parent


def written_as(video: Path) -> str:
    """Say whether a file has the bytes that the manifest of its run recorded."""
    try:
        told = read_json(run_folder(video) / MANIFEST)["files"][f"{video.parent.resolve().name}/{video.name}"]
    except FileNotFoundError:
        return "no manifest beside it"
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return "its manifest says nothing of it"
    return AS_WRITTEN if digest_file(video) == told else "differs from its manifest"
