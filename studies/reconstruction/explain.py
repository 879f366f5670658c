"""Explains a video in readable lines, by its own provenance and by the manifest beside it."""

import os
from pathlib import Path
from typing import Any

from core.clips import read_metadata
from core.errors import Brain2VideoError, SourceError
from core.files import digest_file, read_json
from models.registry.client import local_database
from models.registry.production import aliased
from studies.reconstruction.provenance import MadeFrom, Provenance, read_provenance
from studies.runs import MANIFEST

Lines = list[tuple[str, str]]
AS_WRITTEN = "as written"
SHORT = 12


def explain(video: Path) -> Lines:
    """Return what a video was made from, one (what, value) a line, in the order in which a person asks.

    Whether its models are in production now is reported where the registry answers; nothing depends on it.

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, no video, or carries no provenance.
    """
    provenance = read_provenance(video)
    lines = [
        ("title", read_metadata(video).get("title", provenance.title)),
        ("study", provenance.study),
        ("stimulus", provenance.stimulus),
    ]
    if provenance.made_from is None:
        lines.append(("shows", "what was seen"))
    else:
        try:
            lines += _reconstructed(provenance, provenance.made_from)
        except (KeyError, TypeError) as error:
            raise SourceError(
                f"{video}, provenance: its inputs and its study do not fit ({error}); it was changed, take the video "
                "as it was written"
            ) from error
    return [*lines, ("git commit", provenance.git_commit), ("file", written_as(video))]


def _reconstructed(provenance: Provenance, origin: MadeFrom) -> Lines:
    """Return the lines on a reconstruction."""
    kind = "file" if origin.input.kind == "file" else "stored"
    machine = origin.machine
    threads = f"{machine.threads} threads, {machine.blas_threads} of BLAS"
    versions = f"torch {machine.torch}, numpy {machine.numpy}, av {machine.av}"
    return [
        ("subject", origin.subject),
        ("caption", provenance.caption or "none decoded"),
        ("responses", f"{origin.input.name} ({kind}, {origin.input.digest[:SHORT]})"),
        ("regions", ", ".join(origin.rois) if origin.rois else "all voxels"),
        *_models(provenance.study, origin),
        *_targets(provenance, origin),
        ("generator", _generator(origin)),
        ("captioner", _with_revision(_kind(origin.captioner), origin.captioner_revision)),
        ("seed", str(origin.seed)),
        ("rendered with", ", ".join(provenance.rendered_with) or "by itself"),
        ("machine", f"{machine.gpu or machine.processor}, {threads}; {versions}"),
        ("code", origin.code[:SHORT]),
    ]


def _models(study: str, origin: MadeFrom) -> Lines:
    production = _production(study, list(origin.models.versions))
    lines = []
    for part, number in origin.models.versions.items():
        digest = origin.models.digests.get(part, "digest unknown")[:SHORT]
        state = "" if production is None else _state(number, production[part])
        lines.append((part, f"v{number} ({digest}){state}"))
    return lines


def _state(number: int, production: int | None) -> str:
    if production == number:
        return ", in production"
    return f", not in production, which is {'empty' if production is None else f'v{production}'}"


def _production(study: str, parts: list[str]) -> dict[str, int | None] | None:
    """Return the version of each part that is in production, or None where the registry does not answer."""
    database = local_database(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if database is not None and not database.exists():
        return None  # looking must not set one up
    try:
        versions = aliased(study, parts)
    except Brain2VideoError:
        return None
    return {part: int(version.version) if version else None for part, version in versions.items()}


def _targets(provenance: Provenance, origin: MadeFrom) -> Lines:
    lines = []
    for role, digest in origin.targets.items():
        name = provenance.config["roles"][role]
        extractor, revision = provenance.config["targets"][name]["extractor"], origin.extractors[name]
        lines.append((f"target of {role}", f"{name} ({digest[:SHORT]}) by {extractor}, revision {revision[:SHORT]}"))
    return lines


def _generator(origin: MadeFrom) -> str:
    if origin.generator is None:
        return "none: z is decoded directly"
    known = [f"{key} {origin.generator[key]}" for key in ("strength", "steps", "guidance") if key in origin.generator]
    return _with_revision(", ".join(known), origin.generator_revision)


def _kind(settings: dict[str, Any] | None) -> str:
    return "none" if settings is None else str(settings.get("kind", "unknown"))


def _with_revision(text: str, revision: str | None) -> str:
    return text if revision in (None, text) else f"{text} (weights {str(revision)[:SHORT]})"


def run_folder(video: Path) -> Path:
    """Return the folder of the run that a video would be of: the one above its own."""
    return video.parent.resolve().parent


def written_as(video: Path) -> str:
    """Return whether a file has the bytes that the manifest of its run recorded, in words."""
    try:
        digest = read_json(run_folder(video) / MANIFEST)["files"][f"{video.parent.resolve().name}/{video.name}"]
    except FileNotFoundError:
        return "no manifest beside it"
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return "its manifest does not list it"
    return AS_WRITTEN if digest_file(video) == digest else "differs from its manifest"
